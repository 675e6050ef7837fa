"""The judges that `train-unet` needs, and the check of what they were fitted on.

Imports nothing heavy.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import flag_of
from ric.errors import RicError
from ric.models.table import uses
from ric.runs.descriptions import recorded_text_source
from ric.runs.record import read_record
from ric.settings import resolve_config

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ric.config import FitBlipConfig, FitClipConfig, TrainUnetConfig
    from ric.runs.descriptions import Descriptions, TextSource
    from ric.runs.run import RunDir
    from ric.work import Work


# of each judge: its name, the command that fits it, the flag that turns its loss off
JUDGES = {
    "region_clip": ("region", "fit-clip", "--no-region-loss"),
    "scene_blip": ("scene", "fit-blip", "--no-global-loss"),
}


def judge_of(config: TrainUnetConfig, setting: str) -> str | None:
    """Name the judge of a setting, a key of `JUDGES`; None where its loss is off.

    Raises:
        RicError: the loss is on and no judge is named.
    """
    if not uses(config, setting):
        return None
    named: str | None = getattr(config, setting)
    if named is None:
        kind, fit, off = JUDGES[setting]
        raise RicError(
            f"The {kind} loss needs a fitted judge: {flag_of(setting)} RUN.",
            f"Fit one with ric {fit} DATA, or train without that loss: {off}",
        )
    return named


def refuse_conflicting_settings(
    config: FitClipConfig | FitBlipConfig, setting: str, own: Mapping[str, float]
) -> None:
    """Refuse a setting that contradicts the own value of the fitted judge that a fit starts from.

    Args:
        config: The fit's; settings left at their defaults contradict nothing.
        setting: The setting that names the judge: `clip` or `blip`.
        own: The judge's own values, by setting.

    Raises:
        RicError: a setting is neither its default nor the judge's own value.
    """
    usual = resolve_config(type(config), {"data": config.data, "preset": config.preset})
    for name, has in own.items():
        asked = getattr(config, name)
        if asked not in (getattr(usual, name), has):
            flag = flag_of(name)
            raise RicError(
                f"{flag} is {asked:g}, but {getattr(config, setting)} is a fitted judge, whose own"
                f" value is {has:.4g}.",
                f"Omit {flag}, or start from a pretrained model: --{setting} ID",
            )


# settings that the record of a fit holds in every version
FIT_SETTINGS = {"image_size", "data"}


def compare_with_fits(
    config: TrainUnetConfig, work: Work, descriptions: Descriptions | None
) -> None:
    """Compare what each judge was fitted on with what this training shows it.

    Another picture size or other DATA is noted in a line: the paper itself fits at 512 px and
    trains at 256. A judge that does not come from a run cannot be checked.

    Args:
        config: The training's.
        work: DATA; the run it belongs to resolves the judges' names.
        descriptions: The texts that the training uses in place of DATA's own.

    Raises:
        RicError: a judge was fitted on other texts of the same DATA, or its run's record does not
            say on what.
    """
    for setting, (kind, *_) in JUDGES.items():
        name = judge_of(config, setting)
        fit = None if name == "tiny" else _fit_of(name, work.run)
        if fit is None:
            continue
        record = read_record(fit)
        fitted = record["config"]
        if not FIT_SETTINGS.issubset(fitted) or "data" not in record:
            raise RicError(
                f"{fit}/run.json does not say what the judge was fitted on; it is not the record"
                " of a fit.",
                "Fit the judge again, or copy its folder out of the run and name that.",
            )
        if fitted["image_size"] != config.image_size:
            work.progress.note(
                f"the {kind} judge was fitted on pictures of {fitted['image_size']} px and sees"
                f" {config.image_size} px here"
            )
        if record["data"].get("fingerprint") != work.samples.fingerprint:
            work.progress.note(f"the {kind} judge was fitted on {fitted['data']}")
        else:
            column = "scene_text"
            if kind == "region":
                _refuse_other_region_text(fit, fitted, config, work.run)
                column = config.region_text
            if column != "instruction":
                ours = descriptions.source_of(column) if descriptions else None
                theirs = recorded_text_source(fit, record, column)
                _refuse_other_texts(setting, fit, column, theirs, ours)


def _fit_of(name: str | None, run: RunDir) -> Path | None:
    """Find the run of a judge, also where its artifact's folder is named; None if there is none."""
    if name is None:
        return None
    found = run.resolve(name)
    if found is None and (Path(name).parent / "run.json").is_file():
        return Path(name).parent
    return found


def _refuse_other_region_text(
    fit: Path, fitted: Mapping[str, Any], config: TrainUnetConfig, run: RunDir
) -> None:
    theirs = fitted.get("region_text")
    if theirs != config.region_text:
        raise RicError(
            f"The region judge in {fit} was fitted on each sample's {theirs}; {run.path} matches"
            f" regions with its {config.region_text}.",
            f"Use --region-text {theirs}, or fit another judge: ric fit-clip {config.data}"
            f" --region-text {config.region_text}",
        )


def _refuse_other_texts(
    setting: str, fit: Path, column: str, theirs: TextSource | None, ours: TextSource | None
) -> None:
    """Refuse other texts than the fit's; where neither names any, they are DATA's own."""
    kind, command, _ = JUDGES[setting]
    if (theirs and theirs.identity) == (ours and ours.identity):
        return
    in_words = [source.name if source else f"the data's own {column}" for source in (theirs, ours)]
    raise RicError(
        f"The {kind} judge in {fit} was fitted on {in_words[0]}; this training would match"
        f" {kind}s with {in_words[1]}.",
        f"Use the same texts for both: --descriptions {theirs.name}"
        if theirs
        else f"Omit --descriptions, or fit another judge with it: ric {command}",
    )

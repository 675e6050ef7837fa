"""Editors, describers, judges, loss terms and metrics by name: ric's own, and those of other code.

`--editor`, `--describer`, `--judge`, `--loss` and `--metrics` take names of the tables below and of
`ric.metric_table`, `my_file.py:Name`, `package.module:Name`, or a name that an installed package
declares in the entry point group `ric.editors`, `ric.describers`, `ric.losses` or `ric.metrics`. An
editor, a describer or a metric is called with the folder of its model (None where it needs none, as
every metric of your own), the command's config and the device. A judge is a describer whose
`answer` reads prompts, called with the settings of `ric.describers.judge_settings`. Your own
editor, describer or judge gets the model that the command names if it has an attribute
`needs_model = True`. A metric is a `ric.metrics.pair_metric.PairMetric`. A loss term is called with
the pipeline in training, the decoder of the losses, and the config, and returns a
`ric.method.objective.LossTerm`.

Imports nothing heavy: the command line and preflight read this, too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from ric.config import MAGICBRUSH, Preset
from ric.errors import RicError, first_line
from ric.metric_table import (
    BY_NAME_ONLY,
    JUDGED,
    METRICS,
    OF_ANY_PICTURES,
    SET_DISTANCES,
    metric_key,
    metrics_of,
)
from ric.protocols import OF_FEW_SCORES

if TYPE_CHECKING:
    from types import ModuleType

    from ric.config import EvalConfig


NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
NO_DEFAULTS: Mapping[Preset, Mapping[str, Any]] = MappingProxyType({})


class Part(NamedTuple):
    """An editor, a describer, a judge or a loss term.

    Attributes:
        place: `module:name` of its factory.
        model: The command's setting that names the model it loads; "" if it loads none.
        reads: Which of a sample's texts an editor or a describer needs.
        further: Settings that name further models; the factory gets each by that keyword.
        settings: Fields of the command's config that not all of its kind read, with their help:
            flags of the command, refused for those that do not read them.
        defaults: Its own defaults in place of the config's, by preset; flags and a config file win.
    """

    place: str
    model: str = ""
    reads: tuple[str, ...] = ("instruction",)
    further: tuple[str, ...] = ()
    settings: Mapping[str, str] = NO_SETTINGS
    defaults: Mapping[Preset, Mapping[str, Any]] = NO_DEFAULTS


# what several editors read
DENOISING = {
    "steps": "Denoising steps.",
    "guidance": "s_T, the text's guidance scale.",
    "image_size": "The longer side while editing, in pixels.",
    "captions": "A describe run with captions, or for editors that read an instruction with"
    " explicit ones, in place of a dataset's own; again for another one.",
}
INSTRUCTED = {
    "unet": "A train-unet run, or any InstructPix2Pix pipeline.",
    **DENOISING,
    "image_guidance": "s_I, the picture's guidance scale.",
    "scheduler": "A scheduler of diffusers, such as euler or unipc. Default: the editor's own.",
}
CAPTIONED = {
    "text_to_image": "Any text-to-image pipeline.",
    **DENOISING,
    "source_caption": "The pictures' caption, in place of a dataset's own.",
    "target_caption": "The edits' caption, in place of a dataset's own.",
}
CAPTIONS = ("source_text", "target_text")
EDITORS = {
    "ip2p": Part(
        "ric.editors.instruct_pix2pix:InstructPix2Pix.from_config", "unet", settings=INSTRUCTED
    ),
    "magicbrush": Part(
        "ric.editors.instruct_pix2pix:InstructPix2Pix.from_config",
        "unet",
        settings=INSTRUCTED,
        defaults={"paper": {"unet": MAGICBRUSH}},
    ),
    "zone": Part(
        "ric.editors.zone:Zone.from_config",
        "unet",
        further=("unet_magicbrush", "segmenter"),
        settings={
            **INSTRUCTED,
            "unet_magicbrush": "As --unet, for the branch that is mixed in.",
            "segmenter": "Any SAM, SAM 2 or SAM 3; or felzenszwalb, which needs no weights.",
            "zone_attention": "Localise by the instruction's attention, or as released: null.",
            "save_intermediates": "Keep every map of an edit.",
        },
        defaults={"paper": {"steps": 20}},
    ),
    "ddpm-inversion": Part(
        "ric.editors.ddpm_inversion:DdpmInversion.from_config",
        "text_to_image",
        CAPTIONS,
        settings={
            **CAPTIONED,
            "skip": "Noisiest steps to skip; more stays closer to the source.",
            "source_guidance": "Guidance of the inversion.",
            "keep_last_noise": "Use the last noise map.",
        },
        defaults={
            "paper": {"guidance": 15.0},
            "tiny": {"steps": 30, "skip": 11, "guidance": 7.0},
        },
    ),
    "cds": Part(
        "ric.editors.cds:Cds.from_config",
        "text_to_image",
        CAPTIONS,
        settings={
            **CAPTIONED,
            "dds_weight": "Weight of the score's difference.",
            "contrast_weight": "Weight of the contrastive loss; 0 is plain DDS.",
        },
        defaults={
            "paper": {"steps": 200},
            # latents of 16 x 16 have a 16th of 512 px's places, over which the weight is a mean
            "tiny": {"steps": 60, "guidance": 7.5, "dds_weight": 1 / 16},
        },
    ),
    "none": Part("ric.editors.none:NoEdit", reads=()),
}
ASKED = {  # what both describers that answer prompts read
    "model": "DeepSeek-VL2-Tiny, or any of transformers' image-text-to-text models; or what the"
    " server calls its model.",
    "prompt_file": "A prompt of your own; {edit_prompt} in it becomes the instruction.",
    "max_new_tokens": "Longest text in tokens.",
}
DESCRIBERS = {
    "dataset": Part("ric.describers.from_dataset:FromDataset.from_config", reads=()),
    "chat": Part(
        "ric.describers.chat:load_chat",
        "model",
        settings={
            **ASKED,
            "batch_size": "Questions that a model of this machine answers at once.",
            "load_in": "Hold the weights of transformers' models in few bits.",
        },
        defaults={"tiny": {"max_new_tokens": 256}},  # the embedded captioner writes 100
    ),
    "openai": Part(
        "ric.describers.chat:load_server",
        settings={
            **ASKED,
            "base_url": "An OpenAI-compatible server, which gets the pictures:"
            " http://HOST:PORT/v1. Its key is read from OPENAI_API_KEY.",
            "concurrency": "Requests to the server at once.",
            "timeout": "Seconds that the server has for an answer.",
            "sent_pixels": "Larger pictures are scaled down before they are sent.",
        },
    ),
}
# what both judges of `ric eval` read, which are describers that are asked for scores
JUDGING = {
    "judge_model": "The judge: any of transformers' image-text-to-text models, or what the server"
    " calls its model.",
    "judge_prompts": "A folder of prompts of your own: QUESTION.txt, or QUESTION-TYPE.txt for one"
    " type of edit.",
    "judge_swap": "Ask about each pair also with the edit shown first, take the mean, and measure"
    " the position bias.",
    "max_new_tokens": "The judge's longest answer in tokens.",
    "attempts": "Answers to one question of the judge before it fails.",
}
SERVED = DESCRIBERS["openai"].settings
JUDGES = {
    "none": Part("", reads=()),
    "chat": Part(
        DESCRIBERS["chat"].place,
        "judge_model",
        settings={
            **JUDGING,
            "judge_dtype": "The precision of the judge's weights.",
            "judge_batch_size": "Questions that a judge of this machine answers at once.",
            "load_in": "Hold the judge's weights in few bits.",
        },
    ),
    "openai": Part(
        DESCRIBERS["openai"].place,
        settings={
            **JUDGING,
            **{name: text for name, text in SERVED.items() if name not in ASKED},
        },
    ),
}
# the setting that names the model of your own editor, describer or judge
OWN_MODEL_SETTING = {"editor": "unet", "describer": "model", "judge": "judge_model"}
LOSSES = {  # terms beside those of Eq. 10
    "outside": Part("ric.method.outside:Outside.for_training"),
}


_SHIPPED: dict[str, Mapping[str, Any]] = {
    "editor": EDITORS,
    "describer": DESCRIBERS,
    "judge": JUDGES,
    "loss": LOSSES,
    "metric": METRICS,
}
_GROUPS = {
    "editor": "ric.editors",
    "describer": "ric.describers",
    "judge": "ric.describers",
    "loss": "ric.losses",
    "metric": "ric.metrics",
}


def refuse_unknown_metrics(config: EvalConfig) -> None:
    """Refuse `--metrics` that are empty, unknown, or in conflict with other settings.

    Raises:
        RicError: as `load_part`; or no metric is named, the protocol lacks one, two have the same
            name, or `--fid-set` is given without a distance of sets.
    """
    names = metrics_of(config)
    there = OF_FEW_SCORES.get(config.protocol)
    known = there or (*OF_ANY_PICTURES, *BY_NAME_ONLY)
    if not names:
        raise RicError("--metrics names no metric.", f"Choose from: {', '.join(known)}.")
    for name in names:
        if name not in known and (there or name in METRICS):
            has = f"--protocol {config.protocol} has" if there else "Without a protocol there is"
            raise RicError(f"{has} no metric {name!r}.", f"Choose from: {', '.join(known)}.")
        refuse_unknown("metric", name)
    keys = [metric_key(name) for name in names]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise RicError(f"Two of --metrics are called {twice!r}.", "Rename your own.")
    _refuse_unjudged(config, names)
    to_a_set = ("fid", "kid", *SET_DISTANCES)
    if config.fid_set and not set(to_a_set) & set(names):
        headings = [METRICS[name].heading for name in to_a_set]
        raise RicError(
            f"--fid-set goes with {', '.join(headings[:-1])} and {headings[-1]}.",
            f"Add one of them to --metrics: {', '.join(to_a_set)}",
        )


def _refuse_unjudged(config: EvalConfig, names: tuple[str, ...]) -> None:
    """Refuse scores of a judge without one, and a judge without scores (raises RicError)."""
    judged = [name for name in names if name in JUDGED]
    if judged and config.judge == "none":
        raise RicError(
            f"{judged[0]} is given by a judge, and none is named.",
            "Add --judge chat --judge-model MODEL, or a server's: --judge openai --base-url"
            " http://HOST:PORT/v1 --judge-model NAME",
        )
    if not judged and config.judge != "none":
        raise RicError(
            f"--judge {config.judge} gives scores, and none of them is named.",
            f"Name them: --metrics {','.join(JUDGED)}",
        )
    if config.agree_with and not judged:
        raise RicError(
            "--agree-with compares the scores of two judges.", "Add --judge and its --metrics."
        )
    if "context_consistency" in names and config.region_clip is None:
        raise RicError(
            "context_consistency is measured by a fitted region judge, and none is named.",
            "Add --region-clip @fit-clip",
        )
    if "context_consistency" not in names and config.region_clip not in (None, "tiny"):
        raise RicError(
            "--region-clip is the judge of context_consistency, which is not asked for.",
            "Add --metrics all,context_consistency, or omit --region-clip.",
        )


def model_of(kind: str, name: str) -> str:
    """Return the setting that names the model of an editor or a describer; "" if it loads none.

    "" also for an unknown name; `load_part` says what is wrong with it.
    """
    if shipped := _SHIPPED[kind].get(name):
        return cast("str", shipped.model)
    try:
        needs = getattr(load_part(kind, name), "needs_model", False)
    except RicError:
        return ""
    return OWN_MODEL_SETTING[kind] if needs else ""


def further_models(editor: str) -> tuple[str, ...]:
    """List the settings that name an editor's models beside that of `model_of`."""
    return EDITORS[editor].further if editor in EDITORS else ()


def texts_read(kind: str, name: str) -> tuple[str, ...]:
    """List which of a sample's texts an editor or a describer needs.

    Your own editor needs the instruction, your own describer none.
    """
    if shipped := _SHIPPED[kind].get(name):
        return cast("tuple[str, ...]", shipped.reads)
    return ("instruction",) if kind == "editor" else ()


def is_shipped(kind: str, name: str) -> bool:
    """Tell whether ric itself has an editor, a describer, a loss term or a metric of that name."""
    return name in _SHIPPED[kind]


def settings_of(kind: str) -> dict[str, str]:
    """List the settings in the rows of ric's editors, describers or judges, with their help."""
    rows: Iterable[Part] = _SHIPPED[kind].values() if kind else ()
    return {name: text for row in rows for name, text in row.settings.items()}


def readers_of(kind: str, setting: str) -> tuple[str, ...]:
    """List which of ric's editors or describers have a setting in their rows."""
    return tuple(name for name, row in _SHIPPED[kind].items() if setting in row.settings)


def defaults_of(kind: str, name: str, preset: Preset) -> Mapping[str, Any]:
    """Return the defaults of an editor or a describer; empty for your own."""
    shipped: Part | None = _SHIPPED[kind].get(name)
    return shipped.defaults.get(preset, {}) if shipped else {}


def refuse_unknown(kind: str, name: str) -> None:
    """Refuse an unknown part of a kind, as of `load_part`; ric's own are not imported for it.

    Raises:
        RicError: as `load_part`.
    """
    if not is_shipped(kind, name):
        load_part(kind, name)


def load_part(kind: str, name: str) -> Callable[..., Any]:
    """Import the factory of an `editor`, `describer`, `judge`, `loss` term or `metric`.

    Raises:
        RicError: there is none of that name, or its code cannot be imported.
    """
    shipped = _SHIPPED[kind].get(name)
    if shipped:
        return _import(kind, shipped.place)
    # takes 15 ms, which `ric --help` should not pay
    from importlib.metadata import entry_points

    declared = entry_points(group=_GROUPS[kind], name=name)
    if declared:
        return _import(kind, next(iter(declared)).value)
    if ":" in name:
        return _import(kind, name)
    there = tuple(OF_ANY_PICTURES if kind == "metric" else _SHIPPED[kind])
    flag = "--metrics" if kind == "metric" else f"--{kind}"
    raise RicError(
        f"There is no {kind} {name!r}.",
        f"{did_you_mean(name, there)}Choose one of: {', '.join(there)}; or name your own: {flag}"
        " my_file.py:Name",
    )


def did_you_mean(name: str, there: Iterable[str]) -> str:
    """Return `Did you mean NAME? `, the nearest one that is there; "" where none is near."""
    nearest = get_close_matches(name.lower(), list(there), n=1)
    return f"Did you mean {nearest[0]}? " if nearest else ""


def _import(kind: str, place: str) -> Callable[..., Any]:
    where, _, name = place.rpartition(":")
    try:
        found: Any = _from_file(where) if where.endswith(".py") else import_module(where)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # outside code may raise anything
        raise RicError(
            f"The {kind} {place} cannot be imported: {type(error).__name__}: {first_line(error)}",
            "Write it as FILE.py:NAME or PACKAGE.MODULE:NAME.",
        ) from error
    return cast("Callable[..., Any]", found)


def _from_file(place: str) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    return _executed(path.absolute(), path.stat().st_mtime_ns)


@cache
def _executed(path: Path, changed: int) -> ModuleType:
    """Run a file once, however often it is imported, unless it has changed since."""
    name = f"ric_part_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None  # a .py file has a loader
    assert spec.loader is not None
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

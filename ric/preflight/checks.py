"""Checks before any network is loaded: whether DATA, models and packages are there.

None of ric's modules imported here imports torch, so a missing model is reported within a second,
not after the ten that the libraries take to load.
"""

from __future__ import annotations

from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    TrainUnetConfig,
    command_of,
)
from ric.data.opened import open_data
from ric.data.photo_results import out_address
from ric.errors import RicError
from ric.extras import require_extra
from ric.models.table import NamedModel, kind_of, models_of, rows_of, uses
from ric.preflight.data import needs_instruction
from ric.preflight.describers import refuse_other_vlms
from ric.preflight.pipelines import (
    refuse_other_finders,
    refuse_other_pipelines,
    refuse_unfit_scheduler,
)
from ric.progress import Progress, Silent
from ric.registry import refuse_unknown, refuse_unknown_metrics
from ric.runs.descriptions import refuse_other_texts
from ric.runs.record import find_artifact
from ric.runs.remote_folder import RemoteFolder
from ric.weights import find_weight, is_present, no_download, require_connection, resolve_weights
from ric.weights.fetch import get_command
from ric.weights.find import convertible_copy
from ric.weights.resolve import unlisted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ric.data.opened import Opened


def check(config: CommandConfig, runs_dir: Path, progress: Progress | None = None) -> Opened:
    """Make sure that everything the command names is there, fetching models that are not.

    `progress` shows models that are fetched or converted.

    Returns:
        DATA, for the recipe.

    Raises:
        RicError: something is missing or unusable; says what, and how to get it.
    """
    data = open_checked(config)
    for problem in _problems(_looks(config, runs_dir, progress or Silent())):
        raise problem
    return data


def find_problems(
    config: CommandConfig, runs_dir: Path, opening: Callable[[], Opened] | None = None
) -> list[RicError]:
    """List all errors that `check` would raise, without fetching anything.

    Args:
        config: The command's settings.
        runs_dir: Where runs are looked for.
        opening: Opens DATA as `open_checked` does; None: that.
    """
    first: list[Callable[[], object]] = [opening or partial(open_checked, config)]
    looks = chain(first, _looks(config, runs_dir, None))
    # a prompt file that cannot be read is found twice
    return list({problem.message: problem for problem in _problems(looks)}.values())


def open_checked(config: CommandConfig) -> Opened:
    """Open DATA, whose samples must have the instructions that the command reads."""
    return open_data(config, need_instruction=needs_instruction(config))


def _problems(looks: Iterable[Callable[[], object]]) -> Iterator[RicError]:
    for look in looks:
        try:
            look()
        except RicError as error:
            yield error


def _looks(
    config: CommandConfig, runs_dir: Path, fetch: Progress | None
) -> Iterator[Callable[[], object]]:
    """Yield the checks; each raises RicError if it fails."""
    if isinstance(config, EvalConfig):
        from ric.scoring.outputs import find_outputs, pictures_in, turns_of

        yield partial(refuse_unknown_metrics, config)
        yield from _looks_at_judge(config, runs_dir)
        if config.fid_set is not None:
            yield partial(pictures_in, Path(config.fid_set))
        for text in config.edits:
            yield partial(find_outputs, text, runs_dir, match=config.match, turns=turns_of(config))
        for model in models_of(config):
            # without its judges nothing is scored; a metric whose own network is missing is shown
            # as not available, and the others are computed
            is_needed = model.row in rows_of(config)
            if model.name != "tiny" and (is_needed or fetch is None):
                yield partial(_locate, model, config, runs_dir, fetch)
        return
    if isinstance(config, EditConfig):
        yield partial(refuse_unknown, "editor", config.editor)
        if address := out_address(config):
            yield partial(RemoteFolder, address)
        yield partial(refuse_unfit_scheduler, config, runs_dir)
        yield partial(refuse_other_finders, config, runs_dir)
    if isinstance(config, DescribeConfig):
        yield from _looks_at_describer(config)
    for model in models_of(config):
        if model.name != "tiny":
            yield partial(_locate, model, config, runs_dir, fetch)
    yield partial(refuse_other_pipelines, config, runs_dir)
    if track := getattr(config, "track", None):
        from ric.training.tracking import find_tracker

        yield partial(find_tracker, track)
    described = (getattr(config, "descriptions", None), *getattr(config, "captions", ()))
    for reference in described:
        yield partial(_find_descriptions, reference, runs_dir)
    if isinstance(config, TrainUnetConfig):
        from ric.training.judges import JUDGES, judge_of
        from ric.training.loss_terms import refuse_unknown_terms

        yield partial(refuse_unknown_terms, config.losses)
        if config.lora_rank:
            yield partial(require_extra, "peft", "--lora-rank")
        if config.adam_8bit:
            yield partial(require_extra, "bitsandbytes", "--adam-8bit")
        if config.push_to_hub:
            from ric.runs.push_to_hub import refuse_without_token

            yield partial(refuse_without_token, config.push_to_hub)
        for setting in JUDGES:
            yield partial(judge_of, config, setting)


def _looks_at_describer(config: DescribeConfig) -> Iterator[Callable[[], object]]:
    from ric.describers.prompt import prompts_of

    yield partial(refuse_unknown, "describer", config.describer)
    yield partial(prompts_of, config)
    if config.describer == "openai":
        yield partial(require_extra, "openai", "--describer openai")
    if config.load_in is not None:
        yield partial(require_extra, "bitsandbytes", f"--load-in {config.load_in}")


def _looks_at_judge(config: EvalConfig, runs_dir: Path) -> Iterator[Callable[[], object]]:
    from ric.describers.judge_settings import describer_settings
    from ric.scoring.judge_prompts import judge_prompts_of
    from ric.scoring.judge_summary import find_judged_run

    yield partial(refuse_unknown, "judge", config.judge)
    if config.agree_with is not None:
        yield partial(find_judged_run, config.agree_with, runs_dir)
    if config.judge == "none":
        return
    yield partial(judge_prompts_of, config)
    if config.judge == "openai":
        yield partial(require_extra, "openai", "--judge openai")
    if config.load_in is not None:
        yield partial(require_extra, "bitsandbytes", f"--load-in {config.load_in}")
    if uses(config, "judge_model") and config.judge_model != "tiny":
        yield partial(refuse_other_vlms, describer_settings(config))


def _find_descriptions(reference: str | None, runs_dir: Path) -> None:
    if reference is not None and not find_artifact(reference, "descriptions.jsonl", runs_dir):
        refuse_other_texts(Path(reference))


def _locate(
    model: NamedModel, config: CommandConfig, runs_dir: Path, fetch: Progress | None
) -> None:
    """Find a model; fetch one that is not here, or with `fetch` None check that it could be."""
    refuse_other_vlms(config)
    name, weights = model.name, config.weights
    if model.row.artifact and find_artifact(name, model.row.artifact, runs_dir):
        return
    needs, instead = f"ric {command_of(config)}", no_download(config.preset)
    there = Path(name).exists() or (weights is not None and not Path(weights).is_dir())
    if fetch is not None or there:
        if not there:
            refuse_other_vlms(config, fetch=True)
        kind = kind_of(config, model.row)
        resolve_weights(
            name, weights_dir=weights, needs=needs, kind=kind, progress=fetch, instead=instead
        )
        return
    weight = find_weight(name) or unlisted(name)
    if is_present(weight, weights) is None and convertible_copy(weight, weights) is None:
        size = f" ({weight.size})" if weight.size_bytes else ""
        hint = f"With a connection: {get_command(weight)}. Or name its folder with --weights."
        what = f"{name}{size}, which {needs} needs,"
        require_connection(what, hint, url=weight.url, instead=instead)
        refuse_other_vlms(config, fetch=True)

"""`ric describe`: a paragraph about every edited picture (Sec. 3.2.3)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from ric.describers.describer import describe_all, load_describer
from ric.device import pick_device
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.models.locate import locate
from ric.models.table import uses
from ric.progress import Progress, Silent
from ric.registry import texts_read
from ric.runs.samples import read_samples

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ric.config import DescribeConfig
    from ric.data.sample import EditSample
    from ric.interrupt import StopRequest
    from ric.runs.run import RunDir


def describe(config: DescribeConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Describe every sample of DATA; return the run's `descriptions.jsonl`.

    Samples already described are skipped, and several processes may share one run. A stop is
    honoured between batches.

    Raises:
        RicError: DATA or the model cannot be loaded, or there is no sample.
        Interrupted: a stop was requested; finished descriptions are kept.
    """
    progress = progress or Silent()
    model, model_name = None, None
    if uses(config, "model"):
        model = locate(config, "model", run)
        model_name = config.model
    describer = load_describer(config.describer, model, config, pick_device(config.device))
    done = {row["id"] for row in run.rows("descriptions")}
    with (
        stop_between_steps() as stop,
        progress.stage("describing", done=len(done), unit="samples") as stage,
    ):
        todo = _todo(config, run, done, stop)
        while batch := list(islice(todo, config.batch_size)):
            for sample, text in zip(batch, describe_all(describer, batch), strict=True):
                if isinstance(text, SampleError):
                    run.fail(text)
                    continue
                row = {"id": sample.id, "scene_text": text, "instruction": sample.instruction}
                made_by = {"describer": config.describer, "model": model_name}
                run.append("descriptions", {**row, **made_by})
                stage.advance()
        stop.raise_if_set()
    return run.path / "descriptions.jsonl"


def _todo(
    config: DescribeConfig, run: RunDir, done: set[str], stop: StopRequest
) -> Iterator[EditSample]:
    """Yield the samples that this process describes (raises RicError if DATA has none)."""
    sample = None
    needed = "instruction" in texts_read("describer", config.describer)
    for sample in read_samples(config, run, need_instruction=needed):
        stop.raise_if_set()
        if sample.id not in done and run.claims.take(sample.id):
            yield sample
    if sample is None:
        raise RicError(
            f"No sample of {config.data} (split {config.split}) can be described.",
            "See failures.jsonl in the run, or choose another split: --split all",
        )

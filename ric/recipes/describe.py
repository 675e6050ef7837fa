"""`ric describe`: a paragraph about every edited picture (Sec. 3.2.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.describers.describer import load_describer
from ric.device import pick_device
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.models.locate import locate
from ric.models.table import uses
from ric.progress import Progress, Silent
from ric.registry import texts_read
from ric.runs.samples import read_samples

if TYPE_CHECKING:
    from pathlib import Path

    from ric.config import DescribeConfig
    from ric.runs.run import RunDir


def describe(config: DescribeConfig, run: RunDir, progress: Progress | None = None) -> Path:
    """Describe every sample of DATA; return the run's `descriptions.jsonl`.

    Samples already described are skipped, and several processes may share one run.

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
    needed = "instruction" in texts_read("describer", config.describer)
    done = {row["id"] for row in run.rows("descriptions")}
    with (
        stop_between_steps() as stop,
        progress.stage("describing", done=len(done), unit="samples") as stage,
    ):
        sample = None
        for sample in read_samples(config, run, need_instruction=needed):
            stop.raise_if_set()
            if sample.id in done or not run.claims.take(sample.id):
                continue
            try:
                text = describer.describe(sample)
            except SampleError as error:
                run.fail(error)
                continue
            row = {"id": sample.id, "scene_text": text, "instruction": sample.instruction}
            run.append("descriptions", {**row, "describer": config.describer, "model": model_name})
            stage.advance()
        stop.raise_if_set()
    if sample is None:
        raise RicError(
            f"No sample of {config.data} (split {config.split}) can be described.",
            "See failures.jsonl in the run, or choose another split: --split all",
        )
    return run.path / "descriptions.jsonl"

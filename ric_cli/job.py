"""One command over DATA: settings from the flags, a dry run, the run, the result, the exit code."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import typer

from ric.config import ConfigT, as_dict
from ric.interrupt import Interrupted
from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.options import config_from_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from ric.progress import Progress
    from ric.run_dir import RunDir

UNTRAINED = "The tiny family is untrained: its pictures and scores mean nothing."
SOME_FAILED = 3  # exit code: done, but some samples failed and are listed
# Several processes may work on one run of these: each takes the samples it claims.
SHARED = ("describe", "edit")


class Job(Generic[ConfigT]):
    """A command that was typed.

    Args:
        command: Its name.
        kind: Its config.
        ctx: What the user typed.

    Attributes:
        config: The resolved settings.
    """

    def __init__(self, command: str, kind: type[ConfigT], ctx: typer.Context) -> None:
        """Resolve the settings from what was typed."""
        self.command = command
        self.config = config_from_flags(kind, ctx)
        self.run_folder: Path | None = ctx.params["run"]
        self.runs_dir: Path = ctx.params["runs_dir"]
        self.dry_run: bool = ctx.params["dry_run"]
        self.json: bool = ctx.params["json"]
        self.quiet: bool = ctx.params["quiet"]

    def is_dry(self) -> bool:
        """Check what can be checked without the networks; on `--dry-run` show it and say True.

        Data and models that are not there are found here, before torch is imported.

        Raises:
            RicError: DATA or a model is not there.
        """
        from ric.preflight import check, plan

        if not self.dry_run:
            check(self.config, self.runs_dir)
            return False
        show_plan(plan(self.config, self.runs_dir), as_json=self.json)
        return True

    def run(
        self,
        recipe: Callable[[ConfigT, RunDir, Progress], Any],
        *,
        show: Callable[[Any, RunDir], None] | None = None,
        next_step: str = "",
    ) -> Any:
        """Open the run, follow the recipe, show the result.

        Args:
            recipe: What to do.
            show: Prints the recipe's result for people; by default its path.
            next_step: The command to type next, with `{data}` for DATA and `{run}` for this run.

        Returns:
            The recipe's result; None when the run was finished before.

        Raises:
            typer.Exit: 3 when some samples failed or some metrics' weights are missing.
        """
        # its imports take 20 ms, which `ric --help` need not pay
        from ric.run_dir import open_run

        progress = make_progress(quiet=self.quiet)
        run = open_run(
            self.command,
            as_dict(self.config),
            runs_dir=self.runs_dir,
            run=self.run_folder,
            shared=self.command in SHARED,
        )
        if run.finished_before:
            self._finish(run, None, show, next_step)
            return None
        try:
            with run:
                result = recipe(self.config, run, progress)
        except Interrupted:
            say(f"What was made is kept. To go on, repeat the command with --run {run.path}")
            raise
        self._finish(run, result, show, next_step)
        return result

    def _finish(
        self,
        run: RunDir,
        result: Any,
        show: Callable[[Any, RunDir], None] | None,
        next_step: str,
    ) -> None:
        failures = list(run.rows("failures"))
        if self.json:
            print_json(
                {
                    "command": self.command,
                    "run": str(run.path),
                    "status": run.record["status"],
                    "result": str(result) if isinstance(result, Path) else None,
                    "failures": len(failures),
                    "unavailable": run.record.get("unavailable", []),
                }
            )
        elif run.record["status"] == "running":
            say(f"Others are still at work in {run.path}; the last to finish closes it.")
            print_line(str(run.path))
        elif run.finished_before:
            say(f"{run.path} is finished already; nothing was left to do.")
            print_line(str(run.path))
        elif show is not None:
            show(result, run)
        else:
            print_line(str(result))
        if failures and not self.quiet:
            for row in failures[:5]:
                say(f"  {row['id']}, {row['stage']}: {row['reason']}")
            say(f"{len(failures)} failed; all are listed in {run.path / 'failures.jsonl'}")
        weights = run.record.get("weights", {}).values()
        if not self.quiet and any(weight["id"] == "tiny" for weight in weights):
            say(UNTRAINED)
        if next_step and not (self.json or self.quiet):
            next_step += " --preset tiny" if self.config.preset == "tiny" else ""
            for name, value in (("{data}", self.config.data), ("{run}", str(run.path))):
                next_step = next_step.replace(name, shlex.quote(value))
            say(f"Next: {next_step}")
        if failures or run.record.get("unavailable"):
            raise typer.Exit(SOME_FAILED)


def show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    """Show what a dry run found: settings, samples, models, cost."""
    if as_json:
        print_json(plan)
        return
    for section, values in plan.items():
        print_line(f"{section}:")
        rows = values.items() if isinstance(values, dict) else enumerate(values, 1)
        for key, value in rows:
            print_line(f"  {key}: {value}")

"""One command over DATA: settings from the flags, a dry run, the run, the result, the exit code."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import typer

from ric.addresses import redacted, refuse_addresses
from ric.config import as_dict, flag_of
from ric.errors import RicError
from ric.extras import require_extra
from ric.interrupt import Interrupted, stop_after
from ric.launcher import launched_processes
from ric.settings import ConfigT
from ric_cli.console import make_progress, print_json, print_line, say
from ric_cli.loading import has_ended, say_if_slow
from ric_cli.next_step import next_step
from ric_cli.options import config_from_flags, seconds_of, was_typed
from ric_cli.surroundings import take_one_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from ric.config import CommandConfig
    from ric.data.opened import Opened
    from ric.progress import Progress
    from ric.runs.run import RunDir
    from ric_cli.ray_workers import Cluster

DRAWN_ONLY = "The embedded family (tiny) has only seen drawn scenes of 64 pixels."
SOME_FAILED = 3  # exit code: done, but some samples failed, or something was not available
TIME_IS_OVER = 128 + signal.SIGALRM  # exit code
# Commands of which several processes may work on one run: each takes the batches it claims.
SHARED = ("describe", "edit", "eval")
# Commands that, repeated on a run, compare each sample with its row.
COMPARE = ("edit",)
# Commands that several processes of a launcher run together.
TOGETHER = ("fit-clip", "fit-blip", "train-unet", "eval")


class Job(Generic[ConfigT]):
    """A command that was typed.

    Args:
        command: Its name.
        kind: Its config class.
        ctx: Its parsed command line.

    Attributes:
        config: The resolved settings.
    """

    def __init__(self, command: str, kind: type[ConfigT], ctx: typer.Context) -> None:
        """Resolve the settings from the command line."""
        self.command = command
        self.config = config_from_flags(kind, ctx)
        # `ric tiny` trains with batches that make use of every core
        if self.config.preset == "tiny" and not command.startswith("tiny-"):
            take_one_thread()
        self.data: Opened | None = None  # as `is_dry` opens it
        self.run_folder: Path | None = ctx.params["run"]
        self.runs_dir: Path = ctx.params["runs_dir"]
        refuse_addresses(self.run_folder, self.runs_dir)
        self.typed_runs_dir = self.runs_dir if was_typed(ctx, "runs_dir") else None
        self.dry_run: bool = ctx.params["dry_run"]
        self.json: bool = ctx.params["json"]
        self.quiet: bool = ctx.params["quiet"]
        ctx.call_on_close(has_ended)
        if not self.quiet:
            say_if_slow()
        self.cluster = _cluster_of(ctx, self.config)
        self.stop_after: str | None = ctx.params["stop_after"]
        if self.stop_after is not None:
            seconds = seconds_of(self.stop_after)
            if not self.dry_run:
                stop_after(seconds)

    def is_dry(self) -> bool:
        """Check what can be checked without the networks; with `--dry-run` show it, return True.

        Missing data and models are found here, before torch is imported.

        Raises:
            RicError: DATA, a model or an editor's pictures are missing.
            typer.Exit: With 1 if a dry run has found such problems.
        """
        from ric.preflight.checks import check, find_problems, open_checked
        from ric.preflight.dry_run import plan

        if not self.dry_run:
            self.data = check(self.config, self.runs_dir, make_progress(quiet=self.quiet))
            if not self.quiet:  # again, after models were fetched
                say_if_slow()
            return False
        opening = cache(partial(open_checked, self.config))
        problems = find_problems(self.config, self.runs_dir, opening)
        told = plan(self.config, self.runs_dir, opening)
        lines = [" ".join(filter(None, (item.message, item.hint))) for item in problems]
        told["problems"] = list(dict.fromkeys([*lines, *told["problems"]]))
        show_plan(told, as_json=self.json)
        if told["problems"]:
            raise typer.Exit(1)
        return True

    def run(
        self,
        recipe: Callable[[ConfigT, RunDir, Progress], Any],
        *,
        show: Callable[[Any, RunDir], None] | None = None,
        report: Callable[[RunDir], dict[str, Any]] | None = None,
    ) -> Any:
        """Open the run, run the recipe, show the result.

        Args:
            recipe: The command's recipe.
            show: Prints the recipe's result for people, or, if the run was finished before and
                there is no result, reads it from the run; by default its path is printed.
            report: Reads further entries of `--json` from a finished run.

        Returns:
            The recipe's result; None if the run was finished before, or the main process has it.

        Raises:
            typer.Exit: With 3 if some samples failed, or a metric or an upload was not available.
        """
        from ric.runs.run import FollowedRun

        if self.cluster is not None:
            self._work_on_ray()
        run = self._open_run()
        if isinstance(run, FollowedRun):
            if not run.finished_before:
                with _with_others():
                    recipe(self.config, run, make_progress(quiet=True))
            return None
        if not self.quiet and _is_beyond_the_family(self.config):
            say(DRAWN_ONLY)
        progress = make_progress(quiet=self.quiet)
        if run.finished_before:
            self._finish(run, None, show, report)
            return None
        with self._told_how_to_continue(run.path), run, _with_others():
            result = recipe(self.config, run, progress)
        self._finish(run, result, show, report)
        return result

    @contextmanager
    def _told_how_to_continue(self, path: Path) -> Iterator[None]:
        try:
            yield
        except Interrupted as stopped:
            if self.stop_after is not None and stopped.exit_code == TIME_IS_OVER:
                say(f"--stop-after {self.stop_after} is over.")
            place = shlex.quote(str(path))
            say(f"Finished work is kept. To continue, repeat the command with --run {place}")
            raise

    def _work_on_ray(self) -> None:
        """Have the cluster do all it can of the run, which this process then opens and closes."""
        from ric.runs.open_run import next_numbered
        from ric_cli.ray_workers import work_on_ray

        assert self.cluster is not None  # else nobody asked for it
        self.run_folder = self.run_folder or next_numbered(self.runs_dir, self.command)
        with self._told_how_to_continue(self.run_folder):
            progress = make_progress(quiet=self.quiet)
            work_on_ray(sys.argv[1:], self.run_folder, self.cluster, progress)

    def _open_run(self) -> RunDir:
        """Open the run, together with other processes that a launcher started; hand it DATA."""
        # its imports take 20 ms, which `ric --help` should not pay
        from ric.runs.open_run import open_run

        together = self.command in TOGETHER and launched_processes() > 1
        opening = partial(
            open_run,
            self.command,
            as_dict(self.config),
            runs_dir=self.runs_dir,
            run=self.run_folder,
            shared=self.command in SHARED and not together,
            compares=self.command in COMPARE,
        )
        if together:
            from ric.device import pick_device
            from ric.distributed import open_together

            run = open_together(opening, self.runs_dir, pick_device(self.config.device), say)
        else:
            run = opening()
        run.opened = self.data
        return run

    def _finish(
        self,
        run: RunDir,
        result: Any,
        show: Callable[[Any, RunDir], None] | None,
        report: Callable[[RunDir], dict[str, Any]] | None,
    ) -> None:
        failures = list(run.rows("failures"))
        done = run.record["status"] == "done"
        if not (self.quiet or self.json) and not done:
            say(f"Other processes are still at work in {run.path}; the last to finish closes it.")
        elif run.finished_before and not (self.quiet or self.json):
            say(f"{run.path} is already finished; nothing was left to do.")
        if self.json:
            about = {
                "command": self.command,
                "run": str(run.path),
                "status": run.record["status"],
                "result": str(result) if isinstance(result, Path) else None,
                "failures": len(failures),
                "unavailable": run.record.get("unavailable", []),
            }
            print_json(about | (report(run) if report and done else {}))
        elif show is not None and done:
            show(result, run)
        else:
            print_line(str(result if done and result is not None else run.path))
        if not self.quiet:
            self._say_more(run, failures)
        if failures or run.record.get("unavailable"):
            raise typer.Exit(SOME_FAILED)

    def _say_more(self, run: RunDir, failures: list[dict[str, Any]]) -> None:
        """Print the failed samples and the command to type next."""
        if failures:
            for row in failures[:5]:
                say(f"  {row['id']}, {row['stage']}: {row['reason']}")
            say(f"{len(failures)} failed; all are listed in {run.path / 'failures.jsonl'}")
        if not self.json and run.record["status"] == "done":
            line = next_step(self.config, run, runs_dir=self.typed_runs_dir)
            if line:
                say(f"Next: {line}")


def _cluster_of(ctx: typer.Context, config: CommandConfig) -> Cluster | None:
    """Return the cluster that `--engine ray` asks for; None for this process alone.

    Raises:
        RicError: Ray is not installed, or its options are given without it, or with settings that
            only one process can follow.
    """
    if ctx.params.get("engine") == "ray":
        from ric.runs.kept_edits import asks_again
        from ric_cli.ray_workers import Cluster

        require_extra("ray", "--engine ray")
        if asked := asks_again(config):
            raise RicError(
                f"{flag_of(asked[0])} is not for --engine ray: each process would begin again.",
                "Give it to the command without --engine ray.",
            )
        return Cluster(ctx.params["ray_address"], ctx.params["workers"])
    for name in ("ray_address", "workers"):
        # a worker's own command has both, and --engine local
        if ctx.params.get(name) is not None and not was_typed(ctx, "engine"):
            raise RicError(f"{flag_of(name)} is for Ray alone.", "Add --engine ray, or omit it.")
    return None


def _with_others() -> AbstractContextManager[None]:
    """Have the loss of another process of a launcher told in one line."""
    if launched_processes() < 2:
        return nullcontext()
    from ric.distributed import loss_told

    return loss_told()


def _is_beyond_the_family(config: CommandConfig) -> bool:
    """Tell whether a model of the embedded family is used on anything but drawn scenes."""
    from ric.data.drawn_scenes import is_scenes
    from ric.models.table import models_of

    return not is_scenes(config.data) and any(model.name == "tiny" for model in models_of(config))


def show_plan(plan: dict[str, Any], *, as_json: bool) -> None:
    """Print a dry run's plan: settings, those that were chosen first; samples, models, cost."""
    plan = redacted(plan)
    if as_json:
        print_json(plan)
        return
    changed, settings = plan["changed"], plan["settings"]
    chosen = {key: settings[key] for key in changed}
    rest = {key: value for key, value in settings.items() if key not in chosen}
    plan = {
        "settings": chosen,
        "settings as usual": rest,
        **{
            section: values
            for section, values in plan.items()
            if section not in ("changed", "settings")
        },
    }
    for section, values in plan.items():
        print_line(f"{section}:")
        rows = values.items() if isinstance(values, dict) else enumerate(values, 1)
        if not values:
            print_line("  none")
        for key, value in rows:
            print_line(f"  {key}: {value}")

"""`--track NAME`: logged rows also go to one of accelerate's trackers (TensorBoard, …).

metrics.jsonl stays the run's own record; a tracker gets a copy of each of its rows. A resumed run
opens a new session of the tracker; rows that it repeats are sent again.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from ric.errors import RicError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ric.runs.run import RunDir


@contextmanager
def tracked(name: str | None, run: RunDir) -> Iterator[None]:
    """Send every row that the run logs in the block to the tracker `name`; None: to no tracker.

    Raises:
        RicError: accelerate has no such tracker, or its package is not installed.
    """
    if name is None:
        yield
        return
    kind = find_tracker(name)
    folder = [run.path / "tracker"] if kind.requires_logging_directory else []
    tracker = kind(f"ric-{run.record['command']}", *folder)
    tracker.start()
    settings = run.record["config"]
    tracker.store_init_configuration(
        {key: value for key, value in settings.items() if isinstance(value, str | int | float)}
    )

    def show(row: Mapping[str, Any]) -> None:
        values = {key: value for key, value in row.items() if isinstance(value, int | float)}
        step = int(values.pop("step"))
        tracker.log(values, step=step)

    run.listeners.append(show)
    try:
        yield
    finally:
        run.listeners.remove(show)
        tracker.finish()


def find_tracker(name: str) -> type[GeneralTracker]:
    """Find accelerate's class of a tracker.

    Raises:
        RicError: accelerate has no such tracker, or its package is not installed.
    """
    kind = LOGGER_TYPE_TO_CLASS.get(name)
    if kind is None:
        known = ", ".join(sorted(LOGGER_TYPE_TO_CLASS))
        raise RicError(f"accelerate has no tracker {name!r}.", f"Choose one of: {known}.")
    ours = kind.__module__ == "accelerate.tracking"
    if ours and name not in map(str, get_available_trackers()):
        raise RicError(f"The tracker {name!r} is not installed.", f"pip install {name}")
    return kind

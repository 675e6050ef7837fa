"""Output: data on stdout, messages on stderr; bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from ric.addresses import redacted
from ric.plain_line import NOT_PLAIN, plain_line
from ric.progress import Progress, Silent, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL.Image import Image
    from rich.console import Console
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID
    from rich.text import Text

    from ric.errors import RicError

PLAIN_EVERY = 10.0  # seconds between plain lines of one stage
THUMBNAIL = 40  # letters across


def clean(text: str) -> str:
    """Make a text safe for a terminal: control characters escaped, passwords hidden."""
    return plain_line(redacted(text))


@cache
def plain_console() -> type[Console]:
    """Make the console class for all output: no markup, no control characters."""
    # rich takes 0.1 s, which a command that prints one line of data should not pay
    from rich.console import Console

    class PlainConsole(Console):
        def __init__(self, **how: Any) -> None:
            super().__init__(highlight=False, markup=False, emoji=False, **how)

        def render_str(self, text: str, **how: Any) -> Text:
            return super().render_str(clean(text), **how)

    return PlainConsole


def talk() -> Console:
    """Make the console for messages: stderr."""
    return plain_console()(stderr=True)


def say(message: str) -> None:
    """Print a message on stderr."""
    talk().print(message, soft_wrap=True)


def explain(text: str) -> None:
    """Print prose on stderr; in a terminal its lines break between words.

    Commands and paths are for `say`: broken, they could not be copied.
    """
    talk().print(text, soft_wrap=not sys.stderr.isatty())


def show_error(error: RicError) -> None:
    """Print an error's message in one line and its hint in another."""
    console = talk()
    console.print("Error:", style="bold red", end=" ")
    console.print(error.message, soft_wrap=True)
    if error.hint:
        console.print("Hint:", style="dim", end=" ")
        console.print(error.hint, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON object on stdout."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    # JSON leaves C1 controls and bidi marks as they are; its own line breaks must stay
    text = NOT_PLAIN.sub(lambda odd: odd[0] if odd[0] == "\n" else f"\\u{ord(odd[0]):04x}", text)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def print_line(text: str) -> None:
    """Print a line of data on stdout."""
    sys.stdout.write(clean(text) + "\n")


def print_picture(picture: Image) -> bool:
    """Print a thumbnail on stdout, two pixels to a letter; False where no terminal shows it."""
    console = plain_console()()
    if not console.is_terminal or console.color_system not in ("truecolor", "256"):
        return False
    from rich.text import Text

    wide = min(THUMBNAIL, console.width)
    high = max(2, round(picture.height * wide / picture.width / 2) * 2)
    small = picture.convert("RGB").resize((wide, min(high, 2 * THUMBNAIL)))
    for y in range(0, small.height, 2):
        line = Text()
        for x in range(small.width):
            upper, lower = (f"rgb{small.getpixel((x, y + row))}" for row in (0, 1))
            line.append("\u2580", style=f"{upper} on {lower}".replace(", ", ","))
        console.print(line)
    return True


def styled(text: str, style: str) -> Text:
    """Make a table's cell with a style, such as bold."""
    from rich.text import Text

    return Text(clean(text), style=style)


def make_progress(*, quiet: bool) -> Progress:
    """Choose how progress is shown: not at all, as bars, or as plain lines."""
    if quiet:
        return Silent()
    return Bars() if sys.stderr.isatty() else PlainLines()


def _note_progress() -> None:
    """Have no more said of libraries that load: there is progress to see."""
    from ric_cli.loading import has_begun  # its threads are nothing for `ric --help`

    has_begun()


class Bars:
    """Rich bars on a terminal, with rate and time left."""

    def __init__(self) -> None:
        """Use one console for all, so that notes go above the bars and not into them."""
        self._console = talk()

    def note(self, message: str) -> None:
        """Print one line above the bars."""
        _note_progress()
        self._console.print(message, soft_wrap=True)

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, done: int = 0, unit: str = "steps"
    ) -> Iterator[Stage]:
        """Show one bar while the stage lasts; finished, it stays above later output."""
        _note_progress()
        # takes 10 ms, which `ric --help` should not pay
        from ric_cli.bars import make_bars

        with make_bars(self._console) as bars:
            task = bars.add_task(
                clean(name), total=total, completed=done, before=done, unit=unit, values=""
            )
            yield _Bar(bars, task)


class _Bar:
    def __init__(self, bars: RichProgress, task: TaskID) -> None:
        self.bars, self.task = bars, task

    def advance(self, count: int = 1, **values: float) -> None:
        self.bars.advance(self.task, count)
        if values:
            self.bars.update(self.task, values=_in_words(values))


class PlainLines:
    """An occasional line, for logs: no control characters."""

    def note(self, message: str) -> None:
        """Print one line."""
        _note_progress()
        say(message)

    @contextmanager
    def stage(
        self, name: str, total: int | None = None, done: int = 0, unit: str = "steps"
    ) -> Iterator[Stage]:
        """Print a line every ten seconds, and one at the end."""
        _note_progress()
        lines = _Lines(name, total, done, unit)
        yield lines
        lines.say_now()


class _Lines:
    def __init__(self, name: str, total: int | None, done: int, unit: str) -> None:
        self.name, self.total, self.done, self.unit = name, total, done, unit
        self.before, self.began, self.said = done, time.monotonic(), time.monotonic()
        self.values: dict[str, float] = {}

    def advance(self, count: int = 1, **values: float) -> None:
        self.done += count
        self.values |= values
        if time.monotonic() - self.said >= PLAIN_EVERY:
            self.say_now()

    def say_now(self) -> None:
        """Print the stage's count, rate, time left and values."""
        self.said = time.monotonic()
        elapsed = max(self.said - self.began, 1e-9)
        rate = (self.done - self.before) / elapsed
        of_total = f"/{self.total}" if self.total is not None else ""
        speed = pace(self.done - self.before, elapsed, self.unit)
        parts = [f"{self.name}: {self.done}{of_total} {self.unit}", speed]
        if self.total is not None and rate > 0 and self.done < self.total:
            parts.append(f"{_clock((self.total - self.done) / rate)} left")
        if self.values:
            parts.append(_in_words(self.values))
        say(", ".join(parts))


def pace(done: float, elapsed: float, unit: str, *, fast: str = "/s") -> str:
    """Format a rate: `3.2/s`, or `1.9 s/step` where it is slower than one a second.

    Args:
        done: How many were done.
        elapsed: In how many seconds.
        unit: Their plural, such as `steps`.
        fast: What follows a rate of one a second or more.
    """
    if 0 < done < elapsed:
        return f"{elapsed / done:.1f} s/{unit.removesuffix('s')}"
    return f"{done / elapsed if elapsed else 0:.1f}{fast}"


def _in_words(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"

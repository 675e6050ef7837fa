"""A progress that collects the lines that the user should read."""

from __future__ import annotations

from ric.progress import Silent


class Noting(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)

"""The commands of the README and of the docs, as they are typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
# their blocks show what is in folders
TREES = ("architecture.md", "runs.md")


def typed(page: Path) -> Iterator[str]:
    """Yield the commands of a page's blocks, in order, without comments.

    In a block with lines after "$ " these are the commands, and the others what they print.
    """
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.S | re.M):
        if language or page.name in TREES:
            continue
        lines = re.sub(r"\\\n", " ", block).splitlines()
        if any(line.startswith("$ ") for line in lines):
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        for line in lines:
            # as a shell: "#" begins a comment where a word begins, and scenes:60@64#5 is a word
            for command in re.sub(r"(^|\s)#.*", "", line).split(" && "):
                if command.strip():
                    yield " ".join(command.split())


def named(page: Path) -> Iterator[str]:
    """Yield the commands that a page's prose names; parts of them may be left out."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for words in re.findall(r"`(ric [^`]+)`", prose):
        yield " ".join(words.split())

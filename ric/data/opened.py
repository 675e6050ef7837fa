"""DATA as a command opens it: a dataset, or the photos that `ric edit` gets in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ric.config import EditConfig
from ric.data.benchmarks.table import require_judge
from ric.data.open_file import is_url
from ric.data.photo_instructions import Oddities
from ric.data.photos import find_photos
from ric.data.sample import samples_of
from ric.errors import RicError

if TYPE_CHECKING:
    from ric.config import CommandConfig
    from ric.data.photos import Photo
    from ric.data.sample import Samples


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Opened DATA.

    Attributes:
        samples: A dataset's, or loose pictures; None where DATA is photos.
        photos: The edits of photos that are asked for; empty for a dataset.
        odd: Rows of `--instructions` that cannot be used.
    """

    samples: Samples | None = None
    photos: list[Photo] = field(default_factory=list)
    odd: Oddities = field(default_factory=Oddities)


def open_data(config: CommandConfig, *, need_instruction: bool = True) -> Opened:
    """Open DATA; no picture is decoded yet.

    Args:
        config: DATA and how to read it.
        need_instruction: Whether a row, or a photo, without an instruction is a failure.

    Raises:
        RicError: there is no such DATA, it cannot be read, or it has no judge for `--export`.
    """
    odd = Oddities()
    if isinstance(config, EditConfig):
        if config.export is not None:
            if is_url(config.export):
                raise RicError(
                    f"--export {config.export} is an address, and a benchmark's judge reads files"
                    " of its own machine.",
                    "Name a folder; for copies of the edits elsewhere: --out ADDRESS",
                )
            require_judge(config.data)
        photos = find_photos(config, need_instruction=need_instruction, odd=odd)
        if photos:
            return Opened(photos=photos, odd=odd)
    samples = samples_of(config, need_instruction=need_instruction)
    return Opened(samples=samples)

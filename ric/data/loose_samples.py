"""Samples of loose pictures: folders of sources, targets and masks, and a CSV of texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ric.data.columns import refuse_unsafe
from ric.data.edit_sample import EditSample, Pictures
from ric.data.loose import Loose, pair_loose, read_texts
from ric.errors import RicError, SampleError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.data.columns import ReadOptions


@dataclass(frozen=True)
class LooseFolders:
    """The folders of loose pictures, which are paired by name (`pair_loose`)."""

    source: Path
    target: Path | None = None
    mask: Path | None = None
    texts: Path | None = None  # a CSV with a column id or file

    @cached_property
    def _paired(self) -> tuple[list[Loose], list[Path]]:
        return pair_loose(self.source, self.target, self.mask)

    @property
    def pairs(self) -> list[Loose]:
        """The photos with their edits and masks (Raises RicError, as `pair_loose`)."""
        return self._paired[0]

    def unmatched(self) -> list[str]:
        """List the files, and the rows of the texts, that match no photo."""
        photos = {pair.name for pair in self.pairs}
        rows = [f"{self.texts}: {name}" for name in self.words if name not in photos]
        return [printable(name) for name in (*map(str, self._paired[1]), *rows)]

    def refuse_strangers(self) -> None:
        """Refuse a folder, or texts, in which nothing matches a photo.

        Raises:
            RicError: There is one; the message names it.
        """
        photos = {pair.name for pair in self.pairs}
        held = {
            self.target: any(pair.target for pair in self.pairs),
            self.mask: any(pair.mask for pair in self.pairs),
            self.texts: any(name in photos for name in self.words),
        }
        for place, matches in held.items():
            if place and not matches:
                raise RicError(
                    f"Nothing in '{place}' matches a photo in '{self.source}'.",
                    "Files are paired by name, without extension.",
                )

    @cached_property
    def words(self) -> dict[str, dict[str, str]]:
        """The texts by photo name (Raises RicError, as `read_texts`)."""
        return read_texts(self.texts, lambda line: None) if self.texts else {}

    def read(self, options: ReadOptions) -> Iterator[EditSample | SampleError]:
        """Yield a sample per photo, named by it, or the error of one that cannot be a sample."""
        for pair in self.pairs:
            try:
                refuse_unsafe(pair.name, pair.source.name)
                pair.refuse_doubles()
            except SampleError as error:
                yield error
                continue
            words = dict(self.words.get(pair.name, {}))
            yield EditSample(
                id=pair.name,
                instruction=words.pop("instruction", ""),
                **words,
                pictures=Pictures(
                    source=str(pair.source),
                    target=str(pair.target) if pair.target else None,
                    mask=str(pair.mask) if pair.mask else None,
                    described_in=f"'{self.source}'",
                    mask_column="a picture to --mask",
                    target_column="a picture to --target",
                    max_pixels=options.max_pixels,
                    ignore_signature=options.ignore_signature,
                ),
            )

    def fingerprint(self) -> str:
        """Return a SHA-256 of the pictures' paths, sizes and times, and of the texts."""
        digest = hashlib.sha256(self.texts.read_bytes() if self.texts else b"")
        for pair in self.pairs:
            for path in filter(None, (pair.source, pair.target, pair.mask)):
                known = path.stat() if path.exists() else path.lstat()  # a dead link
                digest.update(repr((str(path), known.st_size, known.st_mtime_ns)).encode())
        return digest.hexdigest()

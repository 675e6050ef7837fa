"""The folder of an edit run's pictures: `images`, or for photos `--out`, as their tree.

Where `--out` is an address, the folder is `images`, and what is in it is also sent there.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from ric.addresses import redacted
from ric.config import as_dict
from ric.data.images import ImageError
from ric.data.open_file import is_url
from ric.data.photo_results import (
    out_address,
    out_folder,
    planned_name,
    refuse_existing,
    refuse_taken,
    result_format,
    result_name,
)
from ric.data.photos import Photo
from ric.errors import SampleError
from ric.runs.open_run import differences, recorded_settings
from ric.runs.record import list_runs
from ric.runs.rows import read_rows, save_picture
from ric.runs.strays import left_beside, remove
from ric.runs.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ric.config import EditConfig
    from ric.data.edit_sample import EditSample
    from ric.data.photograph import Photograph
    from ric.runs.run import RunDir


OF_AN_ATTEMPT = frozenset({"also", "limit", "overwrite", "recursive", "redo", "retry_failed"})


class EditedPictures:
    """The folder of an edit run's pictures.

    What a killed process half wrote there is removed.

    Args:
        config: `--out`, `--format`, `--quality`, `--overwrite`.
        photos: What is edited; empty for a dataset, whose pictures are `images/<id>.png`.
        run: The run.

    Attributes:
        config: As given.
        run: As given.
        folder: The folder.
        uploads: Sends its pictures where `--out` is an address; else None.
        remade: The pictures of edits that are to be made anew, by id, as their rows named them.

    Raises:
        RicError: no installed package knows addresses such as that of `--out`.
    """

    def __init__(self, config: EditConfig, photos: Sequence[Photo], run: RunDir) -> None:
        """Create the folder; see the class."""
        self.config, self.run = config, run
        self._out, address = out_folder(config), out_address(config)
        self.folder = self._out or run.path / "images"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.uploads = Uploads(address, run) if address else None
        self.remade: dict[str, str] = {}
        places = {(self.folder / photo.result).parent for photo in photos} if self._out else ()
        for place in places:
            if place.is_dir():
                remove(left_beside(place / "any"))

    def begin(self, samples: Iterable[Photo | EditSample]) -> None:
        """Make `--out` this run's own, unless it is that already.

        Args:
            samples: All that are edited.

        Raises:
            RicError: the run has not begun to write, and `--out` holds files of its pictures'
                names, or cannot be listed.
        """
        if self.config.out is None:
            return
        if self.run.record.get("out") is None:
            if not self.config.overwrite:
                self.refuse_existing(samples)
            self.run.note(out=_place_of(self.config.out))
        elif self.uploads is not None:
            self.uploads.look()

    def refuse_existing(self, samples: Iterable[Photo | EditSample]) -> None:
        """Refuse to make edits whose files are in `--out` already.

        Raises:
            RicError: There are some, or it cannot be listed.
        """
        form = self.config.format
        if self._out is not None:
            refuse_existing(self.config, (one.result for one in samples if isinstance(one, Photo)))
        elif self.uploads is not None and (taken := self.uploads.folder.names()):
            names = (
                one.id + PurePath(planned_name(one.result, form)).suffix
                if isinstance(one, Photo)
                else f"{one.id}.png"
                for one in samples
            )
            refuse_taken(self.uploads.folder.address, [name for name in names if name in taken])

    def save(self, picture: Photograph, sample: Photo | EditSample) -> str:
        """Write an edit and return its path, as the run's rows record it.

        Raises:
            SampleError: its format cannot hold it.
        """
        form = result_format(picture.format, self.config.format)
        name = f"{sample.id}.png"
        if isinstance(sample, Photo):
            name = result_name(sample.result, form, self.config.format)
            if self._out is None:
                # two photos may share all but their suffixes, which the results may lose
                name = f"{sample.id}{Path(name).suffix}"
        try:
            content = picture.encoded(form, self.config.quality)
        except ImageError as error:
            raise SampleError(sample.id, "edited", error.message) from None
        save_picture(content, self.folder / name)
        return f"images/{name}" if self._out is None else str(self.folder / name)

    def path_of(self, name: str) -> Path:
        """Return the file of an edit, as its row records it."""
        return self.folder.parent / name if self._out is None else Path(name)

    def remove_replaced(self) -> None:
        """Remove pictures of edits that were made anew under another name.

        Where a photo of another format has come in place of one, its edit has another suffix.
        """
        if not self.remade:
            return
        named = {row["id"]: row["file_name"] for row in self.run.rows("edits")}
        still = set(named.values())
        for name, file in self.remade.items():
            if name in named and file not in still:
                self.path_of(file).unlink(missing_ok=True)

    def beside(self) -> list[Path]:
        """List edits of the same photos that earlier runs left in `--out` under other names.

        With another `--format` a command is a new run: what an earlier one made stays.
        """
        out = self.run.record.get("out")
        if out is None or self._out is None:
            return []
        mine = {Path(row["file_name"]) for row in self.run.rows("edits")}
        stems = {file.with_suffix("") for file in mine}
        return [
            file
            for path, record in list_runs(self.run.runs_dir)
            if record["command"] == "edit" and record.get("out") == out and path != self.run.path
            for row in read_rows(path, "edits")
            if (file := self.path_of(row["file_name"])).with_suffix("") in stems
            and file not in mine
            and file.is_file()
        ]

    def forget(self, sample: Photo | EditSample) -> str | None:
        """Remove the picture of an edit that now fails: it would be taken for a new one.

        Returns:
            Its path, as its row named it; None if there is none of this run's.
        """
        name = self.remade.get(sample.id)
        if not isinstance(sample, Photo):
            name = f"images/{sample.id}.png"
        if name is None or not self.path_of(name).is_file():
            return None
        self.path_of(name).unlink()
        return name


def run_into(config: EditConfig, runs_dir: Path) -> Path | None:
    """Find the latest run of the same command into the same `--out`; None if there is none.

    The attempt's own settings, such as `--redo`, and which photos there are may differ.
    """
    if config.out is None:
        return None
    out, now = _place_of(config.out), recorded_settings(as_dict(config))
    alike = (
        path
        for path, record in reversed(list_runs(runs_dir))
        if record["command"] == "edit"
        and record.get("out") == out
        and not differences(record, now, OF_AN_ATTEMPT)
    )
    return next(alike, None)


def _place_of(out: str) -> str:
    """Return `--out` as a run records it: whole, without passwords and a last slash."""
    return str(redacted(out)).rstrip("/") if is_url(out) else os.path.abspath(out)

"""The folder of an edit run's pictures: `images`, or for photos `--out`, as their tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import as_dict
from ric.data.images import ImageError
from ric.data.photo_results import refuse_existing, result_format, result_name
from ric.data.photos import Photo
from ric.errors import SampleError
from ric.runs.open_run import differences, recorded_settings
from ric.runs.record import list_runs
from ric.runs.rows import read_rows, save_picture
from ric.runs.strays import left_beside, remove

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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

    Raises:
        RicError: the run has not begun to write, and `--out` holds files of its pictures' names.
    """

    def __init__(self, config: EditConfig, photos: Sequence[Photo], run: RunDir) -> None:
        """Create the folder; see the class."""
        self.config, self.run = config, run
        self.folder = run.path / "images" if config.out is None else Path(config.out)
        self.folder.mkdir(parents=True, exist_ok=True)
        if config.out is None:
            return
        if run.record.get("out") is None:
            if not config.overwrite:
                refuse_existing(config, (photo.result for photo in photos))
            run.note(out=os.path.abspath(config.out))
        for place in {(self.folder / photo.result).parent for photo in photos}:
            if place.is_dir():
                remove(left_beside(place / "any"))

    def save(self, picture: Photograph, sample: Photo | EditSample) -> str:
        """Write an edit and return its path, as the run's rows record it.

        Raises:
            SampleError: its format cannot hold it.
        """
        form = result_format(picture.format, self.config.format)
        name = f"{sample.id}.png"
        if isinstance(sample, Photo):
            name = result_name(sample.result, form, self.config.format)
            if self.config.out is None:
                # two photos may share all but their suffixes, which the results may lose
                name = f"{sample.id}{Path(name).suffix}"
        try:
            content = picture.encoded(form, self.config.quality)
        except ImageError as error:
            raise SampleError(sample.id, "edited", error.message) from None
        save_picture(content, self.folder / name)
        return f"images/{name}" if self.config.out is None else str(self.folder / name)

    def path_of(self, name: str) -> Path:
        """Return the file of an edit, as its row records it."""
        return self.folder.parent / name if self.config.out is None else Path(name)

    def remove_replaced(self, before: Mapping[str, str]) -> None:
        """Remove pictures of edits that were made anew under another name.

        Where a photo of another format has come in place of one, its edit has another suffix.

        Args:
            before: What the rows named them before, by id.
        """
        if not before:
            return
        named = {row["id"]: row["file_name"] for row in self.run.rows("edits")}
        still = set(named.values())
        for name, file in before.items():
            if name in named and file not in still:
                self.path_of(file).unlink(missing_ok=True)

    def beside(self) -> list[Path]:
        """List edits of the same photos that earlier runs left in `--out` under other names.

        With another `--format` a command is a new run: what an earlier one made stays.
        """
        out = self.run.record.get("out")
        if out is None:
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

    def forget(self, sample: Photo | EditSample) -> None:
        """Remove a dataset's picture of an edit that now fails: it would be scored."""
        if not isinstance(sample, Photo):
            (self.folder / f"{sample.id}.png").unlink(missing_ok=True)


def run_into(config: EditConfig, runs_dir: Path) -> Path | None:
    """Find the latest run of the same command into the same `--out`; None if there is none.

    The attempt's own settings, such as `--redo`, and which photos there are may differ.
    """
    if config.out is None:
        return None
    out, now = os.path.abspath(config.out), recorded_settings(as_dict(config))
    alike = (
        path
        for path, record in reversed(list_runs(runs_dir))
        if record["command"] == "edit"
        and record.get("out") == out
        and not differences(record, now, OF_AN_ATTEMPT)
    )
    return next(alike, None)

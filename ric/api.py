"""`import ric`: editors, scores and drawn scenes from Python; docs/python.md shows them at work.

Everything here is what the commands do, with the same names and defaults. Models are found as the
commands find them: a run, a folder, `tiny`, or a hub id.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ric.config import EditConfig, EvalConfig, as_dict, command_of
from ric.data.drawn_scenes import SceneStream
from ric.data.masks import refuse_useless
from ric.data.photo_masks import read_mask
from ric.data.photograph import open_photograph
from ric.device import pick_device
from ric.editors.asking import ask
from ric.editors.editor import EditRequest, never_stop
from ric.editors.load import load_editor as load_by_name
from ric.editors.masked import feathered, put_back
from ric.errors import RicError, SampleError
from ric.recipes.edit import locate_models
from ric.recipes.evaluate import evaluate
from ric.registry import did_you_mean
from ric.runs.open_run import open_run
from ric.settings import ConfigT, resolve_config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ric.scoring.scores import Scores

    Picture = Image.Image | str | Path
    Pictures = str | Path | Sequence[Image.Image]


class LoadedEditor:
    """An editor with its model in memory; see `load_editor`."""

    def __init__(self, config: EditConfig) -> None:
        """Find and load the model; see `load_editor`."""
        if config.candidates > 1:
            raise RicError("candidates are chosen by ric edit alone.", "Omit candidates.")
        self.config = config
        device = pick_device(config.device)
        with (
            TemporaryDirectory() as folder,  # of a run that models are found from, and not kept
            open_run("edit", as_dict(config), runs_dir=Path(folder)) as run,
        ):
            model, further = locate_models(config, run)
        self._editor = load_by_name(config.editor, model, config, device, **further)

    def __call__(
        self,
        image: Picture,
        instruction: str = "",
        mask: Picture | np.ndarray | None = None,
        *,
        source_caption: str = "",
        target_caption: str = "",
        name: str = "picture",
        seed: int | None = None,
    ) -> Image.Image:
        """Edit a picture.

        Args:
            image: A picture or its file, of any size.
            instruction: An imperative sentence; editors that go from one caption to another read
                the captions instead.
            mask: White (or True) where to edit, of the picture's size: outside it, and the
                `feather` round it, every pixel stays.
            source_caption: What the picture shows.
            target_caption: What the edit is to show.
            name: Names the edit: its noise is a function of the name and the seed, as it is of the
                sample's id in `ric edit`.
            seed: Of this edit; None: that of `load_editor`.

        Returns:
            A picture of the same size, with the source's alpha and colour profile.

        Raises:
            RicError: the picture or mask cannot be read, the mask is of another size, empty or
                full, or the editor has no edit of it.
        """
        config = self.config
        photo = open_photograph(_source(image), max_pixels=config.max_pixels)
        whole = (0, 0, *photo.size)
        where = None if mask is None else _read_mask(mask, photo.size, config.max_pixels)
        request = EditRequest(
            id=name,
            image=photo.as_srgb(whole),
            instruction=instruction,
            source_text=source_caption,
            target_text=target_caption,
            mask=None if where is None else feathered(where, config.feather),
            seed=seed,
        )
        (edited,) = ask(self._editor, config.editor, [request], never_stop)
        if edited is None or isinstance(edited, SampleError):
            reason = edited.reason if edited else "its output is not finite"
            raise RicError(f"{config.editor} has no edit of this picture: {reason}.")
        return put_back(edited, photo, whole, where, config.feather).as_image()


def load_editor(name: str = "ip2p", **settings: Any) -> LoadedEditor:
    """Load an editor, to be called with pictures.

    Args:
        name: `ip2p`, `magicbrush`, `zone`, `ddpm-inversion`, `cds`, `none`, or one of your own
            (`my_file.py:Name`).
        settings: Those of `ric edit`, such as `preset="tiny"`, `unet="runs/00004-train-unet"`,
            `steps=20`, `seed=1` or `device="cuda"`.

    Raises:
        RicError: there is no such editor or setting, or its model is not here.
    """
    return LoadedEditor(_resolved(EditConfig, {**settings, "editor": name}))


def score(
    *, edited: Pictures, source: Pictures, target: Pictures | None = None, **settings: Any
) -> Scores:
    """Score edits against their sources, and against their exact targets where there are any.

    Args:
        edited: A folder, or a list of pictures.
        source: The pictures before the edits: a folder with files of the same names, or a list in
            the same order.
        target: Likewise; None where there are none.
        settings: Those of `ric eval`, such as `preset="tiny"`, `metrics="l1,clip_i"` or `texts`.

    Returns:
        The scores by name: `score(...)["l1"].value`, `.interval`, `.n`, `.unavailable`.

    Raises:
        RicError: no picture can be scored, or lists differ in length.
    """
    with TemporaryDirectory() as temporary:
        sides: Mapping[str, Pictures | None] = {
            "edited": edited, "source": source, "target": target
        }  # fmt: skip
        lengths = {len(side) for side in sides.values() if isinstance(side, list | tuple)}
        if len(lengths) > 1:
            raise RicError(f"The lists are of {' and '.join(map(str, sorted(lengths)))} pictures.")
        folders = {
            name: _folder(side, Path(temporary) / name)
            for name, side in sides.items()
            if side is not None
        }
        edits = (f"edited={folders.pop('edited')}",)
        config = _resolved(EvalConfig, {**settings, **folders, "edits": edits})
        with open_run("eval", as_dict(config), runs_dir=Path(temporary) / "runs") as run:
            return evaluate(config, run)[0]


def draw_scenes(
    count: int, *, seed: int = 0, size: int = 64, shadows: bool = True, photos: bool = False
) -> SceneStream:
    """Draw scenes with instructions and exact targets; pictures are drawn when they are loaded.

    Args:
        count: How many, over all splits.
        seed: Names the stream: the same count and seed give the same scenes.
        size: Width and height in pixels.
        shadows: Whether there are shadows and mirror images.
        photos: Whether photographs are behind the scenes.

    Returns:
        An iterable of `ric.data.edit_sample.EditSample`.

    Raises:
        RicError: a number is out of its range.
    """
    return SceneStream(count=count, size=size, seed=seed, shadows=shadows, photos=photos)


def _resolved(kind: type[ConfigT], settings: Mapping[str, Any]) -> ConfigT:
    """Resolve a command's settings as its flags are (raises RicError for one it lacks)."""
    known = [field.name for field in fields(kind)]
    for name in settings:
        if name not in known:
            hint = did_you_mean(name, known).strip() or None
            raise RicError(f"{command_of(kind)} has no setting {name!r}.", hint)
    flags = {
        name: str(value) if isinstance(value, Path) else value for name, value in settings.items()
    }
    return resolve_config(kind, flags)


def _source(image: Picture) -> Image.Image | Path:
    return image if isinstance(image, Image.Image) else Path(image)


def _read_mask(mask: Picture | np.ndarray, size: tuple[int, int], max_pixels: int) -> np.ndarray:
    if not isinstance(mask, np.ndarray):
        return read_mask(_source(mask), size, max_pixels=max_pixels)
    where = mask.astype(bool)
    if where.shape != size[::-1]:
        shape = "x".join(map(str, where.shape[::-1]))
        raise RicError(f"The mask is {shape}, and the picture {size[0]}x{size[1]}.")
    refuse_useless(where)
    return where


def _folder(pictures: Pictures, folder: Path) -> Path:
    """Return a folder as it is; write a list of pictures to one."""
    if isinstance(pictures, str | Path):
        return Path(pictures)
    folder.mkdir()
    for number, picture in enumerate(pictures):
        picture.convert("RGB").save(folder / f"{number:06d}.png")
    return folder

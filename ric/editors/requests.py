"""From samples and photos to an editor's requests, and from its pictures back to theirs."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ric.config import flag_of
from ric.data.columns import refuse_not_plain
from ric.data.file_state import file_state
from ric.data.images import ImageError, content_hash, picture_size
from ric.data.masks import refuse_useless
from ric.data.open_file import is_url
from ric.data.photo_masks import read_mask
from ric.data.photograph import Photograph, open_photograph
from ric.data.photos import Photo, is_raw
from ric.editors.candidates import Criteria
from ric.editors.editor import EditRequest
from ric.editors.masked import cut, feathered, put_back, window_round
from ric.editors.supplied import Supplied
from ric.errors import SampleError, first_line
from ric.models.table import judges_choose
from ric.registry import texts_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from PIL.Image import Image

    from ric.config import EditConfig
    from ric.data.images import PictureSource
    from ric.data.masks import Mask
    from ric.data.photograph import Box
    from ric.data.sample import EditSample
    from ric.editors.editor import Editor

# the settings that replace the data's own texts
TYPED = {
    "instruction": "instruction",
    "source_text": "source_caption",
    "target_text": "target_caption",
}
REMEMBERED_HASHES = 10_000  # a photo with several instructions is read once, and a changed one
PASTE_SETTINGS = ("feather", "crop_to_mask", "margin", "format", "quality")
NOT_FINITE = "The model's output is not finite: there is no picture (--dtype fp32 may help)."
BLACK = "The edit is black everywhere, as safety checkers make what they flag: it is not kept."
RAW = (
    "'{name}' is a camera's raw file, which is not read: develop it first, to TIFF or JPEG (with"
    " darktable or RawTherapee; in Python: pip install rawpy)."
)


@dataclass(frozen=True)
class Prepared:
    """An editor's request, and the picture that its edit goes back into.

    Attributes:
        sample: What is edited.
        request: What the editor is asked; its image is the window.
        picture: The picture in its own colours.
        window: The part of it that is edited.
        mask: Of the whole picture; None: everything in the window.
        mask_name: What the mask is called in the run's rows; None without one.
        inputs: As `inputs_of`.
        criteria: What is chosen by among candidates; None: there is one.
    """

    sample: Photo | EditSample
    request: EditRequest
    picture: Photograph
    window: Box
    mask: Mask | None
    mask_name: str | None
    inputs: dict[str, object]
    criteria: Criteria | None = None

    def facts(self, editor: Editor, config: EditConfig) -> dict[str, object]:
        """Return what the edit's row tells: its inputs, how it is put back, its working size."""
        facts = {**self.inputs, "inputs": digest_of(self.inputs), "mask": self.mask_name}
        if isinstance(self.sample, Photo):
            facts["source"] = str(self.sample.path)
            is_file = self.mask_name is not None and config.mask_text is None
            facts["mask_file"] = str(self.sample.mask) if is_file else None
        facts |= {name: getattr(config, name) for name in PASTE_SETTINGS}
        if self.mask is not None and config.crop_to_mask:
            facts["window"] = self.window
        cuts = getattr(editor, "cuts", None)
        if cuts is not None and cuts(self.request):
            facts["text_cut"] = True
        works_at = getattr(editor, "working_size", None)
        if works_at is not None:
            size = self.request.image.size
            facts |= {"size": size, "working_size": works_at(*size)}
        return facts

    def with_edit(self, edited: Image | SampleError | None, feather: int) -> Photograph:
        """Put an edit back into its picture.

        Args:
            edited: What the editor made: RGB in the window's size; None: nothing finite; or why
                there is no edit.
            feather: Pixels outside the mask over which the edit fades.

        Raises:
            SampleError: There is no edit, it is black, or its size is another.
        """
        if isinstance(edited, SampleError):
            raise edited
        reason = None
        if edited is None:
            reason = NOT_FINITE
        elif edited.size != self.request.image.size:
            (width, height), (wide, high) = edited.size, self.request.image.size
            reason = f"The editor returned {width}x{height} for a picture of {wide}x{high}."
        elif edited.getbbox() is None and self.request.image.getbbox() is not None:
            reason = BLACK
        if edited is None or reason:
            raise SampleError(self.request.id, "edited", str(reason))
        return put_back(edited.convert("RGB"), self.picture, self.window, self.mask, feather)

    def finished(self, edited: Image | SampleError | None, feather: int) -> Image | None:
        """Return the window of the picture with an edit in it, RGB; None where `with_edit` raises.

        Args:
            edited: As for `with_edit`.
            feather: As for `with_edit`.
        """
        try:
            return self.with_edit(edited, feather).as_srgb(self.window)
        except SampleError:
            return None


NOTHING = Supplied()


def inputs_of(
    sample: Photo | EditSample, config: EditConfig, supplied: Supplied = NOTHING
) -> dict[str, object]:
    """Return what an edit is made from, apart from the run's settings.

    Returns:
        `source_sha256` and, with a mask, `mask_sha256`, of the files' bytes, "" of one that cannot
        be read; `edited_at`, the target's size, where the source is resized to it; the texts that
        the editor reads, None for one that is missing; the seed.
    """
    source: PictureSource
    mask: PictureSource | None
    if isinstance(sample, Photo):
        source, mask = sample.path, sample.mask
    else:
        source, mask = sample.pictures.source, sample.pictures.mask
        mask = mask if config.mask == "data" else None
    inputs: dict[str, object] = {"source_sha256": _hash_of(source)}
    if mask is not None:
        inputs["mask_sha256"] = _hash_of(mask)
    if not isinstance(sample, Photo) and (size := _other_size(sample)) is not None:
        inputs["edited_at"] = size
    for name in texts_needed(config):
        inputs[name] = _text(sample, name, config, supplied)
    if "region_text" in texts_judged(config) and mask is None and not isinstance(sample, Photo):
        judged = sample.pictures.mask
        inputs["judged_mask_sha256"] = "" if judged is None else _hash_of(judged)
    return inputs | {"seed": config.seed if (own := _seed(sample)) is None else own}


def _hash_of(source: PictureSource) -> str:
    """Return `content_hash`; a file that was read before and has not changed is not read again."""
    state = file_state(source) if isinstance(source, Path) else []
    return _remembered_hash(source, tuple(state)) if state else content_hash(source)


@lru_cache(REMEMBERED_HASHES)
def _remembered_hash(source: Path, state: tuple[int, ...]) -> str:
    return content_hash(source)


def _other_size(sample: EditSample) -> tuple[int, int] | None:
    """Return the size of a sample's target where its source has another, and is resized to it."""
    about = sample.pictures
    if about.target is None:
        return None
    if any(isinstance(one, str) and is_url(one) for one in (about.source, about.target)):
        return None  # no file is fetched for it
    try:
        size = sample.picture_size()
        own = picture_size(about.source, max_pixels=about.max_pixels)
    except (SampleError, ImageError):
        return None  # it fails, or is made anew when it can be read
    return None if size == own else size


def digest_of(inputs: Mapping[str, object]) -> str:
    """Return one short text for the inputs of an edit: it changes with any of them."""
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def prepare(
    batch: Sequence[Photo | EditSample],
    config: EditConfig,
    on_failure: Callable[[Photo | EditSample, SampleError, str], None],
    supplied: Supplied = NOTHING,
) -> Iterator[Prepared]:
    """Open the pictures of a batch.

    Args:
        batch: Samples or photos.
        config: The command's settings.
        on_failure: Called with what cannot be edited, the reason, and the digest of its inputs.
        supplied: Texts of describe runs, and the finder of masks.
    """
    for sample in batch:
        inputs = inputs_of(sample, config, supplied)
        try:
            yield _prepared(sample, config, supplied, inputs)
        except ImageError as error:
            reason = SampleError(sample.id, "source", error.message)
            on_failure(sample, reason, digest_of(inputs))
        except SampleError as error:
            on_failure(sample, error, digest_of(inputs))


def _prepared(
    sample: Photo | EditSample,
    config: EditConfig,
    supplied: Supplied,
    inputs: dict[str, object],
) -> Prepared:
    if isinstance(sample, Photo):
        refuse_not_plain(sample.id, sample.path.name)
        if is_raw(sample.path):
            raise ImageError(RAW.format(name=sample.path.name))
        picture = open_photograph(sample.path, max_pixels=config.max_pixels)
    else:
        picture = Photograph(sample.load_source())
    mask: Mask | None
    name: str | None
    if supplied.find_mask is not None:
        mask, name = _found_mask(supplied.find_mask, sample, picture, config)
    elif isinstance(sample, Photo):
        mask, name = _mask_of_photo(sample, picture, config)
    else:
        mask, name = _mask_of_sample(sample, config)
    window: Box = (0, 0, *picture.size)
    if mask is not None and config.crop_to_mask:
        window = window_round(mask, max(config.margin, config.feather), config.image_size)
    criteria = _criteria(sample, config, supplied, mask, window)
    request = EditRequest(
        sample.id,
        picture.as_srgb(window),
        mask=None if mask is None else cut(feathered(mask, config.feather), window),
        seed=_seed(sample),
        **_texts_for(sample, config, supplied),
    )
    return Prepared(sample, request, picture, window, mask, name, inputs, criteria)


def texts_needed(config: EditConfig) -> tuple[str, ...]:
    """List the texts that an edit depends on: the editor's and the judges'."""
    return (*texts_read("editor", config.editor), *texts_judged(config))


def texts_judged(config: EditConfig) -> tuple[str, ...]:
    """List the texts that judges choose among candidates by; none where no judge chooses."""
    if not judges_choose(config):
        return ()
    judges = {"region_text": config.region_clip, "scene_text": config.scene_blip}
    return tuple(text for text, judge in judges.items() if judge is not None)


def _criteria(
    sample: Photo | EditSample,
    config: EditConfig,
    supplied: Supplied,
    mask: Mask | None,
    window: Box,
) -> Criteria | None:
    """Return what to choose a candidate by; None if there is one (raises SampleError)."""
    if supplied.chooser is None:
        return None
    is_region_judged = "region_text" in texts_judged(config)
    if is_region_judged and mask is None and not isinstance(sample, Photo) and sample.has_mask:
        mask = sample.load_mask()  # although all may change
    texts = {name: _text(sample, name, config, supplied) for name in texts_judged(config)}
    region = None if mask is None else cut(mask, window)
    criteria = Criteria(texts.get("region_text"), texts.get("scene_text"), region)
    supplied.chooser.refuse_useless(sample.id, criteria)
    return criteria


def _found_mask(
    find_mask: Callable[[Image], Mask],
    sample: Photo | EditSample,
    picture: Photograph,
    config: EditConfig,
) -> tuple[Mask | None, str | None]:
    """Find what `--mask-text` names.

    Raises:
        SampleError: that is nothing, or everything, or the network cannot look at the picture.
    """
    image = picture.as_srgb((0, 0, *picture.size))
    try:
        mask = find_mask(image)
    except Exception as error:  # a network's own refusal, such as of a very narrow picture
        reason = f"--mask-text could not look at it: {first_line(error)}"
        raise SampleError(sample.id, "mask", reason) from error
    if not mask.any():
        reason = f"Nothing in the picture looks like '{config.mask_text}'."
        raise SampleError(sample.id, "mask", reason)
    try:
        refuse_useless(mask)
    except ImageError as error:
        raise SampleError(sample.id, "mask", f"'{config.mask_text}': {error.message}") from None
    return mask, f"text: {config.mask_text}"


def _mask_of_photo(
    photo: Photo, picture: Photograph, config: EditConfig
) -> tuple[Mask | None, str | None]:
    """Read a photo's mask (raises SampleError if one was asked for and there is none)."""
    if photo.mask is None:
        if config.mask not in (None, "none"):
            where = "beside it" if config.mask == "data" else f"in {config.mask}"
            raise SampleError(photo.id, "mask", f"There is no mask of '{photo.name}' {where}.")
        return None, None
    try:
        mask = read_mask(photo.mask, picture.size, max_pixels=config.max_pixels)
    except ImageError as error:
        raise SampleError(photo.id, "mask", error.message) from None
    return mask, photo.mask.name


def _mask_of_sample(sample: EditSample, config: EditConfig) -> tuple[Mask | None, str | None]:
    """Read a sample's own mask, if asked for; none is derived, which would need the target."""
    if config.mask != "data":
        return None, None
    if not sample.has_mask:
        about = sample.pictures
        reason = f"No mask in {about.described_in}. Add {about.mask_column} to that row."
        raise SampleError(sample.id, "mask", reason)
    return sample.load_mask(), "data"


def _seed(sample: Photo | EditSample) -> int | None:
    return sample.seed if isinstance(sample, Photo) else None


def _text(
    sample: Photo | EditSample, name: str, config: EditConfig, supplied: Supplied
) -> str | None:
    """Return a photo's own instruction, else the text typed, else a run's, else the sample's.

    A run has the texts of an edit, or those of its photo, which all edits of the photo share.
    """
    typed: str | None = getattr(config, TYPED[name]) if name in TYPED else None
    own: str | None = getattr(sample, name, None)
    if isinstance(sample, Photo) and own is not None:
        return own
    if typed is not None:
        return typed
    ids = (sample.id, sample.alone) if isinstance(sample, Photo) else (sample.id,)
    told = (supplied.captions.get(one, {}).get(name) for one in ids)
    return next((text for text in told if text is not None), own)


def _texts_for(
    sample: Photo | EditSample, config: EditConfig, supplied: Supplied
) -> dict[str, str]:
    """Return the texts that the editor reads: typed ones, else a run's, else the sample's own.

    Raises:
        SampleError: it reads captions, and one is missing.
    """
    texts = {"instruction": ""}
    lacking = []
    for name in texts_read("editor", config.editor):
        text = _text(sample, name, config, supplied)
        if text is None:
            lacking.append(name)
        else:
            texts[name] = text
    if lacking:
        flags = " ".join(f'{flag_of(TYPED[name])} "…"' for name in lacking)
        raise SampleError(
            sample.id,
            "captions",
            f"--editor {config.editor} goes from one caption to another, and there is no"
            f" {' and no '.join(lacking)}. Add the columns source_text and target_text, name a"
            f" describe run that has them, --captions RUN, or type {flags}",
        )
    return texts

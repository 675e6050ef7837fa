"""Resolve the name of a weight, as a flag gives it, to a path that can be loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ric.errors import RicError
from ric.model_files import PICKLE_SUFFIXES
from ric.weights.connection import NO_DOWNLOAD_HINT
from ric.weights.fetch import get_weights
from ric.weights.loadable import accept
from ric.weights.table import Weight, find_weight

if TYPE_CHECKING:
    from ric.progress import Progress


def resolve_weights(
    name: str,
    *,
    weights_dir: str | Path | None = None,
    needs: str = "",
    kind: str = "",
    progress: Progress | None = None,
    instead: str = NO_DOWNLOAD_HINT,
) -> Path:
    """Find pretrained weights on this machine, or download them.

    Looks at a local path, then in `weights_dir` (`org--name`, `org/name`, `name`), in what `ric`
    converted, in the hub's cache (HF_HUB_CACHE, HF_HOME) or torch's (TORCH_HOME), and then
    downloads them.

    Args:
        name: A path, a hub id, or an id or file name of the table.
        weights_dir: The folder given with `--weights`.
        needs: What needs them, for the message: `ric fit-clip`, `the DINO metric`.
        kind: What a folder must hold: a row of `model_files.PARTS`; "" looks for weights alone.
        progress: Where downloads and conversions are reported.
        instead: What needs no download, for the message; as `no_download` says it.

    Returns:
        A folder that holds safetensors, or the file.

    Raises:
        RicError: They are not here and cannot be downloaded, are only pickles, or are incomplete.
    """
    weight = find_weight(name)
    if weight is not None and weight.kind == "embedded":
        raise RicError(
            f"{name!r} is the embedded family, which is not a folder of weights.",
            "Use --preset tiny, which loads its members.",
        )
    local = Path(name)
    if local.exists():
        return accept(local, kind)
    if weights_dir is not None and not Path(weights_dir).is_dir():
        raise RicError(
            f"The weights folder {weights_dir} does not exist.",
            "Give --weights the folder that holds org--name folders, or omit it.",
        )
    found = get_weights(
        weight or unlisted(name), progress, weights_dir=weights_dir, needs=needs, instead=instead
    )
    return accept(found, kind)


def unlisted(name: str) -> Weight:
    """Make a row for a hub id that the table does not list.

    Raises:
        RicError: The name is that of a pickle, or is not a hub id.
    """
    if Path(name).suffix in PICKLE_SUFFIXES:
        raise RicError(
            f"{name} does not exist, and a pickle would not be loaded: it could run any code.",
            "Convert one with: ric weights convert FILE OUT",
        )
    # two parts at most, as the hub allows them; anything else was meant as a path
    if not re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", name):
        raise RicError(
            f"There is no folder {name}, and it is not a hub id either.",
            "Give an existing folder, or a hub id such as timbrooks/instruct-pix2pix.",
        )
    return Weight(
        id=name,
        kind="hub",
        revision="main",
        size_bytes=0,
        licence="licence: see its model card",
        conditions="",
        purpose="",
    )

"""Which links out of a folder are those of the Hugging Face hub's own cache.

A snapshot there, `datasets--ORG--NAME/snapshots/REVISION`, holds links into `blobs` of the same
repository. Since huggingface_hub 2 such a blob may itself be a link to `blobs/HH/HHHH…` beside the
repositories, which they share; its name is the 64 digits of its hash.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def is_blob_of(folder: str, file: str) -> bool:
    """Whether a file is where the hub's cache keeps what a snapshot holds.

    Args:
        folder: A snapshot, or a folder below one, once all links are followed.
        file: Where a path in it leads, once all links are followed.
    """
    path, blob = PurePosixPath(folder), PurePosixPath(file)
    for place in (path, *path.parents):
        repository = place.parent.parent
        if place.parent.name == "snapshots" and "--" in repository.name:
            break
    else:
        return False
    if blob.parent == repository / "blobs":
        return True
    is_hash = re.fullmatch("[0-9a-f]{64}", blob.name) is not None
    return is_hash and blob.parent == repository.parent / "blobs" / blob.name[:2]

"""Recognise links out of a folder that belong to the Hugging Face hub's own cache.

A snapshot there, `datasets--ORG--NAME/snapshots/REVISION`, holds links into `blobs` of the same
repository. Since huggingface_hub 2 such a blob may itself be a link to `blobs/HH/HHHH…` in a folder
beside the repositories that they all share; its name is the 64 hex digits of its hash.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath


def is_blob_of(folder: str, file: str) -> bool:
    """Tell whether a file is a blob in the hub's cache that belongs to a snapshot.

    Args:
        folder: A snapshot, or a folder below one, with all links resolved.
        file: Where a path in it leads, with all links resolved.
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

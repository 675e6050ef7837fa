"""Every pretrained weight `ric` may need: what it is, where it lies, and how it gets here.

One table, `WEIGHTS`, and one way in, `resolve_weights`: a local path, then the folder given with
`--weights`, then what `ric` converted itself, then the hub's cache and torch's, and only then a
download, after one connection attempt of three seconds. Nothing heavy is imported on the way, so a
machine without a connection reports within seconds what is missing.
"""

from ric.weights.check import check_weights
from ric.weights.connection import no_download, require_connection
from ric.weights.digest import is_published, weights_digest
from ric.weights.fetch import get_weights
from ric.weights.find import is_present, revision_of
from ric.weights.resolve import resolve_weights
from ric.weights.table import WEIGHTS, Weight, find_weight, size_in_words

__all__ = [
    "WEIGHTS",
    "Weight",
    "check_weights",
    "find_weight",
    "get_weights",
    "is_present",
    "is_published",
    "no_download",
    "require_connection",
    "resolve_weights",
    "revision_of",
    "size_in_words",
    "weights_digest",
]

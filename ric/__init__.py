"""Region in Context: text-driven image edits that belong to their picture.

`ric.load_editor`, `ric.score` and `ric.draw_scenes` are the commands from Python; `RegionEncoder`,
`SceneEncoder` and `RegionInContextObjective` are the method. They are imported when they are first
used, so that `import ric` costs nothing. docs/python.md shows them at work.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ric.api import draw_scenes, load_editor, score
    from ric.errors import RicError
    from ric.method.objective import RegionInContextObjective
    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder

    __version__: str

_PLACES = {
    "load_editor": "ric.api",
    "score": "ric.api",
    "draw_scenes": "ric.api",
    "RicError": "ric.errors",
    "RegionEncoder": "ric.method.region_encoder",
    "SceneEncoder": "ric.method.scene_encoder",
    "RegionInContextObjective": "ric.method.objective",
}
__all__ = [
    "RegionEncoder",
    "RegionInContextObjective",
    "RicError",
    "SceneEncoder",
    "__version__",
    "draw_scenes",
    "load_editor",
    "score",
]


def __getattr__(name: str) -> Any:
    """Import one of `__all__` on first use."""
    if name == "__version__":
        from importlib.metadata import version

        return version("ric")
    if name not in _PLACES:
        raise AttributeError(f"module 'ric' has no attribute {name!r}")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """List what there is, for completion."""
    return sorted({*globals(), *__all__})

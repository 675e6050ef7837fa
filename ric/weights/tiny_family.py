"""The embedded family's folder: small real models, trained on drawn scenes by `ric` itself."""

from __future__ import annotations

import os
from pathlib import Path

SHIPPED = Path(__file__).parents[1] / "assets" / "tiny"


def tiny_family() -> Path:
    """Return the folder of the embedded family, or of the one that RIC_TINY_FAMILY names."""
    other = os.environ.get("RIC_TINY_FAMILY")
    return Path(other).expanduser() if other else SHIPPED

"""Groups of samples by the size of the edited region."""

from __future__ import annotations

# name and largest share of the picture
REGION_SIZES = {"region up to 5 %": 0.05, "region of 5 to 20 %": 0.2, "region over 20 %": 1.0}


def region_size(share: float) -> str:
    """Name the group of a region that covers this share, 0 to 1, of its picture."""
    return next(name for name, most in REGION_SIZES.items() if share <= most)

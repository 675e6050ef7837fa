"""Profiles whose colours differ from sRGB's are told from those that only say sRGB."""

from __future__ import annotations

import pytest
from display_p3 import adobe_rgb, display_p3, grey_gamma
from PIL import Image, ImageCms

from ric.data.colour_profiles import has_other_profile


@pytest.mark.parametrize(
    ("mode", "profile", "is_other"),
    [
        ("RGB", adobe_rgb(), True),
        ("RGBA", display_p3(), True),
        ("P", adobe_rgb(), True),
        ("L", grey_gamma(), True),
        ("RGB", ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), False),
        ("RGB", b"broken", False),
        ("L", adobe_rgb(), False),  # of another kind of picture
        ("RGB", None, False),
    ],
)
def test_a_profile_counts_where_it_changes_colours(mode, profile, is_other, tmp_path):
    file = tmp_path / "a.png"
    Image.new(mode, (4, 3)).save(file, icc_profile=profile)
    assert has_other_profile(file) is is_other

"""Which outputs have their reference's shape, and how others are brought to it."""

from __future__ import annotations

import pytest

from ric.metrics.pairs import has_shape_of


@pytest.mark.parametrize(
    ("size", "same"),
    [((512, 512), True), ((1024, 1024), True), ((504, 500), True), ((506, 500), False),
     ((500, 504), True), ((500, 506), False), ((512, 768), False)],
)  # fmt: skip
def test_an_aspect_may_be_off_by_one_percent_and_no_more(size, same):
    assert has_shape_of(size, (512, 512)) is same
    assert has_shape_of((size[0], 2 * size[1]), (256, 512)) is same

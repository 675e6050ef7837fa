"""Line charts as SVG: where points stand, what the axes say, and which metrics are shown."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from ric.report.line_chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MOST_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    charts_of,
    draw_chart,
    thinned,
    ticks,
)


def points(svg: str) -> list[list[tuple[float, float]]]:
    lines = ElementTree.fromstring(svg).findall("polyline")
    return [
        [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.get("points").split())]
        for line in lines
    ]


def test_points_stand_where_their_step_and_value_are_between_the_corners_of_the_plot():
    chart = draw_chart("Recall", {"a": [(0, 0.0), (5, 0.5), (10, 1.0)]}, (0.0, 1.0))
    middle = (LEFT + (WIDTH - LEFT - RIGHT) / 2, TOP + (HEIGHT - TOP - BOTTOM) / 2)
    assert points(chart.svg) == [[(LEFT, HEIGHT - BOTTOM), middle, (WIDTH - RIGHT, TOP)]]
    assert chart.lines == [("a", "1")]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0.13, 0.87, [0.2, 0.4, 0.6, 0.8]),
        (-3, 12, [0, 5, 10]),
        (1000, 9000, [2000, 4000, 6000, 8000]),
        (0.0012, 0.0031, [0.0015, 0.002, 0.0025, 0.003]),
    ],
)
def test_ticks_are_round_values_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_steps_are_never_divided():
    assert ticks(1, 4, whole=True) == [1, 2, 3, 4]
    assert ticks(1, 2, whole=True) == [1, 2]


def test_a_long_line_is_thinned_to_means_and_keeps_its_last_point():
    long = [(float(x), math.sin(x)) for x in range(10_000)]
    short = thinned(long)
    assert len(short) <= MOST_POINTS
    assert short[-1] == long[-1]
    size = -(-len(long) // MOST_POINTS)
    assert short[3][1] == pytest.approx(sum(y for _, y in long[3 * size : 4 * size]) / size)
    assert thinned(long[:MOST_POINTS]) == long[:MOST_POINTS]


def test_losses_and_recalls_are_shown_and_a_value_that_is_missing_or_infinite_is_left_out():
    rows = [
        {"step": 1, "loss": 2.0, "loss_region": None, "lr": 1.0},
        {"step": 2, "loss": math.nan, "val_i2t_recall_at_1": 0.5},
        {"step": 3, "loss": 1.0, "loss_region": 0.25},
    ]
    loss, recall = charts_of(rows)
    assert (loss.title, recall.title) == ("Loss", "Recall at 1")
    assert loss.lines == [("loss", "1"), ("loss region", "0.25")]
    assert [len(line) for line in points(loss.svg)] == [2, 1]
    assert recall.lines == [("val image to text", "0.5")]
    assert charts_of([{"step": 1, "lr": 1.0}]) == []


def test_one_value_and_equal_values_have_a_chart_too():
    for values in ([(7, 0.0)], [(1, 3.0), (2, 3.0)]):
        drawn = points(draw_chart("Loss", {"loss": values}).svg)
        assert all(TOP <= y <= HEIGHT - BOTTOM for line in drawn for _, y in line)


def test_a_metrics_name_cannot_end_the_drawing():
    svg = draw_chart("Loss", {'loss"/><script>': [(1, 1.0), (2, 2.0)]}).svg
    assert re.search("<script", svg) is None
    assert 'loss"' in ElementTree.fromstring(svg).get("aria-label")

"""Line charts as SVG, drawn here: without a script, in the colours of the page's sheet."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Points = list[tuple[float, float]]

WIDTH, HEIGHT = 440, 220
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 10, 26  # margins around the plot, in the SVG's units
MOST_POINTS = 400  # of a line: more than its width in pixels shows nothing new
COLOURS = 6  # classes s0 to s5 of the sheet
# title, the metrics of metrics.jsonl that it shows, the range of its axis
CHARTS: tuple[tuple[str, str, tuple[float, float] | None], ...] = (
    ("Loss", r"^loss", None),
    ("Recall at 1", r"recall_at_1$", (0.0, 1.0)),
    ("Recall at 5", r"recall_at_5$", (0.0, 1.0)),
    ("Cosine with the text", r"^cos_", None),
)


class Chart(NamedTuple):
    """A drawn chart.

    Attributes:
        title: What it shows.
        svg: The drawing.
        lines: Each line's name and its last value, in the order of the colours.
    """

    title: str
    svg: Markup
    lines: list[tuple[str, str]]


def charts_of(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Draw the losses, recalls and cosines of a training; a chart without a value is left out.

    Args:
        rows: Its metrics.jsonl.
    """
    names = list(dict.fromkeys(key for row in rows for key in row))
    charts = []
    for title, pattern, between in CHARTS:
        lines = {name: _points(rows, name) for name in names if re.search(pattern, name)}
        lines = {name: points for name, points in lines.items() if points}
        if lines:
            charts.append(draw_chart(title, lines, between))
    return charts


def _points(rows: Sequence[Mapping[str, Any]], name: str) -> Points:
    pairs = ((_number(row.get("step")), _number(row.get(name))) for row in rows)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _number(value: object) -> float | None:
    is_one = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if is_one else None  # type: ignore[arg-type]


def draw_chart(
    title: str, lines: Mapping[str, Points], between: tuple[float, float] | None = None
) -> Chart:
    """Draw lines over steps.

    Args:
        title: What it shows.
        lines: Each line's (step, value) pairs, finite and in order; at least one pair in all.
        between: The range of the value axis; None: that of the values.
    """
    values = [y for points in lines.values() for _, y in points]
    steps = [x for points in lines.values() for x, _ in points]
    low, high = between or _padded(min(values), max(values))
    first, last = min(steps), max(max(steps), min(steps) + 1)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        right = (x - first) / (last - first) * across
        up = (min(max(y, low), high) - low) / (high - low) * down
        return round(LEFT + right, 1), round(TOP + down - up, 1)

    parts = []
    for y in ticks(low, high):
        at = place(first, y)[1]
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text class="y" x="{LEFT - 8}" y="{at + 4}">{_short(y)}</text>')
    for x in ticks(first, last, whole=True):
        at = place(x, low)[0]
        anchor = "end" if at > WIDTH - RIGHT - 16 else "middle"
        place_of_text = f'x="{at}" y="{HEIGHT - 8}" text-anchor="{anchor}"'
        parts.append(f"<text {place_of_text}>{_short(x)}</text>")
    for number, points in enumerate(lines.values()):
        placed = [place(x, y) for x, y in thinned(points)]
        colour = f"s{number % COLOURS}"
        path = " ".join(f"{x},{y}" for x, y in placed)
        parts.append(f'<polyline class="{colour}" points="{path}"/>')
        if len(placed) < 20:
            parts += [f'<circle class="{colour}" cx="{x}" cy="{y}" r="2.5"/>' for x, y in placed]
    told = ", ".join(lines)
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} over steps:'
    # escaped above and below; all else is numbers
    svg = Markup(f'{head} {escape(told)}">{"".join(parts)}</svg>')
    return Chart(title, svg, [(in_words(name), _short(p[-1][1])) for name, p in lines.items()])


def ticks(low: float, high: float, *, whole: bool = False) -> list[float]:
    """Return three to seven round values in a range, ascending.

    Args:
        low: The range's begin.
        high: Its end, above `low`.
        whole: None between whole numbers.
    """
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    if whole:
        step = max(1.0, math.ceil(step))
    begin, end = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(begin, end + 1)]


def thinned(points: Points) -> Points:
    """Return at most `MOST_POINTS` points: means over runs of equally many, the last one kept."""
    size = -(-len(points) // MOST_POINTS)
    if size < 2:
        return points
    means = []
    for start in range(0, len(points) - 1, size):
        some = points[start : start + size]
        means.append((sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some)))
    return [*means[: MOST_POINTS - 1], points[-1]]


def in_words(name: str) -> str:
    """Return a metric's name as a reader says it: `val_i2t_recall_at_1` is one of val's."""
    words = re.sub(r"_?recall_at_\d+$", "", name).replace("i2t", "image to text")
    return words.replace("t2i", "text to image").replace("_", " ") or name.replace("_", " ")


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
    # a loss of zero stays on the axis
    return (min(low, 0.0) if 0 <= low < 0.4 * high else low - room), high + room


def _short(value: float) -> str:
    return f"{value:.4g}"

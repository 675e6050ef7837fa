"""Plot a run's metrics over its steps, as `curves.png`."""

from __future__ import annotations

import re
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from ric.runs.rows import save_picture

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ric.runs.run import RunDir

SIZE = (10.0, 3.2)  # inches, one row of plots, at 110 dpi


class Panel(NamedTuple):
    """One plot: the metrics whose names match a pattern, over the steps."""

    title: str
    pattern: str
    between: tuple[float, float] | None = None  # range of the y axis; None: automatic


def draw_curves(run: RunDir, panels: Sequence[Panel]) -> Path:
    """Plot metrics.jsonl, two panels in a row; return the picture's file.

    Args:
        run: A run with at least one logged row.
        panels: What is drawn; metrics that no row holds are left out.
    """
    rows = run.metrics()
    figure = Figure(figsize=(SIZE[0], SIZE[1] * -(-len(panels) // 2)), dpi=110, layout="tight")
    for place, panel in enumerate(panels, 1):
        axes = figure.add_subplot(-(-len(panels) // 2), 2, place)
        names = dict.fromkeys(key for row in rows for key in row if re.search(panel.pattern, key))
        for name in names:
            drawn = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            steps, values = zip(*drawn, strict=True) if drawn else ((), ())
            axes.plot(steps, values, label=name, marker="o" if len(steps) < 20 else "", ms=3)
        axes.set_title(panel.title, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=8)
        if panel.between:
            axes.set_ylim(*panel.between)
        if len(names) > 1:
            axes.legend(fontsize=7)
    file, stream = run.path / "curves.png", BytesIO()
    figure.savefig(stream)
    save_picture(stream.getvalue(), file)
    return file

"""The numbers of the paper's Tables 1, 2 and 3, and a table of them beside one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ric.metric_table import METRICS
from ric.scoring.score_table import NOT_AVAILABLE
from ric.scoring.scores import THE_SIX
from ric.table_text import in_markdown, in_prose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ric.scoring.scores import Scores

# Models by a name of their own, each with the six of Table 1's columns: CLIP-I, DINO, CLIP-T,
# LPIPS, FID, IS. A model that several tables show has the same numbers in all of them.
NUMBERS: dict[str, tuple[float, ...]] = {
    # Table 1
    "ip2p": (0.7531, 0.8900, 0.8390, 0.5008, 139.60, 9.1981),
    "ours-ip2p": (0.9146, 0.9736, 0.9337, 0.2042, 77.07, 10.4931),
    "mb": (0.8939, 0.9646, 0.9057, 0.2448, 88.96, 9.8105),
    "ours-mb": (0.9040, 0.9664, 0.9207, 0.2263, 85.61, 9.6078),
    "zone": (0.9569, 0.9906, 0.9319, 0.0650, 44.63, 10.7947),
    "ours-zone": (0.9729, 0.9955, 0.9332, 0.0409, 27.53, 11.3038),
    "cds": (0.9605, 0.9941, 0.9239, 0.0938, 29.50, 10.9578),
    "ddpm-inversion": (0.8433, 0.9611, 0.8584, 0.2567, 105.45, 10.7182),
    # Table 2
    "plain-ip2p": (0.9054, 0.9680, 0.9249, 0.2287, 83.13, 9.6015),
    "plain-mb": (0.8793, 0.9517, 0.9046, 0.2696, 104.82, 8.9593),
    # Table 3
    "no-scene-loss": (0.8851, 0.9565, 0.9089, 0.2583, 102.63, 9.5514),
    "no-region-loss": (0.8806, 0.9569, 0.9136, 0.2600, 99.59, 9.1468),
    "no-gated-fusion": (0.8688, 0.9518, 0.8996, 0.2942, 102.79, 9.2767),
}
# What the paper says each one is (Sec. 4), in its own words.
DEFINITIONS = {
    "clip_i": "CLIP-based similarity between the edited image and the input image",
    "dino": "assesses semantic consistency using DINO-ViT features",
    "clip_t": "CLIP-based similarity between the edited image and the target text",
    "lpips": "captures perceptual similarity",
    "fid": "evaluates distributional realism against the ground-truth images",
    "is": "quantifies the diversity and quality of generated outputs",
}


def beside_the_paper(rows: Sequence[Scores], models: Mapping[str, str]) -> str:
    """Return a Markdown table of scores with the paper's beside them, and both definitions.

    Args:
        rows: The score table of an eval run; source and ground truth have no number in the paper.
        models: Which of `NUMBERS` each row's label is.
    """
    headings = [f"{METRICS[key].heading} {_arrow(key)} here | paper" for key in THE_SIX]
    lines = ["| | " + " | ".join(headings) + " |", "|---" * (1 + 2 * len(THE_SIX)) + "|"]
    for row in rows:
        numbers = NUMBERS[models[row.label]] if row.label in models else (None,) * len(THE_SIX)
        cells = []
        for key, number in zip(THE_SIX, numbers, strict=True):
            cells += [
                row[key].number or NOT_AVAILABLE,
                "" if number is None else _printed(key, number),
            ]
        lines.append(f"| {in_markdown(row.marked_label)} | {' | '.join(cells)} |")
    told = [f"- {_heading(rows, key)}" for key in THE_SIX]
    return "\n".join([*lines, "", *told]) + "\n"


def _printed(key: str, number: float) -> str:
    """Print a number with the paper's digits: two of FID, four of the others."""
    return f"{number:.2f}" if key == "fid" else f"{number:.4f}"


def _arrow(key: str) -> str:
    return "↑" if METRICS[key].higher_is_better else "↓"


def _heading(rows: Sequence[Scores], key: str) -> str:
    """Say what a score is here and in the paper."""
    score = rows[0][key]
    here = in_prose(score.unavailable or score.definition)
    marker = f"[{score.marker}]" if score.marker else ""
    return f"{METRICS[key].heading}{marker}: here {here}. The paper: “{DEFINITIONS[key]}”."

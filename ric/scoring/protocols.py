"""Notes that a protocol adds to its scores.

Two of MagicBrush's rules differ from ric's: its networks see an output at the output's own size,
where ric's see it at the reference's unless its protocol is chosen, and a caption over 77 tokens
stops its script, where ric cuts and counts it. The paper pins down its networks' names and what
they compare; its CLIP-T of .84 to .93 is not the cosine of an image and a text in any of them (a
MagicBrush ground truth has .29 to .31).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ric.config import EvalProtocol
    from ric.scoring.scores import Scores

NOTES: dict[EvalProtocol, dict[str, str]] = {
    "magicbrush": {"clip_t": "The ground truth's is what the script calls the oracle."},
    "paper": {"clip_t": "The paper's CLIP-T cannot be reproduced from its text."},
}


def by_protocol(scores: Scores, protocol: EvalProtocol) -> Scores:
    """Return the scores with the notes that a protocol adds."""
    notes = NOTES.get(protocol, {})
    told = [
        replace(score, note=" ".join(filter(None, (score.note, notes.get(score.key)))) or None)
        for score in scores.scores
    ]
    return replace(scores, scores=tuple(told))

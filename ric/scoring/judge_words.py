"""The record of a judge of `ric eval` in the words of tables and pages; loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ric.metric_table import METRICS

if TYPE_CHECKING:
    from collections.abc import Mapping


def judge_in_words(told: Mapping[str, Any]) -> list[str]:
    """Say in a few lines what `note_judge` has noted."""
    name = told.get("model") or told["back_end"]
    revision = f", revision {told['revision']}" if told.get("revision") else ""
    malformed = told.get("malformed", {})
    kinds = ", ".join(f"{one} {count}" for one, count in malformed.items())
    lines = [
        f"Judge: {name} ({told['back_end']}{revision}, seed {told['seed']});"
        f" {told.get('questions', 0)} questions, {sum(malformed.values())} malformed answers"
        f"{f' ({kinds})' if kinds else ''}, {told.get('unanswered', 0)} questions without a"
        " readable one. Scores by another judge, or by other words than the prompts in scores.json,"
        " are not comparable."
    ]
    for question, bias in told.get("position_bias", {}).items():
        low, high = bias["low"], bias["high"]
        interval = "" if low is None else f" [{low:+.2f}, {high:+.2f}]"
        lines.append(
            f"Position bias of {question} (N = {bias['n']}): {bias['mean']:+.2f}{interval} if the"
            f" source is shown first; {100 * bias['equal']:.0f} % of edits have equal scores."
        )
    if agreement := told.get("agreement"):
        lines += _agreement_in_words(agreement)
    return lines


def _agreement_in_words(agreement: Mapping[str, Any]) -> list[str]:
    def number(value: float | None) -> str:
        return "undefined, one judge gave one score" if value is None else f"{value:+.3f}"

    return [
        f"Agreement with {agreement['model']} ({agreement['run']}) on"
        f" {METRICS[key].heading if key in METRICS else key}"
        f" (N = {told['n']}): Spearman {number(told['spearman'])}, Kendall's tau-b"
        f" {number(told['kendall'])}; this judge's mean less that one's:"
        f" {told['mean_difference']:+.2f}."
        for key, told in agreement["metrics"].items()
    ]

"""`ric tiny assemble`: finished runs become the embedded family, in half precision, with cards.

Every member's card says what it was trained on, for how long and on which machine, and how well it
scores.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file

from ric.errors import RicError
from ric.runs.artifacts import renamed_when_whole
from ric.runs.record import artifact_of, parents_of, read_record
from ric.runs.rows import read_lines, read_rows
from ric.table_text import in_markdown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Member(NamedTuple):
    """A member of the family: the artifact of a run that becomes it, and its card's facts."""

    artifact: str  # of the run
    title: str
    library: str
    scores: str = ""  # its entry in family_scores.json


MEMBERS = {
    "clip": Member("clip", "CLIP of drawn scenes", "transformers"),
    "region_encoder": Member("region_encoder", "Region judge", "ric", "region_encoder"),
    "scene_encoder": Member("scene_encoder", "Scene judge", "ric", "scene_encoder"),
    "captioner": Member("captioner", "BLIP captioner", "transformers", "captioner"),
    "scene_classifier": Member(
        "scene_classifier", "Classifier of drawn scenes", "transformers", "scene_classifier"
    ),
    "pipeline": Member("pipeline", "InstructPix2Pix editor", "diffusers", "vae"),
    "text_to_image": Member("pipeline", "Text-to-image pipeline", "diffusers", "vae"),
}


def assemble(
    folder: Path,
    runs: Mapping[str, Path],
    *,
    family_scores: Path | None = None,
    editor_scores: Path | None = None,
) -> Path:
    """Write the family of `runs` to `folder`, replacing it, and return it.

    Args:
        folder: Gets a subfolder per member.
        runs: Finished runs by member; members without one are left out.
        family_scores: The file that `ric tiny score` wrote.
        editor_scores: The scores.json of `ric eval` of the editor, labelled `Ours`.

    Raises:
        RicError: a run is not finished or lacks the artifact, or a weight is too large for half
            precision.
    """
    scores = json.loads(family_scores.read_text()) if family_scores else {}
    editor = json.loads(editor_scores.read_text()) if editor_scores else None
    with renamed_when_whole(folder) as aside:
        for name, run in runs.items():
            member = MEMBERS[name]
            source = artifact_of(run, member.artifact)
            shutil.copytree(source, aside / name)
            for file in (aside / name).rglob("*.safetensors"):
                halve(file)
            lines = card(run, member, scores.get(member.scores, {}))
            if name == "pipeline" and editor:
                lines += editor_table(editor)
            (aside / name / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def halve(file: Path) -> None:
    """Rewrite a safetensors file with its float32 tensors in half precision.

    Raises:
        RicError: a value is too large for it.
    """
    tensors = load_file(file)
    halved = {
        name: tensor.half() if tensor.dtype == torch.float32 else tensor
        for name, tensor in tensors.items()
    }
    for name, tensor in halved.items():
        if not torch.isfinite(tensor.float()).all():
            raise RicError(f"{name} in {file} does not fit into half precision.")
    save_file(halved, file, metadata={"format": "pt"})


def card(run: Path, member: Member, scores: Mapping[str, float]) -> list[str]:
    """Write a member's model card."""
    record = read_record(run)
    config, data = record["config"], record["data"]
    rows = list(read_lines(run / "metrics.jsonl"))
    trained = sum(1 for _ in read_rows(run, "samples"))
    lines = [
        "---", "license: apache-2.0", f"library_name: {member.library}", "---",
        f"# {member.title} (embedded family)", "",
        "Trained from random weights on drawn scenes of 64 pixels by"
        f" `ric {record['command'].replace('tiny-', 'tiny ')}`; it knows nothing else."
        " Stored in half precision, used as float32.", "",
        f"- data: {trained} training samples of `ric scenes`, fingerprint"
        f" `{data['fingerprint'][:16]}`",
        f"- steps: {rows[-1]['step']}, batch {config['batch_size']},"
        f" {hours(rows, config):.2f} hours on {record['environment']['machine']}",
    ]  # fmt: skip
    kept = (
        "lr", "fusion_epochs", "fusion_lr", "joint_epochs", "joint_lr", "epochs",
        "source_negatives", "colour_noise", "seed",
    )  # fmt: skip
    lines += [f"- {key}: {config[key]}" for key in kept if key in config]
    lines += lineage(run)
    # a figure that is not finite was logged as null
    last = {
        key: value
        for key, value in rows[-1].items()
        if key.startswith("val_") and value is not None
    }
    figures = {**{f"{key}, on val": value for key, value in last.items()}, **scores}
    if figures:
        lines += ["", "| figure | value |", "|---|---|"]
        lines += [f"| {key} | {value:.4g} |" for key, value in figures.items()]
    return lines


def hours(rows: list[dict[str, Any]], config: Mapping[str, Any]) -> float:
    """Add up the hours of the logged steps, over all attempts at a run."""
    seconds, before = 0.0, 0
    for row in rows:
        rate = row.get("images_per_second")
        if rate:
            seconds += (row["step"] - before) * config["batch_size"] / rate
        before = row["step"]
    return seconds / 3600


def lineage(run: Path) -> list[str]:
    """List a run's ancestors, a line for each run."""
    lines = []
    for parent in parents_of(run, read_record(run)):
        record = read_record(parent)
        rows = list(read_lines(parent / "metrics.jsonl"))
        line = (
            f"- made from: {rows[-1]['step']} steps of"
            f" `ric {record['command'].replace('tiny-', 'tiny ')}`,"
            f" batch {record['config']['batch_size']} ({hours(rows, record['config']):.2f} hours)"
        )
        lines += [line, *lineage(parent)]
    return lines


def editor_table(scores: Mapping[str, Any]) -> list[str]:
    """Format an editor's scores as a table beside doing nothing and the exact target."""
    editors = scores["editors"]
    data = in_markdown(scores["data"]["name"])
    lines = ["", f"Scores on {data}, {editors[0]['samples']} test samples:", ""]
    lines += ["| score | " + " | ".join(in_markdown(row["label"]) for row in editors) + " |"]
    lines += ["|---|" + "---|" * len(editors)]
    for name in editors[0]["scores"]:
        cells = []
        for row in editors:
            score = row["scores"].get(name, {})
            value = score.get("value")
            low, high = score.get("low"), score.get("high")
            spread = f" ({low:.4g} to {high:.4g})" if low is not None else ""
            cells.append("" if value is None else f"{value:.4g}{spread}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines

"""Writing artifacts for the next command: into a temporary folder, then renamed; model cards."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from ric.errors import RicError
from ric.runs.rows import writer_name
from ric.runs.strays import left_beside, remove
from ric.table_text import in_markdown
from ric.weights import find_weight

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ric.method.region_encoder import RegionEncoder
    from ric.method.scene_encoder import SceneEncoder
    from ric.runs.run import RunDir

ORIGIN = "_name_or_path"  # where transformers and diffusers note the folder that they read


@contextmanager
def artifact_folder(run: RunDir, name: str) -> Iterator[Path]:
    """Yield an empty folder that becomes `<run>/<name>` when the block succeeds."""
    with renamed_when_whole(run.path / name) as aside:
        yield aside


@contextmanager
def renamed_when_whole(final: Path) -> Iterator[Path]:
    """Yield an empty folder beside `final` that replaces it when the block succeeds.

    Raises:
        RicError: safetensors could not write into it.
    """
    aside = final.parent / f".{final.name}.{writer_name()}"
    final.parent.mkdir(parents=True, exist_ok=True)
    remove(left_beside(aside))
    aside.mkdir()
    try:
        yield aside
        for file in aside.rglob("*.json"):
            _forget_origin(file)
        if final.exists():
            shutil.rmtree(final)
        aside.rename(final)
    except SafetensorError as error:
        # transformers and diffusers write with safetensors; their other errors are OSErrors
        raise RicError(
            f"Cannot write {final}: {error}.", "Free some space, and repeat the command."
        ) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _forget_origin(file: Path) -> None:
    """Remove the folder that a config was read from, which exists only on this machine."""
    text = file.read_text(encoding="utf-8")
    if ORIGIN not in text:
        return
    settings = _without_origin(json.loads(text))
    file.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _without_origin(held: Any) -> Any:
    if isinstance(held, dict):
        return {key: _without_origin(value) for key, value in held.items() if key != ORIGIN}
    return [_without_origin(value) for value in held] if isinstance(held, list) else held


def public_name(name: Any) -> Any:
    """Strip local paths in a setting, or in all of a dict or list, to their last part.

    Hub ids, addresses, names of runs and of the embedded family stay as they are.
    """
    if isinstance(name, dict):
        return {key: public_name(one) for key, one in name.items()}
    if isinstance(name, list | tuple):
        return [public_name(one) for one in name]
    if not isinstance(name, str) or _is_hub_id(name):
        return name
    scheme, _, _ = name.rpartition("://")
    return name if scheme not in ("", "file", "local") else PurePath(name).name or name


# a whole path between quotes, or from one that has no blank in it
_PATH = re.compile(r"(?<=')~?/[^'\n]*(?=')|(?<![^\s'\"(=])(?:~|\.\.?)?/[^\s'\",;)]*[^\s'\",;).:]")


def public_text(text: str) -> str:
    """Give a sentence as others may read it: of each path in it the last part alone."""
    return _PATH.sub(lambda path: PurePath(path[0]).name or path[0], text)


def write_judge(judge: RegionEncoder | SceneEncoder, run: RunDir, name: str, *, base: str) -> Path:
    """Save a fitted judge with its card and return its folder."""
    with artifact_folder(run, name) as folder:
        judge.save_pretrained(folder)
        (folder / "README.md").write_text(judge_card(run, name, base), encoding="utf-8")
    return run.path / name


def judge_card(run: RunDir, name: str, base: str) -> str:
    """Write a judge's model card: what it was fitted on, how, and how well it retrieves.

    Reads the run's `retrieval.json`, and `controls.json` if there is one.
    """
    data, config, base = *_public(run), public_name(base)
    found = {"fitted": json.loads((run.path / "retrieval.json").read_text())}
    controls = run.path / "controls.json"
    if controls.is_file():
        found |= json.loads(controls.read_text())
    lines = [
        "---",
        *([f"base_model: {base}"] if _is_hub_id(base) else []),
        f"license: {'apache-2.0' if base == 'tiny' else 'other'}",
        "library_name: ric",
        "---",
        f"# {name}",
        "",
        f"Fitted by `ric {run.record['command']}` (Region in Context, arXiv 2510.16772, Eq. 11).",
        "",
        f"- licence: {in_markdown(licence_of(base))}",
        _data_line(run, data, config),
        f"- texts cut because they were too long: {run.record['truncated_texts']}",
        *_setting_lines(config, but=("data", "split", "preset")),
        "",
        "Retrieval with the kept weights, and with controls that see one stream alone:",
        "",
        *_retrieval_table(found),
        "",
        "During the fit:",
        "",
        "| step | phase | figure | value |",
        "|---|---|---|---|",
    ]
    for row in run.metrics():
        for key, value in row.items():
            if any(word in key for word in ("recall", "rank", "above_")):
                lines.append(f"| {row['step']} | {row['phase']} | {key} | {value:.3f} |")
    return "\n".join(lines) + "\n"


def _public(run: RunDir) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a run's data and config without local paths."""
    return public_name(run.record["data"]), public_name(run.record["config"])


def _data_line(run: RunDir, data: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Say what was trained on, in a card."""
    return (
        f"- data: {in_markdown(data['name'])}, fingerprint `{data['fingerprint'][:16]}`,"
        f" split {config['split']}, {sum(1 for _ in run.rows('samples'))} samples"
    )


def _setting_lines(config: Mapping[str, Any], but: tuple[str, ...]) -> list[str]:
    """List settings in a card."""
    return [f"- {key}: {in_markdown(str(config[key]))}" for key in config if key not in but]


def _retrieval_table(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """Format recalls and ranks as a table, by judge and split."""
    names = next(iter(next(iter(found.values())).values()), {})
    lines = [
        "| judge | split | " + " | ".join(name.replace("_", " ") for name in names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for judge, splits in found.items():
        for split, figures in splits.items():
            cells = " | ".join(
                f"{value:.0f}" if name == "samples" else f"{value:.3g}"
                for name, value in figures.items()
            )
            lines.append(f"| {judge} | {split} | {cells} |")
    return lines


def licence_of(base: str) -> str:
    """Name the licence of the base, which applies to the result."""
    if base == "tiny":
        return "Apache-2.0, as ric's own"
    weight = find_weight(base)
    return weight.licence if weight else f"that of {base}"


def pipeline_card(run: RunDir, base: str) -> str:
    """Write a trained pipeline's model card; the hub reads its front matter."""
    data, config, base = *_public(run), public_name(base)
    # the plan that --memory picked
    config = {**config, **run.record.get("memory_plan", {})}
    is_lora = config.get("lora_rank") is not None
    return "\n".join(
        [
            "---",
            *([f"base_model: {base}"] if _is_hub_id(base) else []),
            "library_name: diffusers",
            "pipeline_tag: image-to-image",
            *_licence_lines(base),
            *(["datasets:", f"- {data['name']}"] if _is_hub_id(data["name"]) else []),
            "tags: [instruct-pix2pix, image-editing, region-in-context"
            + (", lora]" if is_lora else "]"),
            "---",
            "# InstructPix2Pix, fine-tuned by Region in Context",
            "",
            f"Fine-tuned by `ric {run.record['command']}` (arXiv 2510.16772, Eq. 10) from"
            f" {in_markdown(base)}; the base's licence applies.",
            *(
                ["", "`pipeline.load_lora_weights(folder)` adds the updates to a pipeline of it."]
                if is_lora
                else []
            ),
            "",
            f"- licence: {in_markdown(licence_of(base))}",
            _data_line(run, data, config),
            *_cut_lines(run.record.get("truncated_texts", {})),
            *_setting_lines(config, but=("data", "split", "gib")),
            "",
        ]
    )


def _cut_lines(cut: Mapping[str, int]) -> list[str]:
    """List how many texts of each kind were cut because they were too long."""
    if not any(cut.values()):
        return []
    counts = ", ".join(f"{kind} {count}" for kind, count in cut.items())
    return [f"- texts cut because they were too long: {counts}"]


def _is_hub_id(name: str) -> bool:
    """Tell whether a name looks like a hub id and is no path on this machine, or is `tiny`."""
    looks_so = re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", name) and not Path(name).exists()
    return name == "tiny" or bool(looks_so)


def _licence_lines(base: str) -> list[str]:
    """Format the base's licence as the hub's front matter; `other` comes with a name."""
    if base == "tiny":
        return ["license: apache-2.0"]
    weight = find_weight(base)
    if weight and "CreativeML OpenRAIL-M" in weight.licence:
        # Stable Diffusion's licence, whose restrictions carry over
        return ["license: creativeml-openrail-m"]
    return ["license: other", "license_name: that-of-the-base"]

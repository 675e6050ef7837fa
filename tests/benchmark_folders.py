"""Small benchmarks in the layouts of their releases, of drawn scenes."""

from __future__ import annotations

import io
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from ric.data.drawn_scenes import parse_scenes
from ric.data.edit_sample import EditSample


def scenes(count: int, size: int = 64) -> list[EditSample]:
    return list(parse_scenes(f"scenes:{count}@{size}#5"))


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


def save(picture: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)


def runs_of(mask: np.ndarray) -> list[int]:
    """Encode a mask as the benchmark does, by walking over its pixels."""
    runs, at = [], 0
    for value, group in groupby(mask.ravel().tolist()):
        length = len(list(group))
        runs += [at, length] if value else []
        at += length
    return runs


def write_json(file: Path, rows: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(rows))


def pie_bench(folder: Path, changes: dict[str, dict[str, Any]] | None = None) -> Path:
    """Write three edits of 512 px; `changes` are laid over rows by their keys."""
    rows = {}
    kinds = ("0_random_140", "1_change_object_80/1_artificial/1_animal", "9_change_style_80")
    for number, (kind, scene) in enumerate(zip(kinds, scenes(3, 512), strict=True)):
        key, place = f"{kind[0]}{number:011d}", f"{kind}/{kind[0]}{number:011d}.jpg"
        save(scene.load_source(), folder / "annotation_images" / place)
        rows[key] = {
            "image_path": place,
            "original_prompt": "a [red] ball on the floor",
            "editing_prompt": "a [blue] ball on the floor",
            "editing_instruction": scene.instruction,
            "editing_type_id": kind[0],
            "blended_word": "ball ball",
            "mask": runs_of(scene.load_mask()),
        } | (changes or {}).get(key, {})
    write_json(folder / "mapping_file.json", rows)
    return folder


def magicbrush(folder: Path, *, sessions: bool = True, captions: bool = True) -> Path:
    """Write two pictures, the first with two turns; masks are erased sources."""
    told: dict[str, list[dict[str, Any]]] = {"30": [], "139": []}
    for (name, turn), scene in zip((("30", 1), ("30", 2), ("139", 1)), scenes(3), strict=True):
        before = f"{name}-input.png" if turn == 1 else f"{name}-output{turn - 1}.png"
        row = {"input": before, "mask": f"{name}-mask{turn}.png"}
        row |= {"output": f"{name}-output{turn}.png", "instruction": scene.instruction}
        images = folder / "images" / name
        if turn == 1:
            save(scene.load_source(), images / before)
        erased = Image.open(images / before).convert("RGBA")
        erased.putalpha(Image.fromarray(np.where(scene.load_mask(), 0, 255).astype(np.uint8)))
        save(erased, images / row["mask"])
        save(scene.load_target(), images / row["output"])
        told[name].append(row)
    if sessions:
        write_json(folder / "edit_sessions.json", told)
    else:
        write_json(folder / "edit_turns.json", [row for turns in told.values() for row in turns])
    if captions:
        for name, kind in (("global", "whole"), ("local", "part")):
            of = {
                picture: {
                    row[at]: f"{kind} of {row[at]}" for row in turns for at in ("input", "output")
                }
                for picture, turns in told.items()
            }
            write_json(folder / f"{name}_descriptions.json", of)
    return folder


def pica_bench(folder: Path, changes: dict[int, dict[str, Any]] | None = None) -> Path:
    """Write three edits; `changes` are laid over rows by their places."""
    rows = []
    for number, scene in enumerate(scenes(3)):
        save(scene.load_source(), folder / f"input_img/{number:05d}.jpg")
        rows.append(
            {
                "index": number,
                "input_path": f"input_img/{number:05d}.jpg",
                "output_path": None,
                "edit_instruction": scene.instruction,
                "physics_category": "Optics",
                "physics_law": ("Reflection", "Refraction", "Causality")[number],
                "edit_operation": "remove",
                "difficulty": "superficial",
                "annotated_qa_pairs": [{"question": "Is it there?", "answer": "No"}],
                "edit_area": [{"x": 10.0, "y": 20.0, "width": 5.0, "height": 8.0, "order": 1}],
            }
            | (changes or {}).get(number, {})
        )
    write_json(folder / "meta_info.json", rows)
    return folder


def imgedit(
    folder: Path, *, pictures: str = "original_images", name: str = "basic_edit.json"
) -> Path:
    """Write three edits of two pictures."""
    rows = {}
    drawn = scenes(3)
    for key, place, kind in (
        ("1082", "animal/000342021.jpg", "alter"),
        ("673", "daily object/000278574.jpg", "style"),
        ("667", "daily object/000278574.jpg", "remove"),
    ):
        save(drawn[len(rows) and 1].load_source(), folder / pictures / place)
        rows[key] = {"id": place, "prompt": drawn[len(rows)].instruction, "edit_type": kind}
    write_json(folder / name, rows)
    return folder


def gedit(folder: Path, *, one_key: bool = False, task: str | None = None) -> Path:
    """Write two edits in two languages; with `one_key` both languages share their keys."""
    rows = []
    for number, scene in enumerate(scenes(2)):
        for language in ("en", "cn"):
            small = scene.load_source()
            rows.append(
                {
                    "task_type": task or ("color_alter", "subject-add")[number],
                    "key": f"k{number}" if one_key else f"k{number}{language[0]}",
                    "instruction": scene.instruction if language == "en" else "把它变成红色",
                    "instruction_language": language,
                    "input_image": {"bytes": png(small), "path": None},
                    "input_image_raw": {"bytes": png(small.resize((96, 96))), "path": None},
                    "Intersection_exist": True,
                }
            )
    return _stream(folder / "data-00000-of-00001.arrow", rows)


def emu_edit(folder: Path) -> Path:
    """Write an edit of each of two splits, with one index."""
    for split, scene in zip(("validation", "test"), scenes(2), strict=True):
        row = {
            "instruction": scene.instruction,
            "image": {"bytes": png(scene.load_source()), "path": None},
            "task": "add",
            "split": split,
            "idx": 17,
            "hash": "ab",
            "input_caption": "a table",
            "output_caption": "a table with a cup",
        }
        file = folder / f"data/{split}-00000-of-00001.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row]), file)
    return folder


def _stream(file: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as `datasets` saves them."""
    file.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return file.parent

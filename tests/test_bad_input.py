"""What bad input gets: one test a row of the table, each reads the words the user sees."""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image, ImageCms
from safetensors.torch import load_file, save_file

from ric.config import TrainUnetConfig, as_dict
from ric.data.images import open_image
from ric.errors import RicError
from ric.recipes.train_unet import train_unet
from ric.runs.checkpoints import complete_checkpoints
from ric.runs.open_run import open_run
from ric.runs.record import read_record
from ric.settings import resolve_config
from ric_cli.main import main


@pytest.fixture
def ric(tmp_path, monkeypatch, capsys, tiny_family):
    """Type a `ric` command in a folder of its own: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def typed(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ric", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out, " ".join(err.split())

    return typed


def picture(size: int = 48, seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((size, size))


def failures(run: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    return {row["id"]: row["reason"] for row in rows}


def dataset(folder: Path, rows: list[dict], size: int = 48) -> Path:
    """Write a data set whose row i has a source, and a target with a changed square."""
    folder.mkdir(parents=True)
    for index, row in enumerate(rows):
        source = picture(size, index)
        target = source.copy()
        target.paste((250, 10, 10), (8, 8, 24, 24))
        mask = Image.new("L", source.size, 0)
        mask.paste(255, (8, 8, 24, 24))
        for name, image in (("source", source), ("target", target), ("mask", mask)):
            image.save(folder / f"{index}-{name}.png")
        row.setdefault("id", f"sample-{index}")
        row.setdefault("instruction", "Add a red square.")
        row.setdefault("region_text", "a red square")
        row.setdefault("scene_text", f"picture {index} with a red square")
        for name in ("source", "target", "mask"):
            row.setdefault(f"{name}_file_name", f"{index}-{name}.png")
    lines = [json.dumps({key: value for key, value in row.items() if value}) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
    return folder


# --- pictures ------------------------------------------------------------------------------------


# Red, green and blue of Display P3 in CIE XYZ under D50, a row each
P3_PRIMARIES = np.array(
    [[0.51512, 0.24120, -0.00105], [0.29198, 0.69225, 0.04189], [0.15710, 0.06657, 0.78407]]
)
# From CIE XYZ under D50 to linear sRGB
TO_SRGB = np.array([[3.1341359, -1.6173863, -0.4906619], [-0.9787955, 1.9162543, 0.0334427],
                    [0.0719554, -0.2289768, 1.4053861]])  # fmt: skip


def wide_gamut_profile() -> bytes:
    """Make a Display P3 profile of Pillow's sRGB one: the same curves, other primaries."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", profile, 128)
    tags = {
        name: offset
        for name, offset, _ in struct.iter_unpack(">4sII", profile[132 : 132 + 12 * count])
    }
    for name, primary in zip((b"rXYZ", b"gXYZ", b"bXYZ"), P3_PRIMARIES, strict=True):
        values = [round(value * 65536) for value in primary]
        struct.pack_into(">3i", profile, tags[name] + 8, *values)
    return bytes(profile)


def p3_as_srgb(picture: Image.Image) -> np.ndarray:
    """Convert P3 colours by hand: to linear light, to XYZ, to linear sRGB, to its curve."""
    coded = np.asarray(picture) / 255
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ P3_PRIMARIES @ TO_SRGB.T, 0, 1)
    coded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * coded


def odd_pictures(folder: Path) -> None:
    """Save one picture of every well-defined odd kind."""
    folder.mkdir()
    plain = picture()
    plain.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.full((48, 48), 40_000, dtype=np.uint16)).save(folder / "deep.png")
    plain.convert("RGBA").save(folder / "rgba.png")
    plain.convert("L").save(folder / "grey.png")
    plain.convert("P").save(folder / "palette.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn it by 90 degrees
    plain.crop((0, 0, 48, 24)).save(folder / "turned.jpg", exif=exif)
    plain.save(folder / "profiled.png", icc_profile=wide_gamut_profile())
    plain.save(folder / "webp_in_truth.png", format="WEBP")


def test_cmyk_16_bit_rgba_grey_palette_rotated_wide_gamut_and_mislabelled_pictures_are_edited(
    ric, tmp_path
):
    odd_pictures(tmp_path / "photos")
    code, out, err = ric("edit", "photos", "make it red", "--preset", "tiny", "--steps", 1)
    assert code == 0, err
    made = {file.stem: Image.open(file) for file in Path(out.strip()).iterdir()}
    assert made.keys() == {file.stem for file in (tmp_path / "photos").iterdir()}
    kept = {"cmyk": "CMYK", "deep": "I;16", "rgba": "RGBA"}
    assert {name: image.mode for name, image in made.items()} == {
        name: kept.get(name, "RGB") for name in made
    }
    # the orientation is applied: 48 x 24 as stored is 24 x 48 as seen
    assert made["turned"].size == open_image(tmp_path / "photos/turned.jpg").size == (24, 48)
    # the profile is applied: as sRGB its colours are other numbers
    opened = np.asarray(open_image(tmp_path / "photos/profiled.png")).astype(float)
    assert np.abs(opened - p3_as_srgb(picture())).max() <= 3
    assert np.abs(opened - np.asarray(picture())).max() >= 10


def test_unreadable_truncated_animated_and_empty_pictures_are_rows_and_the_rest_goes_on(
    ric, tmp_path
):
    photos = tmp_path / "photos"
    photos.mkdir()
    picture().save(photos / "good.png")
    (photos / "noise.png").write_bytes(b"this is no picture")
    (photos / "empty.png").write_bytes(b"")
    picture(200).save(photos / "cut.png")
    whole = (photos / "cut.png").read_bytes()
    (photos / "cut.png").write_bytes(whole[: len(whole) // 2])
    frames = [picture(48, seed) for seed in range(3)]
    frames[0].save(photos / "moving.gif", save_all=True, append_images=frames[1:])
    code, _, err = ric("edit", "photos", "make it red", "--preset", "tiny", "--steps", 1)
    assert code == 3
    assert "4 failed; all are listed in runs/00001-edit/failures.jsonl" in err
    assert [file.name for file in Path("runs/00001-edit/images").iterdir()] == ["good.png"]
    reasons = failures(Path("runs/00001-edit"))
    assert reasons["noise"] == "'photos/noise.png' is not a picture that can be read."
    assert "0 bytes" in reasons["empty"]
    assert "truncated" in reasons["cut"]
    assert "animated" in reasons["moving"]


def test_a_picture_over_the_pixel_limit_is_a_row_that_names_the_limit_and_its_flag(ric, tmp_path):
    (tmp_path / "photos").mkdir()
    picture(48).save(tmp_path / "photos/small.png")
    picture(64).save(tmp_path / "photos/large.png")
    code, _, _ = ric(
        "edit", "photos", "make it red", "--preset", "tiny", "--steps", 1, "--max-pixels", 3000
    )
    assert code == 3
    reasons = failures(Path("runs/00001-edit"))
    assert reasons.keys() == {"large"}
    assert "--max-pixels" in reasons["large"]
    assert "3,000" in reasons["large"] or "3000" in reasons["large"]


# --- masks and metadata --------------------------------------------------------------------------


def test_empty_and_all_white_masks_are_rows_and_other_sizes_are_aligned_to_the_target(
    ric, tmp_path
):
    data = dataset(tmp_path / "data", [{} for _ in range(5)])
    Image.new("L", (48, 48), 0).save(data / "0-mask.png")
    Image.new("L", (48, 48), 255).save(data / "1-mask.png")
    picture(96, 2).save(data / "2-source.png")
    mask = Image.new("L", (24, 24), 0)
    mask.paste(255, (4, 4, 12, 12))
    mask.save(data / "2-mask.png")
    code, _, err = ric(
        "fit-clip", "data", "--preset", "tiny", "--split", "all", "--fusion-epochs", 1,
        "--joint-epochs", 0,
    )  # fmt: skip
    assert code == 3, err
    run = Path("runs/00001-fit-clip")
    reasons = failures(run)
    assert reasons.keys() == {"sample-0", "sample-1"}
    assert "empty" in reasons["sample-0"]
    assert "%" in reasons["sample-1"]
    used = [json.loads(line)["id"] for line in (run / "samples.jsonl").read_text().splitlines()]
    assert used == ["sample-2", "sample-3", "sample-4"]


@pytest.mark.parametrize("path", ["../outside.png", "/etc/hostname"])
def test_a_metadata_path_that_leaves_its_folder_is_refused(ric, tmp_path, path):
    picture().save(tmp_path / "outside.png")
    dataset(tmp_path / "data", [{}, {"source_file_name": path}])
    code, _, err = ric("describe", "data", "--preset", "tiny")
    assert code == 1
    assert path in err
    assert "outside its folder" in err
    assert "Traceback" not in err


# --- models --------------------------------------------------------------------------------------


@pytest.mark.parametrize("offline", [True, False])
def test_a_missing_hub_model_says_what_its_size_how_to_get_it_and_what_needs_none(
    ric, tmp_path, monkeypatch, offline
):
    # no name can be resolved under .invalid, so that this also holds where there is a network
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    if offline:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    else:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    dataset(tmp_path / "data", [{}, {}])
    code, _, err = ric("fit-clip", "data", "--split", "all")
    assert code == 1
    assert "openai/clip-vit-base-patch16" in err
    assert "MB" in err
    assert "ric weights get openai/clip-vit-base-patch16" in err
    assert "--preset tiny needs no download" in err


class Bomb:
    """A pickle that would run a command when it is loaded."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return subprocess.call, (["touch", str(self.marker)],)


def test_a_pickle_checkpoint_is_refused_and_converted_without_running_what_is_in_it(ric, tmp_path):
    marker = tmp_path / "it-ran"
    weights = {"state_dict": {"layer": torch.arange(4.0)}, "extra": Bomb(marker)}
    torch.save(weights, tmp_path / "model.ckpt", pickle_module=pickle)
    dataset(tmp_path / "data", [{}, {}])
    code, _, err = ric("edit", "data", "--split", "all", "--unet", "model.ckpt")
    assert code == 1
    assert "ric weights convert" in err
    code, _, err = ric("weights", "convert", "model.ckpt", "model.safetensors")
    assert code == 0, err
    assert "1 tensors kept" in err
    assert torch.equal(load_file("model.safetensors")["layer"], torch.arange(4.0))
    assert not marker.exists()
    # the file really is a bomb
    torch.load(tmp_path / "model.ckpt", weights_only=False)
    assert marker.exists()


# --- training ------------------------------------------------------------------------------------


def tiny_training(data: Path, **flags: object) -> TrainUnetConfig:
    few = {"steps": 4, "batch_size": 2, "checkpoint_every": 2, "image_size": 32}
    return resolve_config(
        TrainUnetConfig,
        {"data": str(data), "preset": "tiny", "split": "all", **few, **flags},
    )


def test_a_loss_that_is_never_finite_stops_the_run_and_keeps_the_last_good_checkpoint(
    tmp_path, tiny_family
):
    data = dataset(tmp_path / "data", [{}, {}])
    base = shutil.copytree(tiny_family / "pipeline", tmp_path / "base")
    (file,) = (base / "unet").glob("*.safetensors")
    start = load_file(file)
    start["conv_in.bias"][:] = 3e38  # finite, but no sum of two
    save_file(start, file, metadata={"format": "pt"})
    config = tiny_training(data, steps=14, base=str(base))
    with (
        pytest.raises(RicError, match="not finite in 10 steps in a row"),
        open_run("train-unet", as_dict(config), runs_dir=tmp_path / "runs") as run,
    ):
        train_unet(config, run)
    assert read_record(run.path)["status"] == "failed"
    assert run.metrics()[-1]["skipped"] > 0
    # no step was good, so that the last good weights are those it began with
    *_, kept = complete_checkpoints(run.path / "checkpoints")
    weights = load_file(kept / "model.safetensors")
    assert weights.keys() == start.keys()
    for name, tensor in start.items():
        assert torch.equal(weights[name], tensor), name


@pytest.mark.parametrize("steps", [1, 14])
@pytest.mark.parametrize(
    ("judge", "setting", "value", "words"),
    [
        ("region_encoder/clip", "region_clip", math.nan, "not finite, such as visual_projection"),
        ("region_encoder/clip", "region_clip", 3e38, "region judge .* outputs NaN"),
        ("scene_encoder/blip", "scene_blip", math.inf, "not finite, such as vision_proj"),
        ("scene_encoder/blip", "scene_blip", 3e38, "scene judge .* outputs NaN"),
    ],
)
def test_a_judge_that_gives_nan_stops_a_training_of_any_length_before_it_begins(
    judge, setting, value, words, steps, tmp_path, tiny_family
):
    data = dataset(tmp_path / "data", [{}, {}])
    folder = shutil.copytree(tiny_family / judge.split("/")[0], tmp_path / "judge")
    file = folder / judge.split("/")[1] / "model.safetensors"
    weights = load_file(file)
    name = next(
        name for name in weights if name in ("visual_projection.weight", "vision_proj.weight")
    )
    weights[name][:] = value
    save_file(weights, file, metadata={"format": "pt"})
    config = tiny_training(data, steps=steps, **{setting: str(folder)})
    with (
        pytest.raises(RicError, match=words),
        open_run("train-unet", as_dict(config), runs_dir=tmp_path / "runs") as run,
    ):
        train_unet(config, run)
    assert read_record(run.path)["status"] == "failed"
    assert run.metrics() == []


def named_badly(folder: Path, ending: str) -> Path:
    """Return a path whose file name is not UTF-8."""
    return folder / os.fsdecode(b"bad\xff" + ending.encode())


@pytest.mark.parametrize("shard", [None, "1/2", "2/2"])
def test_a_photo_whose_name_is_not_utf8_is_a_row_and_the_other_is_edited(ric, tmp_path, shard):
    (tmp_path / "photos").mkdir()
    picture().save(tmp_path / "photos/ok.png")
    with named_badly(tmp_path / "photos", ".png").open("wb") as stream:
        picture(seed=1).save(stream, "PNG")
    shards = ("--shard", shard, "--batch-size", 1) if shard else ()
    code, _, said = ric("edit", "photos/", "--preset", "tiny", "--editor", "none", *shards,
                        "--run", "run")  # fmt: skip
    edits = [file.name for file in (tmp_path / "run/images").iterdir()]
    found = failures(tmp_path / "run") if (tmp_path / "run/failures.jsonl").exists() else {}
    assert "Traceback" not in said
    if shard is None:
        assert (code, edits, list(found)) == (3, ["ok.png"], ["bad\\xff.png"])
    else:  # each has one of them, or both
        assert set(edits) <= {"ok.png"}
        assert set(found) <= {"bad\\xff.png"}
    assert all(reason.startswith("Its name is not UTF-8") for reason in found.values())


def test_a_table_whose_file_name_is_not_utf8_is_read(ric, tmp_path):
    stream = io.BytesIO()
    picture(64).save(stream, "PNG")
    cell = {"bytes": stream.getvalue(), "path": None}
    (tmp_path / "tables").mkdir()
    pq.write_table(
        pa.table({"source": [cell], "target": [cell], "instruction": ["wider"]}),
        tmp_path / "plain.parquet",
    )
    (tmp_path / "plain.parquet").rename(named_badly(tmp_path / "tables", ".parquet"))
    columns = "source=source,instruction=instruction,target=target"
    code, _, said = ric("edit", "tables", "--preset", "tiny", "--editor", "none", "--split", "all",
                        "--columns", columns, "--run", "run")  # fmt: skip
    assert code == 0, said


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("edit", "photos", "WORDS"), "The instruction"),
        (("edit", "photos", "--instruction", "WORDS"), "--instruction"),
        (("edit", "photos", "x", "--mask-text", "WORDS"), "--mask-text"),
        (("edit", "photos", "--editor", "cds", "--target-caption", "WORDS"), "--target-caption"),
        (("edit", "photos", "x", "--redo", "WORDS"), "--redo"),
        (("fit-clip", "photos", "--columns", "WORDS"), "--columns"),
        (("eval", "WORDS=photos", "--source", "photos", "--target", "photos"), "The label"),
    ],
)
def test_typed_words_that_are_not_utf8_are_refused_in_a_line_that_names_them(
    ric, tmp_path, words, named
):
    (tmp_path / "photos").mkdir()
    picture().save(tmp_path / "photos/ok.png")
    odd = os.fsdecode(b"a \xff b")
    code, _, said = ric(*(word.replace("WORDS", odd) for word in words), "--preset", "tiny")
    assert code == 1
    assert said.startswith(f"Error: {named}")
    assert "is not UTF-8" in said


def test_paths_that_are_not_utf8_are_read_and_written(ric, tmp_path):
    photos = named_badly(tmp_path, "-photos")
    photos.mkdir()
    picture(64).save(photos / "ok.png")
    out, run = (named_badly(tmp_path, ending) for ending in ("-out", "-run"))
    code, _, said = ric("edit", photos, "--preset", "tiny", "--editor", "none", "--out", out,
                        "--run", run)  # fmt: skip
    assert code == 0, said
    assert (out / "ok.png").is_file()

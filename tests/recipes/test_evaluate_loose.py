"""`ric eval --source DIR`: any editor's output, without any file that describes a data set."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noting import Noting
from PIL import Image, ImageDraw
from skimage.data import chelsea

from ric.config import EvalConfig, as_dict
from ric.errors import RicError
from ric.preflight.checks import check
from ric.recipes.data import make_folder
from ric.recipes.evaluate import evaluate
from ric.runs.open_run import open_run
from ric.scoring.scores import Scores
from ric.settings import resolve_config

COUNT = 4
TRUTH = "Ground truth"


@pytest.fixture(scope="module")
def folders(make_edits: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders source, target, mask and out, and texts.csv; photos are JPEG, outputs PNG."""
    data, root = make_edits(COUNT), tmp_path_factory.mktemp("loose")
    for name in ("source", "target", "mask"):
        (root / name).mkdir()
    for file in sorted((data / "source").iterdir()):
        Image.open(file).save(root / "source" / f"photo-{file.stem}.jpg", quality=95)
    for name in ("target", "mask"):
        for file in (data / name).iterdir():
            shutil.copy(file, root / name / f"photo-{file.name}")
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    lines = [f"photo-{row['id']}.jpg,{row['region_text']}" for row in rows]
    (root / "texts.csv").write_text("\n".join(["file,region_text", *lines]) + "\n")
    shutil.copytree(root / "target", root / "out")
    for file in (root / "out").iterdir():
        with Image.open(file) as picture:
            ImageDraw.Draw(picture).rectangle((0, 0, 9, 9), fill="white")
            picture.save(file)
    return root


@pytest.fixture
def score(tiny: Callable[..., EvalConfig], tmp_path: Path) -> Callable[..., Any]:
    def call(*edits: str, **changes: Any) -> tuple[dict[str, Scores], Path]:
        named = {
            key: value if isinstance(value, (bool, int)) else str(value)
            for key, value in changes.items()
            if key != "partial"
        }
        data = named.pop("data", named.get("source"))
        config = tiny(EvalConfig, data, edits=edits, **named, partial=changes.get("partial", False))
        with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
            rows = evaluate(config, run)
        return {row.label: row for row in rows}, run.path

    return call


def loose(folders: Path, *names: str) -> dict[str, Path]:
    return {name: folders / (f"{name}.csv" if name == "texts" else name) for name in names}


def failures(run: Path) -> dict[str, str]:
    lines = (run / "failures.jsonl").read_text().splitlines()
    return {row["id"]: row["reason"] for row in map(json.loads, lines)}


def test_folders_give_the_numbers_of_the_same_pictures_with_metadata(score, folders, tmp_path):
    given = loose(folders, "source", "target", "mask", "texts")
    rows, run = score(f"Mine={folders / 'out'}", **given)
    record = json.loads((run / "run.json").read_text())
    assert record["data"]["name"] == str(folders / "source")
    make_folder(tmp_path / "data", **given)
    shutil.move(run, tmp_path / "loose")
    other, _ = score(f"Mine={folders / 'out'}", data=tmp_path / "data", split="all")
    assert rows.keys() == other.keys()
    for label, row in rows.items():
        for ours, theirs in zip(row.scores, other[label].scores, strict=True):
            assert (ours.name, ours.n) == (theirs.name, theirs.n)
            assert ours.value == pytest.approx(theirs.value, abs=1e-12)
    assert rows["Mine"]["clip_t"].n == rows["Mine"]["psnr_outside"].n == COUNT


def test_without_targets_the_source_is_the_reference_and_fid_is_not_available(score, folders):
    rows, _ = score(f"Mine={folders / 'out'}", **loose(folders, "source"))
    assert TRUTH not in rows
    mine = rows["Mine"]
    assert mine["clip_i"].definition.startswith("edited and source")
    assert mine["clip_i"].n == mine["lpips"].n == COUNT
    assert mine["clip_i"].value < 1
    assert rows["Identity (source)"]["lpips"].value == pytest.approx(0, abs=1e-6)
    assert mine["fid"].value is None
    assert "no sample has a target" in mine["fid"].unavailable


@pytest.mark.parametrize(
    ("match", "name"), [("stem", "photo-{:02d}.png"), ("file", "photo-{:02d}.jpg")]
)
def test_outputs_are_matched_by_the_source_s_file_name_or_stem(
    match, name, score, folders, make_edits, tmp_path
):
    made = tmp_path / "made"
    made.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (96, 80), "grey").save(made / name.format(number))
    rows, _ = score(f"Mine={made}", match=match, **loose(folders, "source"))
    assert rows["Mine"]["clip_i"].n == COUNT


def test_files_and_samples_that_match_nothing_are_listed_and_too_few_are_an_error(
    score, folders, tmp_path
):
    made = tmp_path / "made"
    shutil.copytree(folders / "out", made)
    (made / "photo-02.png").rename(made / "cat.png")
    with pytest.raises(RicError, match=r"'Mine' has pictures of 3 of 4 samples .* under 95 %"):
        score(f"Mine={made}", **loose(folders, "source"))
    listed = [json.loads(line) for line in (tmp_path / "run" / "unmatched.jsonl").open()]
    assert listed == [
        {"label": "Mine", "file": "cat.png"}, {"label": "Mine", "sample": "photo-02"}
    ]  # fmt: skip
    shutil.rmtree(tmp_path / "run")
    rows, run = score(f"Mine={made}", partial=True, **loose(folders, "source"))
    assert rows["Mine"]["clip_i"].n == 3
    assert failures(run) == {"photo-02": f"'Mine' has no picture of it in {made}"}


def test_a_corrupt_a_missing_a_wrongly_sized_and_a_double_output_are_each_named_and_the_rest_scored(
    score, make_edits, tmp_path
):
    data = make_edits(6)
    made = tmp_path / "made"
    shutil.copytree(data / "target", made)
    (made / "00.png").write_bytes(b"no picture")
    (made / "01.png").unlink()
    Image.new("RGB", (96, 96)).save(made / "02.png")
    Image.new("RGB", (96, 80)).save(made / "03.jpg")
    rows, run = score(f"Mine={made}", partial=True, source=data / "source", target=data / "target")
    found = failures(run)
    assert found.keys() == {"00", "01", "02", "03"}
    assert "is not a picture that can be read" in found["00"]
    assert found["01"] == f"'Mine' has no picture of it in {made}"
    assert found["02"].startswith("'Mine' made it 96x96, which is not the shape of 96x80: squash")
    assert found["03"] == "'Mine' has several pictures of it: '03.jpg' and '03.png'"
    assert rows["Mine"]["clip_i"].n == 2
    assert rows["Mine"]["l1"].value == 0


@pytest.mark.parametrize(("how", "corner"), [("squash", 200), ("crop", 200), ("pad", 0)])
def test_an_output_of_another_shape_is_squashed_cropped_or_padded_where_asked(
    how, corner, score, make_edits, tmp_path
):
    data, made = make_edits(1), tmp_path / "made"
    made.mkdir()
    square = Image.new("RGB", (80, 80), (200, 200, 200))
    square.save(made / "00.png")
    rows, run = score(f"Mine={made}", fit=how, source=data / "source", target=data / "target")
    assert not (run / "failures.jsonl").exists()
    target = Image.open(data / "target" / "00.png").convert("RGB")
    expected = Image.new("RGB", target.size, (corner,) * 3)
    expected.paste(square, (8, 0))
    if how != "pad":
        expected = Image.new("RGB", target.size, (200, 200, 200))
    apart = sum(
        abs(a - b)
        for one, other in zip(expected.getdata(), target.getdata(), strict=True)
        for a, b in zip(one, other, strict=True)
    )
    assert rows["Mine"]["l1"].value == pytest.approx(apart / (3 * 96 * 80 * 255), abs=1e-6)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": "x", "data": "y"}, "--target goes with --source"),
        ({"texts": "x", "target": "z", "data": "y"}, "--target goes with --source"),
        ({"source": "x", "data": "y"}, "--data and --source are both given."),
        ({"source": "no/such"}, "'no/such' cannot be read"),
        ({"source": "x", "split": "test"}, "--split does not go with --source"),
        ({"source": "x", "columns": "source=a"}, "--columns does not go with --source"),
        ({}, "No DATA is given."),
    ],
)
def test_a_source_and_data_at_once_or_neither_is_an_error(given, said, folders, tmp_path):
    edits = {"edits": (f"Mine={folders / 'out'}",), "preset": "tiny"}
    with pytest.raises(RicError) as error:
        check(resolve_config(EvalConfig, given | edits), tmp_path)
    assert said in error.value.message


def test_targets_masks_and_texts_that_go_with_no_photo_are_listed(score, folders, tmp_path):
    given = {name: tmp_path / name for name in ("target", "mask")}
    for name, place in given.items():
        shutil.copytree(folders / name, place)
        (place / "photo-03.png").rename(place / "cat.png")
    texts = tmp_path / "texts.csv"
    texts.write_text((folders / "texts.csv").read_text().replace("photo-03.jpg", "dog.jpg"))
    _, run = score(f"Mine={folders / 'out'}", source=folders / "source", texts=texts, **given)
    listed = [json.loads(line)["file"] for line in (run / "unmatched.jsonl").open()]
    assert sorted(listed) == sorted(
        [str(given["target"] / "cat.png"), str(given["mask"] / "cat.png"), f"{texts}: dog"]
    )


@pytest.mark.parametrize("name", ["target", "mask", "texts"])
def test_a_folder_or_texts_that_go_with_no_photo_at_all_are_an_error(
    name, score, folders, tmp_path
):
    other = tmp_path / "other"
    if name == "texts":
        other.write_text("id,region_text\nnobody,a ball\n")
    else:
        other.mkdir()
        Image.new("L", (96, 80), 255).save(other / "cat.png")
    with pytest.raises(RicError, match="matches a photo in"):
        score(f"Mine={folders / 'out'}", source=folders / "source", **{name: other})


def test_a_mask_that_cannot_be_read_or_says_nothing_is_a_failure_and_the_rest_is_scored(
    score, folders, tmp_path
):
    masks = shutil.copytree(folders / "mask", tmp_path / "masks")
    (masks / "photo-00.png").write_bytes(b"broken")
    Image.new("L", (96, 80), 255).save(masks / "photo-01.png")
    rows, run = score(f"Mine={folders / 'out'}", source=folders / "source", mask=masks)
    found = failures(run)
    assert "is not a picture that can be read" in found["photo-00"]
    assert "The mask covers 100.0% of the picture" in found["photo-01"]
    assert rows["Mine"]["clip_i"].n == COUNT
    assert rows["Mine"]["psnr_outside"].n == COUNT - 2


def test_two_samples_whose_sources_have_one_name_cannot_be_matched_by_it(
    score, make_edits, tmp_path
):
    data = make_edits(2)
    rows = [json.loads(line) for line in (data / "metadata.jsonl").read_text().splitlines()]
    rows[1]["source_file_name"] = rows[0]["source_file_name"]
    (data / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = shutil.copytree(data / "target", tmp_path / "made")
    with pytest.raises(RicError, match="'00' and '01' have sources of the same name") as error:
        score(f"Mine={made}", data=data, split="all", match="stem")
    assert "--match id" in error.value.hint


def test_a_protocol_that_compares_with_targets_needs_them(score, folders):
    with pytest.raises(RicError, match="--protocol magicbrush compares with targets"):
        score(f"Mine={folders / 'out'}", protocol="magicbrush", **loose(folders, "source"))


def test_what_is_typed_goes_before_the_data_of_a_config_file(folders):
    recorded = {"data": "old", "source": "old", "target": "t", "split": "all"}
    config = resolve_config(EvalConfig, {"source": "new"}, from_file=recorded)
    assert (config.data, config.source, config.target) == ("new", "new", "t")
    config = resolve_config(EvalConfig, {"data": "mine"}, from_file=recorded)
    assert (config.data, config.source, config.target) == ("mine", None, None)
    of_data = {"data": "mine", "reference": "target", "fit": None}
    assert resolve_config(EvalConfig, {"source": "new"}, from_file=of_data).data == "new"
    config = resolve_config(EvalConfig, {"protocol": "paper"}, from_file=of_data)
    assert config.reference == "source"


# --- two folders and nothing else ----------------------------------------------------------------


def test_two_folders_are_held_against_each_other(folders, tmp_path):
    flags = {"edits": (str(folders / "out"), str(folders / "target")), "preset": "tiny"}
    config = resolve_config(EvalConfig, {**flags, "device": "cpu"})
    check(config, tmp_path)
    with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
        (row,) = evaluate(config, run)
    assert not (run.path / "failures.jsonl").exists()
    assert not (run.path / "unmatched.jsonl").exists()
    # a white corner of 10 by 10 is all that is different
    targets = sorted((folders / "target").iterdir())
    apart = [
        sum(255 - level for level in Image.open(file).convert("RGB").crop((0, 0, 10, 10)).tobytes())
        for file in targets
    ]
    assert row["l1"].value == pytest.approx(sum(apart) / COUNT / (3 * 96 * 80 * 255), abs=1e-9)
    assert row["fid"].n == row["lpips"].n == COUNT
    assert row["fid"].value > 0
    assert {score.key for score in row.scores if score.value is None} == {
        "clip_t", "psnr_outside", "ssim_outside", "lpips_outside",
    }  # fmt: skip


def test_a_folder_held_against_itself_is_at_no_distance(folders, tmp_path):
    same = str(folders / "target")
    config = resolve_config(
        EvalConfig, {"edits": (same, same), "preset": "tiny", "metrics": "l1,fid,clip_i"}
    )
    with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / "run") as run:
        (row,) = evaluate(config, run)
    assert row["l1"].value == 0
    assert row["fid"].value == pytest.approx(0, abs=1e-4)
    assert row["clip_i"].value == pytest.approx(1, abs=1e-6)


def test_two_runs_or_two_labels_without_data_still_ask_for_data(folders, tmp_path):
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "run.json").write_text("{}")
    for second in (str(tmp_path / "second"), f"B={folders / 'target'}"):
        flags = {"edits": (str(folders / "out"), second), "preset": "tiny"}
        with pytest.raises(RicError, match=r"No DATA is given\."):
            check(resolve_config(EvalConfig, flags), tmp_path)


def test_a_misspelt_column_of_the_texts_is_told_with_the_nearest_name(folders, score, tmp_path):
    texts = tmp_path / "texts.csv"
    texts.write_text("id,instruction,regoin_text\nphoto-00,make it red,a red ball\n")
    config = EvalConfig(
        data=str(folders / "source"), source=str(folders / "source"), texts=str(texts),
        preset="tiny", split="all", edits=(f"Mine={folders / 'out'}",), metrics="l1", device="cpu",
    )  # fmt: skip
    progress = Noting()
    with open_run("eval", as_dict(config), runs_dir=tmp_path) as run:
        evaluate(config, run, progress)
    assert any(
        "that are not used: regoin_text. Did you mean region_text by 'regoin_text'?" in line
        for line in progress.lines
    )


def test_texts_beside_data_take_the_place_of_its_own_by_id(make_edits, score, tmp_path):
    data, texts = make_edits(3), tmp_path / "texts.csv"
    given = {"data": data, "split": "all", "metrics": "clip_t"}
    score(f"Mine={data / 'target'}", **given)
    texts.write_text("id,region_text\n01,a green ball near a tree\n")
    shutil.move(tmp_path / "run", tmp_path / "first")
    _, run = score(f"Mine={data / 'target'}", texts=texts, **given)

    def cosines(path: Path) -> dict[str, float]:
        rows = map(json.loads, (path / "per_sample.jsonl").read_text().splitlines())
        return {row["id"]: row["clip_t"] for row in rows if row["label"] == "Mine"}

    before, after = cosines(tmp_path / "first"), cosines(run)
    assert {name for name in before if abs(before[name] - after[name]) > 1e-4} == {"01"}
    shutil.rmtree(run)
    texts.write_text("id,region_text\nother,a green ball\n")
    with pytest.raises(RicError, match=r"Nothing in .* belongs to a sample"):
        score(f"Mine={data / 'target'}", texts=texts, **given)


def test_magicbrush_is_scored_by_its_captions_over_all_turns_or_the_last_of_each_photo(
    make_edits, score, tmp_path
):
    ids = ["7-1", "7-2", "8-1"]
    rows = {n: {"id": name, "group_id": name[0]} for n, name in enumerate(ids)}
    data, made = make_edits(3, rows), tmp_path / "made"
    shades = {"7/7_1": 10, "7/7_inde_2": 90, "7/7_iter_2": 200, "8/8_1": 30}
    for name, level in shades.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (96, 80), (level,) * 3).save(made / f"{name}.png")
    captions = tmp_path / "local_descriptions.json"
    words = {"7": {"7-output1.png": "a ball", "7-output2.png": "a red ball"}}
    captions.write_text(json.dumps(words | {"8": {"8-output1.png": "a tree"}}))
    given = {"data": data, "split": "all", "protocol": "magicbrush", "texts": captions}
    targets = {n: np.asarray(Image.open(data / f"target/{n:02d}.png").convert("RGB"), float)
               for n in range(3)}  # fmt: skip

    def apart(levels: dict[int, int]) -> float:
        return np.mean([np.abs(targets[n] - level).mean() for n, level in levels.items()]) / 255

    every, _ = score(f"Mine={made}", **given)
    assert every["Mine"]["clip_t"].n == 3
    assert every["Mine"]["l1"].value == pytest.approx(apart({0: 10, 1: 90, 2: 30}), abs=1e-6)
    shutil.rmtree(tmp_path / "run")
    final, _ = score(f"Mine={made}", turns="final", **given)
    assert final["Mine"]["clip_t"].n == 2
    assert final["Mine"]["l1"].value == pytest.approx(apart({1: 200, 2: 30}), abs=1e-6)
    shutil.rmtree(tmp_path / "run")
    one, _ = score(f"Mine={made}", turns="final", limit=1, **given)  # a photo, not a turn
    assert one["Mine"]["l1"].value == pytest.approx(apart({1: 200}), abs=1e-6)
    # whoever makes all turns begins with the source of the first
    begun = [np.asarray(Image.open(data / f"source/{n:02d}.png").convert("RGB"), float)
             for n in (0, 2)]  # fmt: skip
    idle = [np.abs(a - targets[n]).mean() / 255 for a, n in zip(begun, (1, 2), strict=True)]
    assert final["Identity (source)"]["l1"].value == pytest.approx(np.mean(idle), abs=1e-6)
    shutil.rmtree(tmp_path / "run")
    captions.write_text("[]")
    with pytest.raises(RicError, match="does not hold MagicBrush's captions"):
        score(f"Mine={made}", **given)


def test_rows_name_the_files_of_their_pictures_without_the_folders_above_those_named(
    score, folders, tmp_path, monkeypatch
):
    given = loose(folders, "source", "target", "mask")

    def files(run: Path) -> dict[str, dict[str, str]]:
        rows = map(json.loads, (run / "per_sample.jsonl").read_text().splitlines())
        names = ("edited_file", "source_file", "target_file", "mask_file")
        return {
            row["label"]: {name: row.get(name) for name in names}
            for row in rows
            if row["id"] == "photo-00"
        }

    _, run = score(f"Mine={folders / 'out'}", metrics="l1", **given)
    mine = {
        "edited_file": "out/photo-00.png", "source_file": "source/photo-00.jpg",
        "target_file": "target/photo-00.png", "mask_file": "mask/photo-00.png",
    }  # fmt: skip
    truth = {**mine, "edited_file": "target/photo-00.png"}
    identity = {**mine, "edited_file": "source/photo-00.jpg"}
    assert files(run) == {"Mine": mine, TRUTH: truth, "Identity (source)": identity}
    assert str(tmp_path) not in (run / "per_sample.jsonl").read_text()
    shutil.rmtree(run)
    monkeypatch.chdir(folders.parent)
    here = {name: Path(folders.name) / name for name in given}
    _, run = score(f"Mine={Path(folders.name) / 'out'}", metrics="l1", **here)
    assert files(run)["Mine"]["edited_file"] == f"{folders.name}/out/photo-00.png"


def test_a_shifted_output_is_scored_where_its_source_is_with_register(score, tmp_path):
    data, made = tmp_path / "data", tmp_path / "made"
    made.mkdir()
    (data / "source").mkdir(parents=True)
    source = Image.fromarray(chelsea()).resize((192, 144))
    source.save(data / "source/00.png")
    moved = source.copy()
    moved.paste(source, (3, 2))
    moved.save(made / "00.png")
    given = {"source": data / "source", "metrics": "l1,shift"}
    plain, _ = score(f"Mine={made}", **given)
    assert plain["Mine"]["shift"].value == pytest.approx(13**0.5, abs=0.1)
    shutil.rmtree(tmp_path / "run")
    back, run = score(f"Mine={made}", register=True, **given)
    assert back["Mine"]["l1"].value < plain["Mine"]["l1"].value / 4
    assert back["Mine"]["shift"].value == pytest.approx(0, abs=0.1)
    assert json.loads((run / "scores.json").read_text())["registered"] is True

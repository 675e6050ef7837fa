"""`ric edit --export`: edits laid out as each benchmark's own judge script looks for them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import benchmark_folders as made
import pytest
from noting import Noting
from PIL import Image, ImageChops

from ric.config import EditConfig, EvalConfig
from ric.data.opened import open_data
from ric.errors import RicError
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.scoring.read_scores import read_scores


@pytest.fixture
def config(tiny: Callable[..., EditConfig], tmp_path: Path) -> Callable[..., EditConfig]:
    """An edit that inverts colours."""
    file = tmp_path / "inverts.py"
    file.write_text(
        "from PIL import ImageOps\n"
        "class Inverts:\n"
        "    def __init__(self, model, config, device): pass\n"
        "    def edit(self, requests, between_steps=lambda: None):\n"
        "        return [ImageOps.invert(request.image) for request in requests]\n"
        "    def describe(self): return {}\n"
    )

    def make(data: str, **changes: Any) -> EditConfig:
        usual = {"split": "test", "editor": f"{file}:Inverts", "export": str(tmp_path / "out")}
        return tiny(EditConfig, data, **{**usual, **changes})

    return make


def files_below(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()
    )


def test_pie_bench_s_edits_have_their_sources_names_and_lose_nothing(config, follow, tmp_path):
    bench = made.pie_bench(tmp_path / "bench")
    run, noting = tmp_path / "run", Noting()
    follow(edit, config(f"pie-bench:{bench}"), run, noting)
    out = tmp_path / "out"
    assert files_below(out) == files_below(bench)[:3]
    for place in files_below(out):
        exported = (out / place).read_bytes()
        assert exported == (run / "images" / f"{Path(place).stem}.png").read_bytes()
        assert Image.open(io.BytesIO(exported)).size == (512, 512)  # as the script opens it
    assert noting.lines[-1] == f"3 edits are in {out}, as pie-bench's judge looks for them"


def test_gedit_s_edits_stand_beside_the_pictures_that_they_are_compared_with(
    config, follow, tmp_path
):
    bench = made.gedit(tmp_path / "bench", one_key=True)
    follow(edit, config(f"gedit:{bench}"), tmp_path / "run")
    places = [
        f"fullset/{task}/{language}/k{number}"
        for number, task in enumerate(("color_alter", "subject-add"))
        for language in ("cn", "en")
    ]
    ends = ("", "_SRCIMG")
    assert files_below(tmp_path / "out") == sorted(
        f"{one}{end}.png" for one in places for end in ends
    )
    for place, scene in zip(places, (0, 0, 1, 1), strict=True):
        edited, source = (Image.open(tmp_path / "out" / f"{place}{end}.png") for end in ends)
        assert source.tobytes() == made.scenes(2)[scene].load_source().tobytes()
        assert ImageChops.invert(edited).tobytes() == source.tobytes()


def test_imgedit_s_edits_are_named_by_their_keys(config, follow, tmp_path):
    bench = made.imgedit(tmp_path / "bench")
    follow(edit, config(f"imgedit:{bench}"), tmp_path / "run")
    assert files_below(tmp_path / "out") == ["1082.png", "667.png", "673.png"]


def test_pica_bench_s_list_names_each_edit_made_and_its_source_and_keeps_the_rest(
    config, follow, tmp_path
):
    bench = made.pica_bench(tmp_path / "bench", {1: {"input_path": "input_img/gone.jpg"}})
    follow(edit, config(f"pica-bench:{bench}"), tmp_path / "run")
    out = tmp_path / "out"
    told = json.loads((out / "meta_info.json").read_text())
    before = json.loads((bench / "meta_info.json").read_text())
    assert told == [
        {**before[number], "output_path": f"output_img/{number:05d}.png"} for number in (0, 2)
    ]
    for row in told:
        assert (out / row["input_path"]).read_bytes() == (bench / row["input_path"]).read_bytes()
        assert (out / row["output_path"]).is_file()
    failures = (tmp_path / "run/failures.jsonl").read_text()
    assert "gone.jpg' does not exist" in failures


def test_a_finished_run_is_laid_out_by_repeating_it_and_an_edit_that_fails_now_is_taken_away(
    config, follow, tmp_path
):
    bench = made.imgedit(tmp_path / "bench")
    run, out = tmp_path / "run", tmp_path / "out"
    follow(edit, config(f"imgedit:{bench}", export=None), run)
    assert not out.exists()
    follow(edit, config(f"imgedit:{bench}"), run)
    assert len(files_below(out)) == 3
    (bench / "original_images/animal/000342021.jpg").write_bytes(b"torn")
    follow(edit, config(f"imgedit:{bench}"), run)
    assert files_below(out) == ["667.png", "673.png"]


def test_another_s_files_are_not_written_over_unless_that_is_asked_for(config, follow, tmp_path):
    bench = made.imgedit(tmp_path / "bench")
    (tmp_path / "out").mkdir()
    theirs = tmp_path / "out/673.png"
    theirs.write_bytes(b"theirs")
    with pytest.raises(RicError, match=r"673.png' is already there") as caught:
        follow(edit, config(f"imgedit:{bench}"), tmp_path / "run")
    assert "--overwrite" in str(caught.value.hint)
    assert theirs.read_bytes() == b"theirs"
    follow(edit, config(f"imgedit:{bench}", overwrite=True), tmp_path / "run-2")
    assert theirs.read_bytes() != b"theirs"


@pytest.mark.parametrize("data", ["scenes:4@64#5", "magicbrush:x", "emu-edit:x"])
def test_data_without_a_judge_of_folders_is_refused_before_anything_is_loaded(config, data):
    with pytest.raises(
        RicError, match="--export lays edits out for a benchmark's own judge"
    ) as caught:
        open_data(config(data))
    assert "pie-bench:DIR" in str(caught.value.hint)


def test_a_place_outside_the_folder_is_refused(config, follow, tmp_path):
    bench = made.gedit(tmp_path / "bench", task="../../..")
    with pytest.raises(RicError, match="outside the folder"):
        follow(edit, config(f"gedit:{bench}"), tmp_path / "run")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*_SRCIMG.png"))


def test_what_was_laid_out_is_scored_like_the_run_that_made_it(config, tiny, follow, tmp_path):
    bench = made.pica_bench(tmp_path / "bench")
    run, data = tmp_path / "run", f"pica-bench:{bench}"
    follow(edit, config(data, mask="data"), run)
    scored = tiny(
        EvalConfig, data, split="test", metrics="l1,psnr_outside", group_by="editing-type",
        edits=(f"Run={run}", f"Folder={tmp_path}/out/output_img"),
    )  # fmt: skip
    follow(evaluate, scored, tmp_path / "scores")
    values = {
        row.label: {score.name: score.value for score in row.scores}
        for row in read_scores(tmp_path / "scores")
    }
    assert values["Run"] == values["Folder"]
    assert values["Run"]["psnr_outside"] == 100
    assert "Reflection" in (tmp_path / "scores/table.md").read_text()

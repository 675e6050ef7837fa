"""The commands of the README and of the docs, typed in their order in one folder, offline.

They run as they are written, with the embedded family's layout and small numbers: `MEANT` says what
stands for DATA and the like, `FEWER` what is added to a command so that it takes a second.
`ELSEWHERE` lists those that cannot run here, with the reason and the test of what they do. Nothing
else is left out. Prose names commands in part; those are only parsed (test_pages_commands.py).
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from benchmark_folders import gedit, pie_bench, png
from pages import PAGES, ROOT, typed
from PIL import Image
from small_segmenters import write_clipseg

from ric.data.drawn_scenes import SceneStream
from ric_cli.main import main

README = ROOT / "README.md"
# from "Train on your data" to "Score anybody's edits"
FIRST_OF_DOORS, LAST_OF_DOORS = "ric describe DATA", "ric eval out/ truths/ --metrics fid,lpips"
SCENES = "scenes:60@64#5"
# what a page's words stand for here
MEANT = {
    "DATA": SCENES,
    "BryanW/HumanEdit": SCENES,
    "scenes:4000@64#3": SCENES,
    "scenes:400@64#5": SCENES,
    "scenes:100@64": SCENES,
    '"…"': '"make it red"',
    "--study 40": "--study 3",
    "RUN": "@train-unet",
    "FIT_CLIP_RUN": "@fit-clip",
    "FIT_BLIP_RUN": "@fit-blip",
    "6 9 12": "@eval",
    "instruction=say": "instruction=say,id=id",  # whose names those of out/ are
    "b.heic": "b.webp",
}
# what is added to a command that begins so, and to one with such a word
FEWER = {
    "ric describe": "--preset tiny",
    "ric fit-clip": "--preset tiny --limit 8 --batch-size 4 --fusion-epochs 1 --joint-epochs 1"
    " --no-controls",
    "ric fit-blip": "--preset tiny --limit 8 --batch-size 4 --epochs 1",
    "ric train-unet": "--preset tiny --limit 8 --batch-size 4 --steps 1",
    "ric edit": "--preset tiny --limit 2",
    "ric eval": "--preset tiny",
    "ric reproduce": "--steps 1 --only table2",
    "humanedit --dry-run": "--folder paper",
    "--mask-text": "--mask-text-model clipseg",
    "ric describe mine": "--describer chat",
    "edits.parquet": "--split all",
    "pie-bench:data/ --editor": "--limit 3",
}
# what cannot run here, why, and the test of what it does
DEMO = "the demo runs these: tests/cli/test_demo_command.py"
FIRST_STEPS = "the first steps in a fresh clone: tests/journeys/test_readme.py"
PROCESSES = "two processes: tests/test_distributed.py"
SERVER = "a server: tests/describers/test_openai_server.py, tests/recipes/test_evaluate_judge.py"
BENCHMARK = "minutes or hours of a core, or a GPU; its figures are in docs/speed.md"
ELSEWHERE = {
    "git clone": FIRST_STEPS,
    "cd ric": FIRST_STEPS,
    "make demo": FIRST_STEPS,
    "source .venv/bin/activate": FIRST_STEPS,
    "demo/scenes": DEMO,
    "--runs-dir demo/runs": DEMO,
    "ric reproduce humanedit --memory": "HumanEdit and a GPU for days:"
    " tests/recipes/test_reproduce.py",
    "--engine ray": "a cluster: tests/test_ray.py",
    "s3://bucket": "an object store: tests/recipes/test_edit_out_s3.py",
    "sbatch": "Slurm: tests/test_examples_slurm.py",
    "torchrun --nnodes": "two nodes, one of which dies: tests/test_distributed.py",
    "torchrun --nproc-per-node": PROCESSES,
    "OPENAI_API_KEY": SERVER,
    "http://host:8000": SERVER,
    "--judge chat": "a model that chats: tests/recipes/test_evaluate_judge.py",
    "ric weights get": "a network: tests/weights/test_weights_fetch.py",
    "--mask-text-sam": "two models, not in the family: tests/recipes/test_edit_mask_text.py",
    "python benchmarks/": BENCHMARK,
}
CODES = {
    "humanedit --dry-run": 1,  # HumanEdit and its weights are missing
    "--protocol pie-bench": 3,  # the family has no network for the structure distance
}
RUN = [page for page in PAGES if page.name != "CONTRIBUTING.md"]  # tests/test_contributing.py


def reason_of(command: str) -> str | None:
    """Tell why a command is not run here; None if it is."""
    return next((why for words, why in ELSEWHERE.items() if words in command), None)


def small(command: str) -> str:
    """Write a page's command with what its words stand for and with small numbers."""
    for word, meant in MEANT.items():
        command = re.sub(rf"(?<![\w/]){re.escape(word)}(?!\w)", meant, command)
    return " ".join([command, *(more for words, more in FEWER.items() if words in command)])


@pytest.fixture
def folder(tmp_path, tiny_family, monkeypatch) -> Path:
    """What the pages suppose to be there: pictures and tables of a user's own, a benchmark."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    scenes = list(SceneStream(count=3, seed=7))
    for scene in scenes:
        source, target, name = scene.load_source(), scene.load_target(), f"{scene.id}.png"
        for place, picture in (
            ("photos", source),
            ("out", Image.blend(source, target, 0.7)),
            ("others", Image.blend(source, target, 0.3)),
            ("truths", target),
            ("masks", Image.fromarray(scene.load_mask())),
        ):
            Path(place).mkdir(exist_ok=True)
            picture.save(Path(place, name))
        shutil.copy(Path("masks", name), Path("photos", f"{scene.id}_mask.png"))
    Path("trips").mkdir()
    for name in ("photo.jpg", "dog.jpg", "a.jpg", "b.webp", "trips/c.png"):
        scenes[0].load_source().save(name)
    for name in ("photo_mask.png", "dog_mask.png", "round.png"):
        shutil.copy(Path("masks", f"{scenes[0].id}.png"), name)
    rows = [f"{scene.id}.png,{scene.instruction}\n" for scene in scenes]
    Path("texts.csv").write_text("file,instruction\n" + "".join(rows))
    Path("todo.csv").write_text("file,instruction\n" + "".join(rows[:2]))
    Path("todo.txt").write_text("make it red\nmake it night\n")
    columns = {
        "id": [scene.id for scene in scenes],
        "before": [{"bytes": png(scene.load_source()), "path": None} for scene in scenes],
        "after": [{"bytes": png(scene.load_target()), "path": None} for scene in scenes],
        "say": [scene.instruction for scene in scenes],
    }
    pyarrow.parquet.write_table(pyarrow.table(columns), "edits.parquet")
    pie_bench(Path("data"))
    shutil.copytree("data/annotation_images", "output/ddim+p2p/annotation_images")
    gedit(Path("GEdit-Bench"))
    write_clipseg(Path("clipseg"), tiny_family / "region_encoder" / "clip")
    return tmp_path


@pytest.fixture
def type_here(folder, monkeypatch, capfd) -> Callable[[str], None]:
    """Type a command of ric in this process; it must end well, or as `CODES` says."""

    def typed_here(command: str) -> None:
        if "--out made/" in command:  # each of a page's lines is another user's
            shutil.rmtree("made", ignore_errors=True)
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        with pytest.raises(SystemExit) as left:
            main()
        told = "".join(capfd.readouterr())
        code = next((code for words, code in CODES.items() if words in command), 0)
        assert (left.value.code or 0) == code, f"{command}\n{told}"

    return typed_here


def make_shards(type_here: Callable[[str], None]) -> None:
    """Edit in three shares, as three machines would."""
    shutil.rmtree("runs/edited", ignore_errors=True)  # of the section before
    for number in (1, 2, 3):
        shard = f"--shard {number}/3 --run shard-{number} --batch-size 1"
        type_here(f"ric edit {SCENES} --preset tiny --limit 6 {shard}")


def score_two(type_here: Callable[[str], None]) -> None:
    """Score two editors, for a report and a study of both."""
    shutil.rmtree("study", ignore_errors=True)
    type_here("ric eval Mine=out/ Theirs=others/ --source photos/ --target truths/ --preset tiny")


def vote(type_here: Callable[[str], None]) -> None:
    """Save what a voter's page would."""
    page = Path("study/study.html").read_text("utf-8")
    found = re.search(r'<script id="study" type="application/json">(.*?)</script>', page)
    told = json.loads(found[1])
    answers = {"study": told["study"], "voter": "v", "saved": "2026-01-02T03:04:05Z"}
    answers["answers"] = ["a"] * len(told["pairs"])
    Path("answers").mkdir()
    Path("answers/v.json").write_text(json.dumps(answers))


# what was done before a command begins, elsewhere or by others
BEFORE = {
    "ric runs join": make_shards,
    "ric report 6 9 12": score_two,
    "--votes": vote,
}


def type_all(commands: list[str], type_here: Callable[[str], None]) -> None:
    for command in commands:
        for words, prepare in BEFORE.items():
            if words in command:
                prepare(type_here)
        type_here(small(command))


def test_what_is_not_run_here_has_a_reason_and_a_test_that_exists():
    commands = [command for page in RUN for command in typed(page)]
    for words, why in ELSEWHERE.items():
        assert any(words in command for command in commands), f"no page has {words!r}"
        for file in re.findall(r"[\w/]+\.(?:py|md)", why):
            assert (ROOT / file).is_file(), file
    left = [command for command in commands if reason_of(command) is None]
    assert [command for command in left if not command.startswith("ric ")] == []
    assert len(left) > len(commands) / 2


def test_the_doors_of_the_readme_are_typed_one_after_the_other(type_here, folder):
    commands = [command for command in typed(README) if reason_of(command) is None]
    doors = commands[commands.index(FIRST_OF_DOORS) : commands.index(LAST_OF_DOORS) + 1]
    assert len(doors) == 12
    type_all(doors, type_here)
    assert (folder / "study" / "study.html").is_file()


@pytest.mark.slow
def test_every_page_s_commands_are_typed_one_after_the_other(type_here):
    for page in RUN:
        type_all([command for command in typed(page) if reason_of(command) is None], type_here)

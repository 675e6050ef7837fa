"""`ric reproduce`: its table of stages, what it shows of the paper, and that it can be resumed."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ric.config import EvalConfig, TrainUnetConfig
from ric.errors import RicError
from ric.interrupt import Interrupted
from ric.memory.plan import plan_as_set
from ric.memory.step import count_step
from ric.preflight.cards import CARDS, SHARE_OF_CARD, find_card
from ric.preflight.cost import arithmetic
from ric.preflight.reproduction import plan_reproduction
from ric.preflight.stage_cost import cost_of, machine_of
from ric.recipes.reproduce import reproduce
from ric.report.paper_numbers import DEFINITIONS, NUMBERS
from ric.reproduction import ROWS, STAGES, TABLES, Reproduction, references
from ric.runs.record import read_record
from ric.settings import resolve_config
from ric.weights import connection

ROOT = Path(__file__).parents[2]
PAPER = ROOT.parent / "shared" / "paper" / "region-in-context.md"
FEW = {"limit": 2, "steps": 2, "device": "cpu"}
DATA = "scenes:60@64#5"


def asked(folder: Path, *only: str, data: str = DATA, **changes: object) -> Reproduction:
    return Reproduction(data=data, folder=folder, preset="tiny", only=only, changes=FEW | changes)


# --- the stages ----------------------------------------------------------------------------------
def test_every_stage_reads_only_runs_of_stages_before_it():
    before: set[str] = set()
    for stage in STAGES:
        assert set(references(stage)) <= before, stage.name
        before.add(stage.name)
    assert len(before) == len(STAGES)


def test_a_table_needs_what_its_rows_are_made_of_and_nothing_else(tmp_path):
    def names(*only: str) -> list[str]:
        return [stage.name for stage in asked(tmp_path, *only).stages()]

    assert names() == [stage.name for stage in STAGES] == names(*TABLES)
    third = names("table3")
    models = [f"edit-{model}" for model in ROWS["table3"].values()]
    assert sorted(name for name in third if name.startswith("edit-")) == sorted(models)
    assert "fit-clip-no-gate" in third
    assert not {"unet-ours-mb", "unet-plain-ip2p", "edit-zone"} & set(third)
    assert "fit-clip-no-gate" not in names("table1", "table2")
    with pytest.raises(RicError, match="No table 'table4'"):
        names("table4")


def test_the_ablations_switch_off_what_their_row_says_and_nothing_else(tmp_path):
    of_paper = Reproduction(data="humanedit", folder=tmp_path)
    configs = {stage.name: of_paper.config(stage) for stage in of_paper.stages()}
    ours = vars(configs["unet-ours-ip2p"])
    assert ours["steps"] == TrainUnetConfig.steps
    differing = {
        name.removeprefix("unet-"): {
            key for key, value in vars(config).items() if value != ours[key]
        }
        for name, config in configs.items()
        if isinstance(config, TrainUnetConfig)
    }
    judges = {"descriptions", "region_clip", "scene_blip"}
    assert differing == {
        "ours-ip2p": set(),
        "ours-mb": {"base"},
        "plain-ip2p": {"region_loss", "global_loss", *judges},
        "plain-mb": {"base", "region_loss", "global_loss", *judges},
        "no-scene-loss": {"global_loss"},
        "no-region-loss": {"region_loss"},
        "no-gated-fusion": {"gated_fusion", "region_clip"},
    }
    assert configs["fit-clip-no-gate"].gated_fusion is False
    assert configs["table1"].edits[1] == f"Ours (on IP2P)={tmp_path / 'edit-ours-ip2p'}"
    assert {one.protocol for one in configs.values() if isinstance(one, EvalConfig)} == {"paper"}


def test_the_shell_script_types_the_same_commands(tmp_path):
    script = (ROOT / "examples" / "humanedit_paper.sh").read_text().replace("\\\n", " ")
    typed = [
        shlex.split(line.replace("$data", "BryanW/HumanEdit").replace("$work", "WORK"))
        for line in script.splitlines()
        if line.startswith("ric ")
    ]
    of_paper = Reproduction(data="humanedit", folder=Path("WORK"))
    assert typed[:-1] == [shlex.split(of_paper.command_line(stage)) for stage in STAGES]
    tables = [f"WORK/{table}" for table in TABLES]
    assert typed[-1] == ["ric", "report", *tables, "--out", "WORK/report"]


# --- the paper -----------------------------------------------------------------------------------
def numbers_in(line: str) -> list[float]:
    """Read the six numbers at a row's end; references such as [21] come before them."""
    return [float(word) for word in re.findall(r"\d+\.\d+", line)][-6:]


def of_table(text: str, number: int) -> list[str]:
    start = text.index(f"Table {number}: ")
    return text[start : start + 1500].splitlines()


@pytest.fixture
def paper() -> str:
    if not PAPER.is_file():
        pytest.skip("../shared is absent")
    return PAPER.read_text()


def test_table_1_is_the_papers(paper):
    lines = of_table(paper, 1)
    first = next(place for place, line in enumerate(lines) if line.startswith("Model CLIP-I"))
    read = [tuple(numbers_in(line)) for line in lines[first + 1 : first + 9]]
    assert read == [NUMBERS[model] for model in ROWS["table1"].values()]


@pytest.mark.parametrize("number", [2, 3])
def test_tables_2_and_3_are_the_papers(paper, number):
    lines = of_table(paper, number)
    first = next(place for place, line in enumerate(lines) if line.startswith("CLIP-I"))
    columns = [re.findall(r"\d+\.\d+", line) for line in lines[first : first + 6]]
    read = [tuple(map(float, column)) for column in zip(*columns, strict=True)]
    assert read == [NUMBERS[model] for model in ROWS[f"table{number}"].values()]
    headings = lines[first - 1].removeprefix("Model ")  # the text's copy has no blanks between them
    assert headings.replace(" ", "") == "".join(ROWS[f"table{number}"]).replace(" ", "")


def test_the_definitions_are_the_papers_words(paper):
    links = r"\[\[?[\d, ]+\]\([^)]*\)\]?"
    plain = re.sub(r"\s+", " ", re.sub(links, "", paper))
    of_clip = "measure CLIP-based similarity between the edited image and the input image or the"
    assert f"CLIP-I and CLIP-T {of_clip} target text, respectively" in plain
    for key in ("dino", "lpips", "fid", "is"):
        assert DEFINITIONS[key] in plain, key


# --- the dry run ---------------------------------------------------------------------------------
def test_a_card_is_found_by_its_number_and_an_ambiguous_name_is_refused():
    assert find_card("4090") == find_card("nvidia GeForce RTX-4090")
    assert find_card("L4").name == "L4"
    with pytest.raises(RicError, match="may be several") as refused:
        find_card("a100")
    assert refused.value.hint == "Choose one of: A100 40GB, A100 80GB."
    with pytest.raises(RicError, match="No card"):
        find_card("Voodoo 2")
    assert len({card.name for card in CARDS}) == len(CARDS)


def test_hours_are_the_arithmetic_over_the_cards_assumed_rate(tmp_path):
    card = find_card("A100 80GB")
    config = resolve_config(TrainUnetConfig, {"data": "BryanW/HumanEdit", "steps": 100})
    cost = cost_of(config, tmp_path, machine_of(card))
    seconds = arithmetic(config, 4888, 100) * 1e9 / (card.teraflops * 1e12 * SHARE_OF_CARD)
    assert cost.hours == pytest.approx(seconds / 3600)
    assert cost.note == cost.problem == ""
    assert 36 < cost.memory < 37.5  # docs/training.md: 36.7 GiB
    on_24 = cost_of(config, tmp_path, machine_of(find_card("RTX 4090")))
    assert on_24.note == "--accumulate 4 --gradient-checkpointing"
    assert on_24.memory < 24


def test_a_dry_run_without_a_network_names_what_is_missing(tmp_path, monkeypatch):
    for name in ("HF_HOME", "TORCH_HOME", "RIC_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    of_paper = Reproduction(data="humanedit", folder=tmp_path / "out", only=("table3",))
    planned = plan_reproduction(of_paper, machine_of(find_card("H100 SXM")))
    assert list(planned.stages) == [stage.name for stage in of_paper.stages()]
    assert {"timbrooks/instruct-pix2pix", "lpips-alex"} < planned.missing.keys()
    assert "facebook/sam-vit-huge" not in planned.missing  # ZONE's, of Table 1
    about = [problem.split(" (")[0] for problem in planned.problems]
    assert about[0] == "The data set BryanW/HumanEdit"
    assert set(about[1:]) == set(planned.missing)
    assert all("HF_HUB_OFFLINE is set" in problem for problem in planned.problems)
    weights = sum(weight.size_bytes for weight in planned.missing.values())
    assert sum(planned.downloads.values()) == weights + 16_377_096_205
    assert not (tmp_path / "out").exists()


def test_a_dry_run_asks_an_unreachable_host_once_for_all_stages(tmp_path, monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HOME", "TORCH_HOME", "RIC_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    asked_for: list[str] = []

    def never_answers(address: tuple[str, int], timeout: float) -> None:
        asked_for.append(address[0])
        time.sleep(timeout)
        raise TimeoutError

    monkeypatch.setattr(connection, "CONNECT_SECONDS", 0.1)
    monkeypatch.setattr(socket, "create_connection", never_answers)
    of_paper = Reproduction(data="humanedit", folder=tmp_path, changes={"device": "cpu"})
    planned = plan_reproduction(of_paper, machine_of(find_card("H100 SXM")))
    assert sorted(asked_for) == ["download.pytorch.org", "github.com", "huggingface.co"]
    # DATA and each weight is named once
    assert len(planned.problems) == 1 + len(planned.missing)
    assert all("no answer in 0.1 s" in problem for problem in planned.problems)


def test_a_step_of_the_family_is_counted_with_its_own_judges(tmp_path):
    config = resolve_config(TrainUnetConfig, {"data": DATA, "preset": "tiny", "region_clip": None})
    cost = cost_of(replace(config, scene_blip=None), tmp_path, machine_of(find_card("H100 SXM")))
    named = replace(config, region_clip="tiny", scene_blip="tiny")
    assert cost.memory == plan_as_set(count_step(named, tmp_path), named).total
    assert not cost.memory_is_least


# --- the run -------------------------------------------------------------------------------------
@pytest.mark.slow
def test_stopped_amid_a_training_it_goes_on_from_there_and_skips_what_is_done(
    tmp_path, stop_after, record_of
):
    folder = tmp_path / "out"
    now = asked(folder, "table3")
    with pytest.raises(Interrupted):
        reproduce(now, stop_after("training", 3))  # the first step of the second UNet
    stages = [stage.name for stage in now.stages()]
    done = [name for name in stages if (folder / name / "run.json").is_file()]
    assert done == stages[: stages.index("unet-no-scene-loss") + 1]
    assert record_of(folder / done[-1])["status"] == "interrupted"
    begun = [record_of(folder / name)["process"] for name in done[:-1]]
    lines: list[str] = []
    made = reproduce(now, say=lines.append)
    assert [line.split("] ")[1] for line in lines[: len(done) - 1]] == [
        f"{name} is done" for name in done[:-1]
    ]
    assert lines[len(done) - 1].startswith(f"[{len(done)}/{len(stages)}] $ ric train-unet")
    assert [record_of(folder / name)["process"] for name in done[:-1]] == begun
    text = made.tables.read_text()
    assert "## Table 3" in text
    assert "## Table 1" not in text
    row = next(line for line in text.splitlines() if line.startswith("| IP2P (with proposed"))
    assert " ".join(row.split(" | ")[2::2]) == "0.9146 0.9736 0.9337 0.2042 77.07 10.4931 |"
    assert "the two cannot be compared" in text
    assert "IP2P (without gated fusion)" in made.page.read_text()
    again: list[str] = []
    assert reproduce(now, say=again.append).tables.read_text() == text
    assert all(line.endswith(" is done") for line in again)
    with pytest.raises(RicError, match=r"was started with other settings: steps: 2 there, 3 now"):
        reproduce(asked(folder, "table3", steps=3))


def child(folder: Path) -> subprocess.Popen:
    flags = ["--preset", "tiny", "--limit", "2", "--steps", "2", "--device", "cpu"]
    words = [sys.executable, "-m", "ric_cli", "reproduce", DATA, *flags, "--folder", str(folder)]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)


def wait_for(file: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600
    while not file.exists():
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_twice_and_repeated_it_ends_with_the_same_three_tables(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for number, amid in ((signal.SIGKILL, "unet-ours-mb"), (signal.SIGTERM, "edit-zone")):
        process = child(killed)
        wait_for(killed / amid / "run.json", process)
        process.send_signal(number)
        process.wait(600)
        assert read_record(killed / amid)["status"] != "done"
        assert not (killed / "tables.md").exists()
    last, straight = child(killed), child(whole)
    assert {last.wait(1800), straight.wait(1800)} <= {0, 3}, last.stderr.read()  # 3: ZONE may fail
    tables = (whole / "tables.md").read_text()
    assert all(f"## Table {number}\n" in tables for number in (1, 2, 3))
    assert (killed / "tables.md").read_text() == tables
    for table in TABLES:
        of_both = [(folder / table / "per_sample.jsonl").read_text() for folder in (whole, killed)]
        assert of_both[0] == of_both[1]

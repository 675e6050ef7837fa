"""`ric describe` as a recipe: a row a sample, and how it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import scene_text
from small_vl2 import write_model

import ric.recipes.describe as recipe
from ric.config import TEXT_OF, DescribeConfig, TrainUnetConfig, as_dict
from ric.data.sample import load_samples
from ric.describers.chat_vlm import ChatVlm
from ric.describers.describer import OneByOne
from ric.describers.prompt import prompt_hash
from ric.describers.quality import Answer
from ric.describers.requests import Request
from ric.errors import RicError, SampleError
from ric.inputs.examples import Needs, load_examples
from ric.interrupt import Interrupted
from ric.progress import Silent
from ric.recipes.describe import describe
from ric.runs.descriptions import read_descriptions
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.weights.tiny_family import SHIPPED
from ric.work import open_work


@pytest.fixture
def config(tiny: Callable[..., DescribeConfig]) -> Callable[..., DescribeConfig]:
    return lambda data, **changes: tiny(DescribeConfig, data, **changes)


def rows(run: Path, kind: str = "descriptions") -> list[dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_every_sample_of_every_split_gets_a_row_with_its_text(
    edits, config, follow, record_of, tmp_path
):
    run = follow(describe, config(edits), tmp_path / "run")
    data = [json.loads(line) for line in (edits / "metadata.jsonl").read_text().splitlines()]
    assert len(data) == 11
    assert rows(run) == [
        {
            "id": row["id"],
            "what": "scene",
            "scene_text": row["scene_text"],
            "instruction": row["instruction"],
            "describer": "dataset",
            "model": None,
            "prompt": None,
        }
        for row in data
    ]
    assert record_of(run)["status"] == "done"


def test_a_model_describes_the_targets_and_is_named_in_every_row(
    make_edits, config, follow, record_of, tiny_family, tmp_path
):
    data = make_edits(2)
    settings = config(data, describer="chat", max_new_tokens=4, quality_gates=False)
    run = follow(describe, settings, tmp_path / "run")
    alone = ChatVlm(tiny_family / "captioner", settings, torch.device("cpu"))
    assert [(row["id"], row["scene_text"]) for row in rows(run)] == [
        (sample.id, scene_text(alone, sample)) for sample in load_samples(data)
    ]
    assert {(row["describer"], row["model"]) for row in rows(run)} == {("chat", "tiny")}
    assert record_of(run)["weights"]["captioner"]["id"] == "tiny"


def test_the_embedded_captioner_writes_whole_paragraphs_of_drawn_scenes_by_default(
    follow, monkeypatch, tmp_path
):
    monkeypatch.setenv("RIC_TINY_FAMILY", str(SHIPPED))
    few = {"preset": "tiny", "data": "scenes:6@64#9", "split": "train", "limit": 3}
    settings = resolve_config(DescribeConfig, few | {"device": "cpu", "describer": "chat"})
    run = follow(describe, settings, tmp_path / "run")
    assert [row["id"] for row in rows(run)] == [one.id for one in load_samples(few["data"])][:3]
    for row in rows(run):
        assert row["scene_text"].endswith(".")
        assert "refused" not in row  # none was asked for again


def test_a_sample_that_cannot_be_described_is_a_row_and_the_rest_goes_on(
    make_edits, config, follow, tmp_path
):
    data = make_edits(2, {1: {"scene_text": None}})
    run = follow(describe, config(data), tmp_path / "run")
    assert [row["id"] for row in rows(run)] == ["00"]
    failures = {row["id"]: (row["stage"], row["reason"]) for row in rows(run, "failures")}
    assert failures == {"01": ("texts", "the data has neither scene_text nor target_text for it")}


def test_only_a_prompt_with_a_place_for_it_needs_an_instruction(
    make_edits, config, follow, tmp_path
):
    data = make_edits(2, {1: {"instruction": None}})
    run = follow(describe, config(data), tmp_path / "with-captions")
    assert [row["id"] for row in rows(run)] == ["00", "01"]
    model = {"describer": "chat", "max_new_tokens": 2, "quality_gates": False}
    run = follow(describe, config(data, **model, what="source-caption"), tmp_path / "source")
    assert [row["id"] for row in rows(run)] == ["00", "01"]
    run = follow(describe, config(data, **model), tmp_path / "with-model")
    (failure,) = rows(run, "failures")
    assert (failure["id"], failure["stage"]) == ("01", "texts")
    assert failure["reason"] == "It has no instruction. Add instruction in metadata.jsonl."


def test_a_broken_target_is_a_row_when_a_model_describes(make_edits, config, follow, tmp_path):
    data = make_edits(2)
    (data / "target/00.png").write_bytes(b"")
    settings = config(data, describer="chat", max_new_tokens=2, quality_gates=False)
    run = follow(describe, settings, tmp_path / "run")
    assert [row["id"] for row in rows(run)] == ["01"]
    (failure,) = rows(run, "failures")
    assert (failure["id"], failure["stage"]) == ("00", "target")
    assert "is empty (0 bytes)" in failure["reason"]


def test_deepseek_vl2_describes_several_at_once_and_a_broken_target_is_a_row(
    make_edits, config, follow, tmp_path
):
    data = make_edits(5)
    (data / "target/01.png").write_bytes(b"")
    model = write_model(tmp_path / "vl2")
    settings = {"describer": "chat", "model": str(model), "max_new_tokens": 3}
    settings["quality_gates"] = False
    alone = follow(describe, config(data, **settings), tmp_path / "alone")
    run = follow(describe, config(data, **settings, batch_size=3), tmp_path / "together")
    assert [row["id"] for row in rows(run)] == ["00", "02", "03", "04"]
    assert rows(run) == rows(alone)
    for path in (run, alone):
        (failure,) = rows(path, "failures")
        assert (failure["id"], failure["stage"]) == ("01", "target")


class _Counting:
    """A describer of one's own that notes which samples it was asked for, and fails some."""

    def __init__(self, failing: tuple[str, ...] = ()) -> None:
        self.asked: list[str] = []
        self.failing = failing

    def describe(self, sample: Any) -> str:
        self.asked.append(sample.id)
        if sample.id in self.failing:
            raise SampleError(sample.id, "texts", "the model's answer is empty")
        return f"text of {sample.id}"


def test_an_interrupted_describe_goes_on_where_it_stopped(
    make_edits, config, follow, stop_after, record_of, monkeypatch, tmp_path
):
    counting = _Counting()
    monkeypatch.setattr(recipe, "load_describer", lambda *given: OneByOne(counting))
    settings = config(make_edits(5))
    with pytest.raises(Interrupted):
        follow(describe, settings, tmp_path / "run", stop_after("describing", 2))
    assert counting.asked == ["00", "01"]
    assert record_of(tmp_path / "run")["status"] == "interrupted"
    run = follow(describe, settings, tmp_path / "run")
    assert counting.asked == ["00", "01", "02", "03", "04"]
    assert [(row["id"], row["scene_text"]) for row in rows(run)] == [
        (name, f"text of {name}") for name in counting.asked
    ]


def test_a_describe_that_only_fails_can_be_interrupted_too(
    make_edits, config, follow, monkeypatch, tmp_path
):
    import signal

    counting = _Counting(failing=("00", "01", "02", "03"))
    original = counting.describe

    def fail_and_stop(sample: Any) -> str:
        signal.raise_signal(signal.SIGINT)
        return original(sample)

    monkeypatch.setattr(counting, "describe", fail_and_stop)
    monkeypatch.setattr(recipe, "load_describer", lambda *given: OneByOne(counting))
    with pytest.raises(Interrupted):
        follow(describe, config(make_edits(4)), tmp_path / "run")
    assert counting.asked == ["00"]


def test_data_without_samples_is_an_error(make_edits, config, follow, tmp_path):
    with pytest.raises(RicError, match="has no sample of split test"):
        follow(describe, config(make_edits(2), split="test"), tmp_path / "run")


def test_data_of_which_no_row_can_be_described_says_why(make_edits, config, record_of, tmp_path):
    data = make_edits(2, {n: {"instruction": None} for n in range(2)})
    settings = config(data, describer="chat", max_new_tokens=2)
    place = {"runs_dir": tmp_path, "run": tmp_path / "run", "shared": True}  # as it is typed
    with (
        pytest.raises(RicError, match=r"All 2 samples failed\. 00: It has no instruction"),
        open_run("describe", as_dict(settings), **place) as run,
    ):
        describe(settings, run)
    assert [row["id"] for row in rows(tmp_path / "run", "failures")] == ["00", "01"]
    assert record_of(tmp_path / "run")["status"] == "failed"


# --- kinds of text, and answers that cannot be used ----------------------------------------------


class _Saying:
    """A model whose answers are given, in order, for each question; it notes what it is asked."""

    is_model = True
    reads_prompt = True

    def __init__(self, *texts: str) -> None:
        self.texts = texts
        self.asked: list[Request] = []

    def answer(self, requests: Iterable[Request], between_steps: Any) -> Any:
        for request in requests:
            self.asked.append(request)
            yield request, Answer(self.texts[min(request.attempt, len(self.texts)) - 1])


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Saying]:
    def make(*texts: str) -> _Saying:
        model = _Saying(*texts)
        monkeypatch.setattr(recipe, "load_describer", lambda *given: model)
        return model

    return make


MODEL = {"describer": "chat"}


def test_all_kinds_of_text_are_rows_of_their_own_with_their_prompt_s_hash(
    make_edits, config, follow, record_of, saying, tmp_path
):
    saying("A ball lies on grass.")
    run = follow(describe, config(make_edits(2), **MODEL, what="all"), tmp_path / "run")
    found = rows(run)
    assert [(row["id"], row["what"]) for row in found] == [
        (name, what) for name in ("00", "01") for what in TEXT_OF
    ]
    prompts = record_of(run)["prompts"]
    for row in found:
        assert row[TEXT_OF[row["what"]]] == "A ball lies on grass."
        assert row["prompt"] == prompts[row["what"]]["sha256"]
        assert prompt_hash(prompts[row["what"]]["text"]) == row["prompt"]


def test_a_sample_without_an_instruction_lacks_only_the_texts_that_need_one(
    make_edits, config, follow, saying, tmp_path
):
    saying("A ball lies on grass.")
    data = make_edits(2, {1: {"instruction": None}})
    run = follow(describe, config(data, **MODEL, what="all"), tmp_path / "run")
    found = {row["what"] for row in rows(run) if row["id"] == "01"}
    assert found == {"region", "source-caption"}
    failures = rows(run, "failures")
    assert {(row["id"], row["what"]) for row in failures} == {
        ("01", what) for what in TEXT_OF if what not in found
    }
    assert {row["reason"] for row in failures} == {"It has no instruction in metadata.jsonl."}


def test_texts_are_resumed_one_by_one_and_another_prompt_is_refused(
    make_edits, config, follow, saying, stop_after, tmp_path
):
    data, prompt = make_edits(2), tmp_path / "prompt.txt"
    model = saying("A ball lies on grass.")
    settings = config(data, **MODEL, what="all")
    with pytest.raises(Interrupted):
        follow(describe, settings, tmp_path / "run", stop_after("describing", 3))
    run = follow(describe, settings, tmp_path / "run")
    asked = [(request.sample.id, request.what) for request in model.asked]
    assert asked == [(name, what) for name in ("00", "01") for what in TEXT_OF]
    assert len(rows(run)) == 10
    prompt.write_text("Describe it.")
    settings = config(data, **MODEL, prompt_file=str(prompt))
    with pytest.raises(Interrupted):
        follow(describe, settings, tmp_path / "own", stop_after("describing", 1))
    prompt.write_text("Describe it well.")
    with pytest.raises(RicError, match="The prompt for scene has changed"):
        follow(describe, settings, tmp_path / "own")


def test_an_answer_with_a_fault_is_asked_for_again_with_another_seed_and_then_fails(
    make_edits, config, follow, record_of, saying, tmp_path
):
    data = make_edits(2)
    model = saying("- a ball\n- grass", "", "A  ball\nlies on grass.")
    run = follow(describe, config(data, **MODEL), tmp_path / "run")
    assert [(row["scene_text"], row["refused"]) for row in rows(run)] == [
        ("A ball lies on grass.", ["list", "empty"])
    ] * 2
    seeds = [request.answer_seed for request in model.asked]
    assert seeds[:1] == [None]
    assert len({seed for seed in seeds if seed is not None}) == 4
    quality = record_of(run)["quality"]
    assert quality == {"refused": {"list": 2, "empty": 2}, "notes": {}, "again": 2, "failed": 0}
    with pytest.raises(RicError, match="All 2 samples failed"):
        follow(describe, config(data, **MODEL, attempts=2), tmp_path / "failing")
    failure, _ = rows(tmp_path / "failing", "failures")
    assert (failure["stage"], failure["what"]) == ("quality", "scene")
    assert failure["reason"] == "no answer of 2 can be used: list, empty"
    assert record_of(tmp_path / "failing")["quality"]["failed"] == 2


def test_answers_are_taken_as_they_are_without_quality_gates_unless_empty(
    make_edits, config, follow, saying, tmp_path
):
    saying("", "- a ball\n- grass")
    run = follow(describe, config(make_edits(1), **MODEL, quality_gates=False), tmp_path / "run")
    ((text, refused),) = [(row["scene_text"], row["refused"]) for row in rows(run)]
    assert (text, refused) == ("- a ball - grass", ["empty"])


def test_a_text_that_does_not_fit_its_instruction_is_noted_and_counted(
    make_edits, config, follow, record_of, saying, tmp_path
):
    saying("A dog lies on grass.")
    notes: list[str] = []
    progress = Silent()
    progress.note = notes.append
    run = follow(describe, config(make_edits(2), **MODEL), tmp_path / "run", progress)
    assert {row["note"] for row in rows(run)} == {"names nothing of the instruction"}
    assert record_of(run)["quality"]["notes"] == {"names nothing of the instruction": 2}
    assert notes == ["2 texts: names nothing of the instruction (note in descriptions.jsonl)"]


def test_region_texts_of_a_run_become_the_trainings_region_texts(
    make_edits, config, follow, saying, tiny, tmp_path
):
    saying("A ball lies on grass.")
    data = make_edits(2, {1: {"region_text": None}})
    described = follow(describe, config(data, **MODEL, what="region"), tmp_path / "described")
    training = tiny(TrainUnetConfig, data, split="train")
    with open_run("train-unet", as_dict(training), runs_dir=tmp_path) as run:
        read = read_descriptions(str(described), load_samples(data), run)
        needs = Needs(64, region_text="region_text", descriptions=read)
        examples = load_examples(training, open_work(training, run), "train", needs)
    assert [item.region_text for item in examples] == ["A ball lies on grass."] * 2
    assert examples[0].scene_text is not None  # the data's own


def test_the_shards_of_a_data_set_share_its_samples_out(make_edits, config, follow, tmp_path):
    data = make_edits(11)
    shares = []
    for number in (1, 2, 3):
        run = follow(describe, config(data, shard=f"{number}/3"), tmp_path / f"shard-{number}")
        shares.append({row["id"] for row in rows(run)})
    assert all(shares)
    assert sorted(name for share in shares for name in share) == [
        f"{number:02d}" for number in range(11)
    ]


def test_two_processes_on_one_run_of_100_samples_write_100_rows_none_twice(tmp_path):
    words = ("describe", "scenes:100@64#5", "--preset", "tiny", "--describer", "chat")
    words += ("--max-new-tokens", "2", "--no-quality-gates", "--batch-size", "4", "--quiet")
    command = [sys.executable, "-m", "ric_cli", *words, "--run", str(tmp_path / "run")]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    found = [row["id"] for row in rows(tmp_path / "run")]
    assert len(found) == len(set(found)) == 100

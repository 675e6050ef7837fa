"""`ric describe` as a recipe: a row a sample, and how it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import scene_text
from small_vl2 import write_model

import ric.recipes.describe as recipe
from ric.config import DescribeConfig
from ric.data.sample import load_samples
from ric.describers.chat_vlm import ChatVlm
from ric.describers.describer import OneByOne
from ric.errors import RicError, SampleError
from ric.interrupt import Interrupted
from ric.recipes.describe import describe


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
    with pytest.raises(RicError, match=r"No sample of .* \(split test\) can be described"):
        follow(describe, config(make_edits(2), split="test"), tmp_path / "run")

"""`ric doctor` tells what is here, and what really works."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_json_is_one_object_with_versions_machine_attention_and_weights(ric):
    said = ric("doctor", "--json")
    assert said.code == 0
    told = json.loads(said.out)
    assert told["device"] == "cpu"
    assert torch.__version__.startswith(told["versions"]["torch"])
    assert {"python", "machine", "cpus", "memory_bytes", "disk_free_bytes"} <= told.keys()
    assert "tiny" in [row["id"] for row in told["weights"]]


def test_attention_back_ends_are_really_run(ric, monkeypatch):
    def attention() -> dict[str, dict]:
        told = json.loads(ric("doctor", "--json").out)["attention"]
        return {row["name"]: row for row in told}

    working = attention()["math"]
    assert working["works"]
    assert working["detail"].startswith("largest error ")
    plain = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *inputs: plain(*inputs) + 1
    )
    broken = attention()["math"]
    assert not broken["works"]
    assert broken["detail"].startswith("wrong numbers: largest error ")


def test_people_get_three_tables(ric):
    said = ric("doctor")
    assert said.code == 0
    for words in ("This machine", "Attention, each tried once", "licence and conditions"):
        assert words in said.out
    (row,) = [line for line in said.out.splitlines() if "│ math " in line]
    assert [cell.strip() for cell in row.split("│")[1:3]] == ["math", "yes"]

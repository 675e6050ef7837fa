"""`ric eval --metrics context_consistency`, as it is typed."""

from __future__ import annotations

import json

import numpy as np
import pytest


def test_ric_eval_shows_it_with_its_interval_when_it_is_named(ric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = ("scenes:60@64#5", "--preset", "tiny", "--limit", "3")
    assert ric("edit", *data, "--editor", "none", "--run", "edits").code == 0
    asked = ("--data", *data, "--metrics", "l1,context_consistency", "--run", "scored")
    said = ric("eval", "Same=edits", *asked)
    assert said.code == 0, said.err
    (scores, *_) = json.loads((tmp_path / "scored" / "scores.json").read_text())["editors"]
    (name,) = (name for name in scores["scores"] if name.startswith("context_consistency"))
    one = scores["scores"][name]
    assert one["low"] <= one["value"] <= one["high"]
    lines = (tmp_path / "scored" / "per_sample.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["label"] == "Same"]
    each = [row["context_consistency"] for row in rows]
    assert one["value"] == pytest.approx(np.mean(each))


def test_a_judge_without_it_is_refused(ric, tmp_path, monkeypatch, tiny_family):
    monkeypatch.chdir(tmp_path)
    judge = tiny_family / "region_encoder"
    said = ric("eval", "A=.", "--data", "scenes:60@64#5", "--metrics", "l1", "--region-clip", judge)
    assert said.code == 1
    assert "--metrics all,context_consistency" in said.err


def test_without_a_judge_it_is_refused_with_the_flag_to_add(ric, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ric("eval", "A=.", "--data", "scenes:60@64#5", "--metrics", "context_consistency")
    assert said.code == 1
    assert "--region-clip @fit-clip" in said.err

"""`ric eval` as it is typed: the table, its meanings, `--json`, and a run that is finished."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ric.errors import RicError
from ric.metric_table import Metric
from ric.scoring.read_scores import read_differences, read_scores
from ric.scoring.scores import THE_SIX, Difference, Score, Scores
from ric_cli.evaluate import show_scores

Typed = tuple[object, ...]


@pytest.fixture
def typed(data: Path, tmp_path: Path, tiny_family: Path) -> Typed:
    """An eval of two grey pictures and a red one, into ./mine."""
    (tmp_path / "out").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (80 * number, 9, 9)).save(tmp_path / f"out/{number}.png")
    tiny = ("--preset", "tiny", "--split", "all", "--run", "mine")
    return ("eval", "Mine=out", "--data", data, *tiny)


def test_json_holds_every_score_and_where_they_are_kept(ric, typed):
    said = ric(*typed, "--json")
    assert said.code == 0, said.err
    told = json.loads(said.out)
    assert told["result"] == "mine/scores.json"
    kept = json.loads(Path("mine/scores.json").read_text())["editors"]
    assert told["scores"].keys() == {row["label"] for row in kept} >= {"Mine"}
    mine = next(row for row in kept if row["label"] == "Mine")
    assert told["scores"]["Mine"] == {
        name: {key: score[key] for key in ("value", "n", "low", "high") if key in score}
        for name, score in mine["scores"].items()
    }
    assert told["scores"]["Mine"]["l1"]["n"] == 3
    assert told["scores"]["Mine"]["l1"].keys() == {"value", "n", "low", "high"}
    (apart,) = told["differences"]
    assert (apart["label"], apart["against"]) == ("Mine", "Identity (source)")
    assert apart["scores"]["l1"].keys() == {"value", "n", "low", "high", "p"}
    of_identity = json.loads(Path("mine/scores.json").read_text())["differences"][0]["scores"]
    assert 0 < apart["scores"]["l1"]["p"] == of_identity["l1"]["p"] <= 1
    # and again when the run is finished
    again = json.loads(ric(*typed, "--json").out)
    assert (again["result"], again["scores"]) == (told["result"], told["scores"])


def test_a_finished_run_shows_its_table_again(ric, typed):
    first = ric(*typed)
    assert first.code == 0, first.err
    assert "CLIP-I" in first.out
    said = ric(*typed)
    assert "mine is already finished; nothing was left to do." in said.err
    assert said.out == first.out
    meanings = [line for line in first.err.splitlines() if "(N = " in line]
    assert meanings
    assert [line for line in said.err.splitlines() if line in meanings] == meanings


def test_differences_stand_below_the_table_each_time_it_is_shown(ric, typed, tmp_path):
    (tmp_path / "other").mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (9, 80 * number, 9)).save(tmp_path / f"other/{number}.png")
    command, *rest = typed
    first = ric(command, "Yours=other", *rest)
    assert "Mine - Yours" in first.out
    assert "Differences on the same samples, with 95 % intervals" in first.out
    kept = json.loads(Path("mine/scores.json").read_text())["differences"][0]["scores"]
    assert f"{kept['clip_i[tiny]']['value']:+.4f} [" in first.out
    assert ric(command, "Yours=other", *rest).out == first.out
    assert "Differences" not in ric("eval", "Mine=out", *rest[1:-2], "--run", "alone").out
    # where no metric of the first table is asked for, the others' are shown
    of_pixels = ric(command, "Yours=other", *rest[:-2], "--metrics", "l1,l2").out
    assert "L1" in of_pixels.partition("Differences on the same samples")[2]


def test_quiet_prints_the_table_and_nothing_else(ric, typed):
    loud = ric(*typed)
    said = ric(*typed, "--quiet")
    assert (said.out, said.err) == (loud.out, "")


def test_scores_that_were_written_are_read_back_as_they_were(tmp_path):
    scores = (
        Score(key="clip_i", definition="of a", value=0.5, n=3, interval=(0.4, 0.6)),
        Score(key="is", definition="of b", value=2.0, n=3, std=0.1, marker="scene-net", note="x"),
        Score(key="fid", n=3, value=4.0, ranks=False),
        Score(key="dino", n=3, unavailable="no network"),
        Score(key="Sharp", value=1.0, n=3, own=Metric("Sharpness", False, 2)),
    )
    rows = [
        Scores(label="A", scores=scores, samples=3, shared=2, photos=3),
        Scores(label="S", scores=scores, role="identity", samples=2, shared=2, photos=1),
    ]
    text = json.dumps({"editors": [row.as_dict() for row in rows]})
    (tmp_path / "scores.json").write_text(text)
    assert read_scores(tmp_path) == rows


def test_differences_that_were_written_are_read_back_as_they_were(tmp_path):
    scores = (Score(key="fid", definition="a", value=-0.5, n=3, interval=(-0.7, 0.1), marker="x"),)
    rows = [Difference(label="B", against="A", scores=scores, samples=3)]
    (tmp_path / "scores.json").write_text(
        json.dumps({"editors": [], "differences": [row.as_dict() for row in rows]})
    )
    assert read_differences(tmp_path) == rows
    (tmp_path / "scores.json").write_text('{"editors": []}')  # as older runs are
    assert read_differences(tmp_path) == []


@pytest.mark.parametrize("text", [None, "", "[]", '{"editors": [{}]}'])
def test_scores_that_cannot_be_read_are_named(tmp_path, text):
    if text is not None:
        (tmp_path / "scores.json").write_text(text)
    with pytest.raises(RicError, match=r"The scores in .*scores\.json cannot be read\."):
        read_scores(tmp_path)


def test_a_meaning_ends_in_one_full_stop(capsys):
    class Run:
        record = {"data": {"name": "d"}, "config": {"split": "test"}}  # noqa: RUF012
        path = Path("mine")

    reasons = dict.fromkeys(THE_SIX, "It needs two samples and has 1.")
    scores = [Score(key=key, n=1, unavailable=reason) for key, reason in reasons.items()]
    scores[0] = Score(key="clip_i", n=1, value=0.5, definition="of a and b")
    show_scores([Scores(label="A", scores=tuple(scores), samples=1)], Run())
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "clip_i (N = 1): of a and b."
    which = "dino, clip_t, lpips, fid, is"
    assert told[1] == f"Not available: {which}: It needs two samples and has 1."
    assert not [line for line in told if ".." in line]


def test_on_a_terminal_arrows_say_which_way_is_better_and_the_best_is_bold(
    capsys, monkeypatch, tmp_path
):
    class Run:
        record = {"data": {"name": "d"}, "config": {"split": "test"}}  # noqa: RUF012
        path = tmp_path

    (tmp_path / "scores.json").write_text('{"editors": []}')
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def row(label: str, clip_i: float, lpips: float) -> Scores:
        values = {"clip_i": clip_i, "lpips": lpips}
        scores = tuple(Score(key=key, value=value, n=3) for key, value in values.items())
        return Scores(label=label, scores=scores, samples=3)

    show_scores([row("A", 0.5, 0.3), row("B", 0.75, 0.4)], Run(), quiet=True)
    told = capsys.readouterr().out
    assert "CLIP-I ↑" in told
    assert "LPIPS ↓" in told
    bold = re.findall(r"\x1b\[1m +([\d.]+)\x1b\[0m", told)
    assert bold == ["0.3000", "0.7500"]

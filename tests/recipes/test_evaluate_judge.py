"""`ric eval --judge`: what a judge is asked, what its answers become, and what is told of it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chat_server import ChatServer, Reply, refuses, says, serving
from noting import Noting
from PIL import Image
from scipy import stats
from small_chat import write_chat_model
from small_judge import write_judge_model, write_prompts

from ric.config import EvalConfig, as_dict
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.recipes.evaluate import evaluate
from ric.report.arms import read_side
from ric.report.score_tables import read_scored_run
from ric.runs.open_run import open_run
from ric.scoring.judge_prompts import QUESTIONS
from ric.scoring.judge_words import judge_in_words
from ric.scoring.scores import Scores

IDENTITY, TRUTH = "Identity (source)", "Ground truth"
KEY = "sk-a-secret-0123456789"


@pytest.fixture(scope="module")
def data(make_edits: Callable[..., Path]) -> Path:
    return make_edits(3)


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (96, 80), (level, level, level))


@pytest.fixture(scope="module")
def outputs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder of grey pictures, one level for each sample."""

    def make(*levels: int) -> Path:
        folder = tmp_path_factory.mktemp("outputs")
        for level, sample in zip(levels, load_samples(data), strict=True):
            grey(level).save(folder / f"{sample.id}.png")
        return folder

    return make


Score = Callable[..., tuple[dict[str, Scores], Path]]


@pytest.fixture
def score(tiny: Callable[..., EvalConfig], data: Path, tmp_path: Path) -> Score:
    """Score labels with folders by a server's judge; return the rows by label, and the run."""

    def call(
        *edits: str,
        by: ChatServer | None = None,
        on: Path = data,
        name: str = "run",
        progress: Any = None,
        **changes: Any,
    ) -> tuple[dict[str, Scores], Path]:
        judge = {"judge": "openai", "judge_model": "small", "base_url": by.url} if by else {}
        settings = {"split": "all", "metrics": "l1,vie", **judge, **changes}
        config = tiny(EvalConfig, on, edits=edits, **settings)
        with open_run("eval", as_dict(config), runs_dir=tmp_path, run=tmp_path / name) as run:
            rows = evaluate(config, run, progress)
        return {row.label: row for row in rows}, run.path

    return call


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="openai is not installed")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


class Seen:
    """What a server was shown in one request: its question, and the mean level of each picture."""

    def __init__(self, body: dict[str, Any]) -> None:
        *pictures, said = body["messages"][0]["content"]
        self.text = said["text"]
        self.levels = [level_of(one["image_url"]["url"]) for one in pictures]
        words = {name: one.prompt.partition("{")[0][:40] for name, one in QUESTIONS.items()}
        self.about = "Two pictures are shown" if len(pictures) == 2 else words["vie_quality"]
        self.question = "vie_quality" if len(pictures) == 1 else "vie_semantics"
        if "three grades" in self.text:
            self.question = "imgedit"


def level_of(url: str) -> float:
    data = base64.b64decode(url.partition(";base64,")[2])
    with Image.open(io.BytesIO(data)) as picture:
        return float(np.asarray(picture.convert("L"), float).mean())


def answer(*grades: float) -> Reply:
    return says(json.dumps({"reasoning": "It is so.", "score": list(grades)}))


def by_level(n: int, body: dict[str, Any]) -> Reply:
    """Grade grey edits by a tenth of their level, all others with 5."""
    seen = Seen(body)
    edit = seen.levels[-1] if "first picture is a photo before" in seen.text else seen.levels[0]
    grade = round(edit / 10) if abs(edit / 10 - round(edit / 10)) < 0.06 and edit < 105 else 5
    if seen.question == "vie_semantics":
        return answer(10, grade)
    return answer(grade, 9) if seen.question == "vie_quality" else answer(1, 5, 3)


def rows_of(run: Path, label: str) -> dict[str, dict[str, Any]]:
    lines = map(json.loads, (run / "per_sample.jsonl").read_text().splitlines())
    return {row["id"]: row for row in lines if row["label"] == label}


def kept(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "judge_answers.jsonl").read_text().splitlines()]


def told(run: Path) -> dict[str, Any]:
    return json.loads((run / "scores.json").read_text())["judge"]


# --- what is asked, and what becomes of it -------------------------------------------------------


def test_scores_are_reckoned_from_the_grades_as_the_papers_reckon_them(score, outputs):
    with serving(by_level) as server:
        rows, run = score(
            f"Mine={outputs(20, 40, 90)}", f"Other={outputs(30, 50, 100)}",
            by=server, metrics="l1,gedit,imgedit", seed=3,
        )  # fmt: skip
    mine = rows["Mine"]
    assert (
        mine["vie_semantics"].value == mine["vie_quality"].value == pytest.approx((2 + 4 + 9) / 3)
    )
    assert rows["Other"]["vie_quality"].value == pytest.approx((3 + 5 + 9) / 3)
    # semantics 10, quality 9 at most: a part is its lowest grade
    overall = np.sqrt([3 * 3, 5 * 5, 10 * 9])
    assert rows["Other"]["vie_overall"].value == pytest.approx(overall.mean())
    assert mine["imgedit"].value == pytest.approx(3)
    assert mine["vie_overall"].heading == "VIEScore[small] ↑"
    assert mine["vie_overall"].interval is not None
    assert mine["l1"].value is not None
    assert [rows_of(run, "Mine")[name]["vie_overall"] for name in ("00", "01", "02")] == [2, 4, 9]
    differences = json.loads((run / "scores.json").read_text())["differences"]
    apart = differences[0]["scores"]["vie_quality[small]"]
    assert (differences[0]["label"], apart["value"]) == ("Other", pytest.approx(2 / 3))
    judge = told(run)
    assert (judge["back_end"], judge["model"], judge["seed"]) == ("openai", "small", 3)
    assert judge["prompts"]["imgedit"]["text"] == QUESTIONS["imgedit"].prompt
    assert judge["malformed"] == {}
    # three questions about each of 3 photos, in 4 rows
    assert judge["questions"] == len(server.asked) == len(kept(run)) == 36
    assert all(row["answers"] and row["grades"] and not row["faults"] for row in kept(run))
    line = "Judge: small (openai, seed 3); 36 questions, 0 malformed answers, 0 questions without"
    assert line in (run / "table.md").read_text()
    # and on the page of ric report
    assert any(one.startswith(line) for one in read_scored_run(run).meanings)


def test_a_judge_sees_the_source_then_the_edit_and_the_edit_alone_for_its_quality(score, outputs):
    with serving(by_level) as server:
        score(f"Mine={outputs(20, 40, 90)}", by=server, metrics="vie_overall", limit=1)
    seen = [Seen(asked["body"]) for asked in server.asked]
    of_mine = [one for one in seen if abs(one.levels[-1] - 20) < 1]
    assert sorted(one.question for one in of_mine) == ["vie_quality", "vie_semantics"]
    for one in of_mine:
        assert len(one.levels) == (2 if one.question == "vie_semantics" else 1)
        assert ("add a red ball near the tree" in one.text) == (one.question == "vie_semantics")
        assert "{" not in one.text.replace('{"reasoning"', "")
    # greedy, with the key of the environment
    assert all(asked["body"]["temperature"] == 0 for asked in server.asked)
    assert server.asked[0]["headers"]["authorization"] == f"Bearer {KEY}"


def test_the_key_stands_in_no_file_of_the_run(score, outputs):
    def echo(n: int, body: dict[str, Any]) -> Reply:
        return refuses(400, f"bad key {KEY}") if n == 3 else by_level(n, body)

    with serving(echo) as server:
        _, run = score(f"Mine={outputs(20, 40, 90)}", by=server)
    for file in run.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    (failed,) = (run / "failures.jsonl").read_text().splitlines()
    assert json.loads(failed)["stage"] == "judge"
    assert "bad key …" in json.loads(failed)["reason"]


def test_pictures_that_are_the_same_are_asked_about_once(score, outputs, data):
    with serving(by_level) as server:
        rows, run = score(f"Mine={outputs(20, 40, 90)}", f"Copy={outputs(20, 40, 90)}",
                          f"None={data / 'source'}", by=server)  # fmt: skip
    # a copy, and the source as its own edit, are no further questions
    assert len(server.asked) == told(run)["questions"] == 2 * 3 * 3
    assert rows["Copy"]["vie_overall"].value == rows["Mine"]["vie_overall"].value
    assert rows["None"]["vie_overall"].value == rows[IDENTITY]["vie_overall"].value


def test_a_sample_without_an_instruction_is_judged_by_its_looks_alone(score, outputs, make_edits):
    bare = make_edits(3, {1: {"instruction": None}})
    with serving(by_level) as server:
        rows, run = score(f"Mine={outputs(20, 40, 90)}", by=server, on=bare)
    mine = rows["Mine"]
    assert (mine["vie_quality"].n, mine["vie_semantics"].n, mine["vie_overall"].n) == (3, 2, 2)
    assert mine["vie_semantics"].note == "Samples without an instruction: 1 of 3."
    assert mine["vie_quality"].note is None
    assert not (run / "failures.jsonl").exists()


# --- answers that are no good --------------------------------------------------------------------


def test_a_malformed_answer_is_asked_for_again_with_another_seed_and_counted(score, outputs):
    first: list[int] = []

    def clumsy(n: int, body: dict[str, Any]) -> Reply:
        if "seed" in body:
            return by_level(n, body)
        first.append(n)
        return answer(11, 4) if len(first) % 2 else says("Nice!")

    with serving(clumsy) as server:
        _, run = score(
            f"Mine={outputs(20, 40, 90)}", by=server, metrics="vie_quality", concurrency=1
        )
    judge = told(run)
    assert judge["questions"] == 9
    assert judge["malformed"] == {"a grade out of range": 5, "no grades": 4}
    assert judge["unanswered"] == 0
    assert len(server.asked) == 18
    seeds = [asked["body"]["seed"] for asked in server.asked if "seed" in asked["body"]]
    assert len(set(seeds)) == 3  # of each sample, whoever edited it
    for row in kept(run):
        assert len(row["answers"]) == 2
        assert row["faults"] in (["no grades"], ["a grade out of range"])
    lines = judge_in_words(judge)
    assert "9 malformed answers (a grade out of range 5, no grades 4)" in lines[0]


def test_a_question_without_a_readable_answer_fails_its_sample_and_nothing_else(score, outputs):
    def stubborn(n: int, body: dict[str, Any]) -> Reply:
        seen = Seen(body)
        wrong = seen.question == "vie_semantics" and abs(seen.levels[-1] - 40) < 1
        return says("I like it.") if wrong else by_level(n, body)

    with serving(stubborn) as server:
        rows, run = score(f"Mine={outputs(20, 40, 90)}", by=server, attempts=2)
        again, _ = score(f"Mine={outputs(20, 40, 90)}", by=server, attempts=2, name="again")
    mine = rows["Mine"]
    assert (mine["vie_semantics"].n, mine["vie_quality"].n, mine["vie_overall"].n) == (2, 3, 2)
    assert mine["vie_semantics"].value == pytest.approx((2 + 9) / 2)
    assert mine["vie_semantics"].note == "Samples without a readable answer: 1 of 3."
    assert mine["l1"].n == 3
    assert rows[IDENTITY]["vie_semantics"].n == 3
    (failed,) = map(json.loads, (run / "failures.jsonl").read_text().splitlines())
    about = "no readable answer about Mine (vie_semantics): see judge_answers.jsonl"
    assert (failed["id"], failed["stage"], failed["reason"]) == ("01", "judge", about)
    assert told(run)["unanswered"] == 1
    assert told(run)["malformed"] == {"no grades": 2}
    (row,) = (row for row in kept(run) if row["grades"] is None)
    assert row["answers"] == ["I like it.", "I like it."]
    assert again["Mine"]["vie_overall"].value == mine["vie_overall"].value


def test_a_failure_of_the_sample_and_one_of_the_judge_are_one_row(score, outputs):
    made = outputs(20, 40, 90)
    (made / "01.png").write_bytes(b"no picture")
    with serving(lambda n, body: says("Nice.")) as server:
        _, run = score(f"Mine={made}", by=server, attempts=1)
    failed = [json.loads(line) for line in (run / "failures.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in failed) == ["00", "01", "02"]
    stages = {row["id"]: row["stage"] for row in failed}
    assert stages == {"00": "judge", "01": "edited", "02": "judge"}


# --- resuming ------------------------------------------------------------------------------------


def test_a_resumed_evaluation_asks_nothing_twice(score, outputs):
    made = outputs(20, 40, 90)

    def tired(n: int, body: dict[str, Any]) -> Reply:
        return by_level(n, body) if n < 7 else refuses(401, "the quota is used up")

    with serving(tired) as server, pytest.raises(RicError, match="the quota is used up"):
        score(f"Mine={made}", by=server, concurrency=1)
    with serving(by_level) as other:
        rows, run = score(f"Mine={made}", by=other, concurrency=3)
        alone, _ = score(f"Mine={made}", by=other, name="alone")
    assert len(other.asked) == (18 - 7) + 18
    assert len(kept(run)) == 18
    assert rows["Mine"].as_dict() == alone["Mine"].as_dict()
    with pytest.raises(RicError, match="judge_model: 'small' there, 'large' now"):
        score(f"Mine={made}", judge="openai", judge_model="large", base_url=other.url)


def test_another_prompt_is_asked_anew_in_a_resumed_evaluation(score, outputs, tmp_path):
    made, own = outputs(20, 40, 90), tmp_path / "prompts"
    own.mkdir()
    (own / "vie_quality.txt").write_text("Grade its looks.")

    def tired(n: int, body: dict[str, Any]) -> Reply:
        return by_level(n, body) if n < 5 else refuses(401, "no")

    settings = {"metrics": "vie_quality", "judge_prompts": str(own), "concurrency": 1}
    with serving(tired) as server, pytest.raises(RicError):
        score(f"Mine={made}", by=server, **settings)
    (own / "vie_quality.txt").write_text("Grade its beauty.")
    with serving(by_level) as server:
        _, run = score(f"Mine={made}", by=server, **settings)
    assert len(server.asked) == 9
    assert {Seen(asked["body"]).text for asked in server.asked} == {"Grade its beauty."}
    assert told(run)["prompts"]["vie_quality"]["text"] == "Grade its beauty."
    assert told(run)["questions"] == 9
    assert len(kept(run)) == 14


# --- position bias -------------------------------------------------------------------------------


def test_both_orders_are_asked_their_mean_is_the_score_and_their_difference_the_bias(
    score, outputs
):
    def biased(n: int, body: dict[str, Any]) -> Reply:
        """Give the picture after the edit a point more where it is shown second, if it is dark."""
        seen = Seen(body)
        second = "first picture is a photo before" in seen.text
        edit = seen.levels[-1] if second else seen.levels[0]
        more = seen.question == "vie_semantics" and second and edit < 50
        return answer(5 + more, 9) if seen.question != "imgedit" else answer(4, 4, 4)

    with serving(biased) as server:
        rows, run = score(
            f"Mine={outputs(20, 40, 90)}", by=server, judge_swap=True, metrics="vie,imgedit"
        )
    # the quality is asked of one picture
    assert told(run)["questions"] == len(server.asked) == (2 + 2 + 1) * 9
    assert [row["vie_semantics"] for row in rows_of(run, "Mine").values()] == [5.5, 5.5, 5]
    assert rows["Mine"]["vie_semantics"].value == pytest.approx(16 / 3)
    bias = told(run)["position_bias"]
    assert bias.keys() == {"vie_semantics", "imgedit"}
    of_semantics = bias["vie_semantics"]
    assert of_semantics["mean"] == pytest.approx(2 / 3)
    assert of_semantics["equal"] == pytest.approx(1 / 3)
    assert of_semantics["n"] == 3
    half = stats.t.ppf(0.975, 2) * stats.sem([1, 1, 0])
    assert of_semantics["high"] == pytest.approx(2 / 3 + half)
    assert -10 < of_semantics["low"] < 2 / 3 - half  # further out, on the side of the tail
    assert bias["imgedit"] == {"mean": 0, "low": 0, "high": 0, "equal": 1, "n": 3}
    line = "Position bias of vie_semantics (N = 3): +0.67"
    assert line in (run / "table.md").read_text()
    seen = [Seen(asked["body"]) for asked in server.asked]
    first = [one.levels[0] for one in seen if "second picture is a photo before" in one.text]
    assert sum(abs(level - 90) < 1 for level in first) == 2  # shown first, in both pair questions


# --- models of this machine ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def taught(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of a judge that says what it was taught."""
    place = tmp_path_factory.mktemp("taught")
    instructions = [sample.instruction for sample in load_samples(data)]
    model = write_judge_model(place / "model", instructions)
    return {
        "judge": "chat", "judge_model": str(model), "judge_dtype": "fp32", "max_new_tokens": 16,
        "judge_prompts": str(write_prompts(place / "prompts")), "judge_swap": True,
        "metrics": "vie,imgedit", "limit": 1,
    }  # fmt: skip


def test_a_model_of_this_machine_is_asked_by_ones_own_prompts_one_by_one_or_together(
    score, outputs, taught
):
    made = outputs(20, 40, 90)
    rows, run = score(f"Mine={made}", **taught)
    mine = rows["Mine"]
    # 7 of [7, 9] in order, 5 of [5, 9] swapped; 4 of [4, 6]; the mean of [4, 5, 3]
    found = {key: mine[key].value for key in ("vie_semantics", "vie_quality", "imgedit")}
    assert found == pytest.approx({"vie_semantics": 6, "vie_quality": 4, "imgedit": 4})
    assert mine["vie_overall"].value == pytest.approx(24**0.5)
    assert mine["imgedit"].heading == "ImgEdit[model] ↑"
    judge = told(run)
    assert judge["malformed"] == {}
    assert judge["position_bias"]["vie_semantics"]["mean"] == pytest.approx(2)
    assert judge["position_bias"]["imgedit"]["equal"] == 1
    record = json.loads((run / "run.json").read_text())
    assert record["weights"]["judge"] == {"id": taught["judge_model"], "revision": None}
    together, _ = score(f"Mine={made}", **taught, judge_batch_size=7, name="together")
    assert together["Mine"].as_dict() == mine.as_dict()


def test_an_untaught_model_has_no_score_and_all_other_scores_stay(score, outputs, tmp_path):
    model = write_chat_model(tmp_path / "random")
    noting = Noting()
    rows, run = score(
        f"Mine={outputs(20, 40, 90)}", judge="chat", judge_model=str(model), max_new_tokens=4,
        attempts=2, judge_batch_size=9, progress=noting, metrics="l1,vie_quality",
    )  # fmt: skip
    quality = rows["Mine"]["vie_quality"]
    assert quality.value is None
    assert quality.unavailable == "the judge gave no readable answer"
    assert rows["Mine"]["l1"].value is not None
    assert told(run)["unanswered"] == 9
    assert sum(told(run)["malformed"].values()) == 18
    # greedy first, then drawn: two answers to one question differ
    assert any(len(set(row["answers"])) == 2 for row in kept(run))


def test_what_reads_no_prompt_is_no_judge(score, outputs, tmp_path):
    made = outputs(20, 40, 90)
    with pytest.raises(RicError, match="--judge chat cannot be asked for scores"):
        score(f"Mine={made}", judge="chat", judge_model="tiny")
    own = tmp_path / "own.py"
    own.write_text(
        "class Writes:\n"
        "    def __init__(self, model, config, device): pass\n"
        "    def describe(self, sample): return 'A ball.'\n"
        "class Says(Writes):\n"
        "    is_model = reads_prompt = True\n"
        "    def answer(self, requests, between_steps):\n"
        "        from ric.describers.quality import Answer\n"
        "        for one in requests:\n"
        "            yield one, Answer(f'[{len(one.load_pictures())}, 9]')\n"
    )
    with pytest.raises(RicError, match=r"own.py:Writes cannot be asked for scores"):
        score(f"Mine={made}", judge=f"{own}:Writes", name="writes")
    rows, run = score(f"Mine={made}", judge=f"{own}:Says", name="says")
    assert rows["Mine"]["vie_semantics"].value == 2
    assert rows["Mine"]["vie_quality"].value == 1
    assert told(run)["back_end"] == "own.py:Says"
    assert str(tmp_path) not in (run / "scores.json").read_text()


# --- two judges ----------------------------------------------------------------------------------


def test_the_agreement_of_two_judges_is_scipys_on_the_edits_that_both_graded(score, outputs):
    made, other = outputs(20, 40, 90), outputs(30, 60, 80)

    def contrary(n: int, body: dict[str, Any]) -> Reply:
        level = Seen(body).levels[-1]
        return answer({20: 1, 40: 6, 90: 3, 30: 8, 60: 8, 80: 10}.get(round(level), 5), 10)

    with serving(by_level) as server:
        _, before = score(f"A={made}", f"B={other}", by=server, name="first")
    with serving(contrary) as server:
        _, run = score(
            f"Mine={made}", f"B={other}", by=server, judge_model="large",
            metrics="vie_quality,imgedit", agree_with=str(before), name="second",
        )  # fmt: skip
    agreement = told(run)["agreement"]
    assert (agreement["model"], agreement["run"]) == ("small", "first")
    # the first judge was not asked for ImgEdit's score
    assert agreement["metrics"].keys() == {"vie_quality"}
    ours, theirs = [1, 6, 3, 8, 8, 10], [2, 4, 9, 3, 6, 8]
    found = agreement["metrics"]["vie_quality"]
    assert found["n"] == 6
    assert found["spearman"] == pytest.approx(stats.spearmanr(ours, theirs).statistic)
    assert found["kendall"] == pytest.approx(stats.kendalltau(ours, theirs).statistic)
    assert found["mean_difference"] == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert "Agreement with small (first) on VIE quality (N = 6)" in (run / "table.md").read_text()
    assert json.loads((run / "run.json").read_text())["parents"] == ["../first"]


def test_a_report_of_two_judges_shows_the_samples_scores_of_both_by_judge_and_run(
    score, outputs, tmp_path
):
    folder = outputs(10, 20, 30)
    with serving(by_level) as one, serving(lambda n, body: answer(7, 7)) as other:
        runs = [
            score(f"Mine={folder}", by=by, name=name, judge_model=model, metrics=metrics)[1]
            for by, name, model, metrics in (
                (one, "first", "small", "l1,vie_quality"),
                (other, "second", "large", "vie_quality,vie_semantics"),
            )
        ]
    side = read_side(runs, tmp_path)
    headings = {column: score.heading for column, score in side.metrics.items()}
    assert headings == {
        "l1": "L1 ↓",
        "vie_quality first": "VIE quality[small, first] ↑",
        "vie_quality second": "VIE quality[large, second] ↑",
        "vie_semantics": "VIE semantics[large] ↑",  # of one run alone
    }
    (arm,) = side.arms
    rows = [arm.rows[name] for name in sorted(arm.rows)]
    assert [row["vie_quality first"] for row in rows] == [1, 2, 3]
    assert [row["vie_quality second"] for row in rows] == [7, 7, 7]
    assert [row["vie_semantics"] for row in rows] == [7, 7, 7]
    assert not any("vie_quality" in row for row in rows)


def test_a_run_whose_judge_saw_other_pictures_or_that_had_none_cannot_be_compared(score, outputs):
    made = outputs(20, 40, 90)
    with serving(by_level) as server:
        _, before = score(f"Mine={outputs(21, 41, 91)}", by=server, name="first")
        with pytest.raises(RicError, match="has no judge's score of a picture"):
            score(f"Mine={made}", by=server, agree_with=str(before), name="second")
        _, plain = score(f"Mine={made}", metrics="l1", name="plain")
        with pytest.raises(RicError, match="without a judge"):
            score(f"Mine={made}", by=server, agree_with=str(plain), name="third")
        with pytest.raises(RicError, match="there is no run 'nowhere'"):
            score(f"Mine={made}", by=server, agree_with="nowhere", name="fourth")


# --- settings that do not fit --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"metrics": "vie"}, "vie_semantics is given by a judge, and none is named"),
        ({"judge": "chat", "judge_model": "m", "metrics": "l1"}, "none of them is named"),
        ({"judge": "chat"}, "--judge chat needs a model"),
        ({"judge": "openai", "judge_model": "m"}, "--judge openai needs the address of a server"),
        ({"judge": "openai", "judge_model": "m", "base_url": "ftp://x"}, "not 'ftp://x'"),
        ({"judge_model": "m"}, "--judge none does not use --judge-model"),
        ({"judge": "chat", "judge_model": "m", "base_url": "http://x"}, "does not use --base-url"),
        ({"judge": "dataset"}, "There is no judge 'dataset'"),
        ({"judge": "chat", "judge_model": "m", "attempts": 0}, "attempts is 0"),
        ({"metrics": "l1", "agree_with": "3"}, "--agree-with compares the scores of two judges"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(score, outputs, settings, message):
    with pytest.raises(RicError, match=message):
        score(f"Mine={outputs(20, 40, 90)}", **settings)

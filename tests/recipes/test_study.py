"""The page of a study and its key, read without a browser; and its votes on a report."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from noting import Noting
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ric.errors import RicError
from ric.recipes import report as recipe
from ric.recipes.report import read_win_rates, report, study
from ric.report.study import Asked
from ric.runs.rows import read_lines
from ric.scoring.votes import read_key


@pytest.fixture
def page(chain, tmp_path) -> Path:
    return study(["4"], tmp_path / "study", runs_dir=chain.runs, asked=Asked(6))


def key_of(page: Path) -> dict[str, Any]:
    return json.loads(page.with_name("study.key.json").read_text())


def shown_by(page: Path) -> dict[str, Any]:
    text = page.read_text("utf-8")
    found = re.search(r'<script id="study" type="application/json">(.*?)</script>', text)
    assert found
    return json.loads(found[1])


def pixels(address: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB"))


def answered(page: Path, name: str, *answers: str | None, voter: str = "v") -> Path:
    told = {"study": shown_by(page)["study"], "voter": voter, "saved": "2026-01-02T03:04:05Z"}
    file = page.with_name(name)
    file.write_text(json.dumps({**told, "answers": answers}))
    return file


def votes_for(page: Path, label: str) -> list[str]:
    return ["a" if pair["a"] == label else "b" for pair in key_of(page)["pairs"]]


def test_each_pair_shows_its_source_and_on_each_side_the_edit_that_the_key_names(chain, page):
    key, shown = key_of(page), shown_by(page)
    assert len(shown["pairs"]) == 6
    folders = {"Plain": "00002-edit", "In context": "00003-edit"}
    rows = {row["id"]: row for row in read_lines(chain.data / "metadata.jsonl")}
    for pair, seen in zip(key["pairs"], shown["pairs"], strict=True):
        name = pair["sample"]
        places = {"source": chain.data / "source"}
        places |= {side: chain.runs / folders[pair[side]] / "images" for side in "ab"}
        for side, folder in places.items():
            with Image.open(folder / f"{name}.png") as original:
                assert (pixels(seen[side]) == np.asarray(original.convert("RGB"))).all()
        assert seen["instruction"] == rows[name]["instruction"]
        assert seen["size"] == [96, 80]
    assert {pair["sample"] for pair in key["pairs"]} == set(rows)
    assert {pair["a"] for pair in key["pairs"]} == {"Plain", "In context"}


def test_the_page_tells_nothing_of_who_made_which(chain, page):
    text = page.read_text("utf-8")
    for word in ("Plain", "In context", "00002", "00003", "arm0", "arm1", "per_sample", '.png"'):
        assert word not in text, word
    for name in (chain.data.name, str(chain.data), *(p["photo"] for p in key_of(page)["pairs"])):
        assert name not in text or len(name) < 4, name  # ids of two digits stand in any picture
    assert "<!--" not in text
    shown = shown_by(page)
    assert set(shown) == {"study", "pairs"}
    assert {frozenset(pair) for pair in shown["pairs"]} == {
        frozenset({"instruction", "size", "source", "a", "b"})
    }
    assert sorted(file.name for file in page.parent.iterdir()) == ["study.html", "study.key.json"]


def test_size_format_and_metadata_of_an_edit_do_not_tell_whose_it_is(chain, tmp_path):
    about = PngInfo()
    about.add_text("Software", "In context of ours")
    for file in (chain.runs / "00003-edit" / "images").glob("*.png"):
        with Image.open(file) as picture:
            large = picture.resize((480, 400))
        large.save(file, pnginfo=about, dpi=(300, 300), icc_profile=b"no profile")
    page = study(["4"], tmp_path / "s", runs_dir=chain.runs, asked=Asked(6))
    for pair in shown_by(page)["pairs"]:
        heads = set()
        for side in "ab":
            raw = base64.b64decode(pair[side].partition(",")[2])
            with Image.open(io.BytesIO(raw)) as picture:
                picture.load()
                heads.add((pair[side][:22], picture.size, picture.mode, str(picture.info)))
        assert heads == {("data:image/png;base64,", (96, 80), "RGB", "{}")}


def test_the_seed_makes_the_study_and_its_hash_names_what_is_shown(chain, page, tmp_path):
    again = study(["4"], tmp_path / "again", runs_dir=chain.runs, asked=Asked(6))
    assert again.read_bytes() == page.read_bytes()
    assert key_of(again) == key_of(page)
    other = study(["4"], tmp_path / "other", runs_dir=chain.runs, asked=Asked(6, seed=1))
    assert shown_by(other)["study"] != shown_by(page)["study"]
    # labels are no part of what is shown: the same pictures and sides are the same study
    assert shown_by(page)["study"] == key_of(page)["study"]
    with Image.open(chain.runs / "00003-edit" / "images" / "00.png") as picture:
        picture.transpose(Image.Transpose.ROTATE_180).save(picture.filename)
    changed = study(["4"], tmp_path / "changed", runs_dir=chain.runs, asked=Asked(6))
    assert shown_by(changed)["study"] != shown_by(page)["study"]


def test_another_study_is_never_written_over_one_and_answers_beside_it_stay(chain, page):
    mine = answered(page, "answers.json", *"aaaaaa")
    study(["4"], page.parent, runs_dir=chain.runs, asked=Asked(6))
    assert mine.exists()
    before = key_of(page)
    with pytest.raises(RicError, match="holds another study") as refused:
        study(["4"], page.parent, runs_dir=chain.runs, asked=Asked(6, seed=1))
    assert "--out DIR" in (refused.value.hint or "")
    assert key_of(page) == before
    page.with_name("study.key.json").unlink()
    with pytest.raises(RicError, match="already exists and is not a study"):
        study(["4"], page.parent, runs_dir=chain.runs, asked=Asked(6))


def test_an_instruction_that_is_html_stays_a_text(page):
    assert page.read_text("utf-8").count("</script>") == 2
    assert "<img src=x" not in page.read_text("utf-8")
    assert any(pair["instruction"].startswith("<img") for pair in shown_by(page)["pairs"])


def test_nothing_on_the_page_leads_outside(page):
    text = re.sub(r"data:image/[a-z]+;base64,[\w+/=]+", "", page.read_text("utf-8"))
    assert not re.search(r"https?:|//\w|fetch\(|XMLHttpRequest|import\(|innerHTML|url\(", text)
    assert "default-src &#39;none&#39;; img-src data:; style-src" in text


def test_pairs_that_cannot_be_shown_are_told_and_the_rest_is_asked(chain, tmp_path):
    notes = Noting()
    (chain.data / "source" / "04.png").write_bytes(b"no picture")
    images = chain.runs / "00003-edit" / "images"
    (images / "01.png").write_bytes(b"no picture")
    Image.new("RGB", (80, 96)).save(images / "02.png")
    page = study(["4"], tmp_path / "s", runs_dir=chain.runs, asked=Asked(6), progress=notes)
    assert sorted(pair["sample"] for pair in key_of(page)["pairs"]) == ["00", "03", "05"]
    assert len(shown_by(page)["pairs"]) == 3
    assert any(line.startswith("3 pairs cannot be shown, such as ") for line in notes.lines)


def test_what_no_study_can_be_made_of_is_refused(chain, tmp_path, monkeypatch):
    def ask(runs: list[str], count: int, **how: Any) -> None:
        study(runs, tmp_path / "s", runs_dir=chain.runs, asked=Asked(count, **how))

    with pytest.raises(RicError, match="these runs have 00002-edit"):
        ask(["2"], 3)
    with pytest.raises(RicError, match="these runs have none"):
        ask(["1"], 3)
    with pytest.raises(RicError, match=r"There are 6 pairs .* asks for 7") as refused:
        ask(["4"], 7)
    assert refused.value.hint == "Use --study 6"
    with pytest.raises(RicError, match="There are 2 pairs"):
        ask(["4"], 3, limit=2)
    monkeypatch.setattr(recipe, "MOST_IN_ONE_FILE", 4)
    with pytest.raises(RicError, match="holds up to 4 pairs, not 5"):
        ask(["4"], 5)
    shutil.rmtree(chain.data / "source")
    with pytest.raises(RicError, match="No pair can be shown: 0"):
        ask(["4"], 3)
    assert not (tmp_path / "s").exists()


def test_votes_stand_on_the_report_with_their_intervals(chain, page, tmp_path):
    ours = votes_for(page, "In context")
    files = [
        answered(page, "1.json", *ours, voter="one"),
        answered(page, "2.json", *ours[:3], "none", None, votes_for(page, "Plain")[5], voter="two"),
    ]
    rates = read_win_rates(files, page.with_name("study.key.json"))
    (rate,) = rates.rates
    assert (rate.label, rate.against) == ("Plain", "In context")
    assert (rate.wins, rate.losses, rate.ties) == (1, 9, 1)
    text = report(["4"], tmp_path / "r", runs_dir=chain.runs, votes=rates).read_text("utf-8")
    low, high = rate.interval  # type: ignore[misc]
    assert f"<td>10.0 %<small>{100 * low:.1f} to {100 * high:.1f}</small></td>" in text
    assert "2 voters · 11 votes on blind pairs, 1 pairs passed over" in text
    assert "Bradley-Terry" not in text


def test_of_three_editors_there_are_strengths(chain, tmp_path):
    shutil.copytree(chain.runs / "00002-edit", chain.runs / "00009-edit")
    page = study(["2", "3", "9"], tmp_path / "s", runs_dir=chain.runs, asked=Asked(18))
    assert len(read_key(page.with_name("study.key.json")).editors) == 3
    best = [
        "a" if pair["a"] == "00003-edit" else "b" if pair["b"] == "00003-edit" else "none"
        for pair in key_of(page)["pairs"]
    ]
    rates = read_win_rates([answered(page, "1.json", *best)], page.with_name("study.key.json"))
    strengths = {one.label: one for one in rates.strengths}
    assert max(strengths, key=lambda label: strengths[label].value) == "00003-edit"
    low, high = strengths["00003-edit"].interval  # type: ignore[misc]
    shown = report(["2", "3", "9"], tmp_path / "r", runs_dir=chain.runs, votes=rates)
    text = shown.read_text("utf-8")
    value = strengths["00003-edit"].value
    assert f"<td>{value:.3f}<small>{low:.3f} to {high:.3f}</small></td>" in text
    assert "no vote is decided" in text  # between the two that are the same


def test_files_that_do_not_count_and_other_editors_are_told_on_the_report(chain, page, tmp_path):
    good = answered(page, "1.json", *"aabbab")
    bad = page.with_name("bad.json")
    bad.write_text("{")
    rates = read_win_rates([good, bad], page.with_name("study.key.json"))
    text = report(["2", "3"], tmp_path / "r", runs_dir=chain.runs, votes=rates).read_text("utf-8")
    assert "bad.json holds no answers to a study: it is not JSON." in text
    assert str(tmp_path) not in text
    assert "The votes are on Plain, In context, not of these runs." in text

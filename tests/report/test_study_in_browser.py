"""A study as a voter meets it, in headless Chromium: keys, buttons, going back, the saved file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_tab import PHONE, WIDE, Tab, chromium
from playwright.sync_api import Browser

from ric.recipes.report import read_win_rates, study
from ric.report.study import Asked


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(chain_once: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "study"
    return study(["4"], folder, runs_dir=chain_once.runs, asked=Asked(6))


class Opened(Tab):
    """A study in a tab."""

    def press(self, keys: str) -> None:
        for key in keys:
            self.page.keyboard.press({"<": "ArrowLeft", ">": "ArrowRight"}.get(key, key))

    def place(self) -> str:
        return self.page.inner_text("#place")

    def save(self, folder: Path) -> Path:
        with self.page.expect_download() as caught:
            self.page.click("#save")
        file = folder / caught.value.suggested_filename
        caught.value.save_as(file)
        return file


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Opened]:
    tab = Opened(browser, written)
    yield tab
    tab.context.close()
    assert tab.said == []
    own = (written.as_uri(), "data:", "blob:")
    assert [url for url in tab.asked if not url.startswith(own)] == []


def test_by_keyboard_every_pair_is_judged_and_the_saved_file_counts(opened, written, tmp_path):
    assert opened.place() == "Pair 1 of 6 · 0 of 6 answered"
    opened.press("abnab")
    assert opened.place() == "Pair 6 of 6 · 5 of 6 answered"
    opened.press("a")
    assert opened.page.inner_text("#end-title") == "Thank you, that is all"
    opened.page.focus("#save")
    file = opened.save(tmp_path)
    told = json.loads(file.read_text())
    assert told["answers"] == ["a", "b", "none", "a", "b", "a"]
    assert file.name == f"answers-{told['study'][:8]}-{told['voter'][:8]}.json"
    key = written.with_name("study.key.json")
    (rate,) = read_win_rates([file], key).rates
    pairs = json.loads(key.read_text())["pairs"]
    won = [pair[one] for pair, one in zip(pairs, told["answers"], strict=True) if one != "none"]
    assert (rate.wins, rate.losses) == (won.count(rate.label), won.count(rate.against))
    assert rate.ties == 1


def test_going_back_shows_the_answer_and_another_one_replaces_it(opened, tmp_path):
    page = opened.page
    page.click("[data-choice=a]")
    page.click("[data-choice=none]")
    page.click("#back")
    page.click("#back")
    assert page.get_attribute("[data-choice=a]", "aria-pressed") == "true"
    assert page.get_attribute("[data-choice=b]", "aria-pressed") == "false"
    opened.press("b<")
    assert page.get_attribute("[data-choice=b]", "aria-pressed") == "true"
    opened.press(">>>")  # over the second and third pair, which has no answer
    assert opened.place() == "Pair 4 of 6 · 2 of 6 answered"
    told = json.loads(opened.save(tmp_path).read_text())
    assert told["answers"] == ["b", "none", None, None, None, None]
    assert page.inner_text("#left").startswith("4 of 6 pairs have no answer")
    assert json.loads(page.input_value("#text"))["answers"] == told["answers"]


def test_each_pair_shows_its_own_pictures_and_instruction(opened, written):
    page = opened.page
    shown = json.loads(page.text_content("#study"))["pairs"]
    for pair in shown:
        for side in ("source", "a", "b"):
            assert page.get_attribute(f"#{side}", "src") == pair[side]
            opened.wait_until(f"document.getElementById('{side}').naturalWidth === 96")
        assert page.text_content("#instruction") == pair["instruction"]
        opened.press(">")
    assert page.title() == "Which edit is better?"  # the instruction that is HTML ran nothing


def test_answers_outlast_a_reload_and_another_person_starts_anew(opened, tmp_path):
    opened.press("ab")
    opened.page.reload()
    assert opened.place() == "Pair 3 of 6 · 2 of 6 answered"
    opened.press("abab")
    first = json.loads(opened.save(tmp_path).read_text())
    opened.page.click("#anew")
    assert opened.place() == "Pair 1 of 6 · 0 of 6 answered"
    opened.press("a")
    second = json.loads(opened.save(tmp_path).read_text())
    assert second["answers"] == ["a", None, None, None, None, None]
    assert second["voter"] != first["voter"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_at_any_width_and_in_any_light_both_edits_are_side_by_side(browser, written, size, scheme):
    tab = Opened(browser, written, size, scheme)
    page = tab.page
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    source, a, b = (page.locator(f"#{name}").bounding_box() for name in ("source", "a", "b"))
    assert source
    assert a
    assert b
    assert a["y"] == b["y"]
    assert a["x"] + a["width"] <= b["x"]
    assert (a["width"], a["height"]) == (b["width"], b["height"]) == (
        source["width"], source["height"],
    )  # fmt: skip
    choices = page.locator("[data-choice]").last.bounding_box()
    assert choices
    assert choices["y"] + choices["height"] <= size[1]  # without scrolling
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(19, 21, 23)")
    tab.context.close()
    assert tab.said == []

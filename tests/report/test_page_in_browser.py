"""The page as a reader meets it, in headless Chromium: slider, filter, order, keyboard, widths."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser_tab import PHONE, WIDE, Tab, chromium
from playwright.sync_api import Browser

from ric.recipes.report import report

MANY = 5000
WITHIN = 1.0  # seconds of the page's main thread, for all until it is ready and for a filter


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def written(chain_once: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "report"
    return report(["4"], folder, runs_dir=chain_once.runs)


class Opened(Tab):
    """A report in a tab."""

    def __init__(self, browser: Browser, file: Path, size: tuple[int, int], scheme: str) -> None:
        super().__init__(browser, file, size, scheme)
        self.page.wait_for_selector("#rows li")

    def ids(self) -> list[str]:
        return [text.split(" ")[0] for text in self.page.locator("#rows .about").all_inner_texts()]


@pytest.fixture
def opened(browser: Browser, written: Path) -> Iterator[Opened]:
    tab = Opened(browser, written, WIDE, "light")
    yield tab
    tab.context.close()
    folder = written.parent.as_uri()
    assert tab.said == []
    assert [url for url in tab.asked if not url.startswith((folder, "data:"))] == []


def by_score(gallery: dict[str, Any], arm: int, key: str, *, rising: bool) -> list[str]:
    values = gallery["scores"][arm][key]
    return sorted(
        gallery["ids"],
        key=lambda name: values[gallery["ids"].index(name)] * (1 if rising else -1),
    )


def test_the_order_follows_every_editors_metrics_worst_and_best_first(opened, written, gallery_of):
    gallery, page = gallery_of(written), opened.page
    assert opened.ids() == by_score(gallery, 0, "l1", rising=False)  # L1: less is better
    page.check("input[value=best]", force=True)
    assert opened.ids() == by_score(gallery, 0, "l1", rising=True)
    page.select_option("#arm", "1")
    page.select_option("#metric", "psnr_outside")
    assert opened.ids() == by_score(gallery, 1, "psnr_outside", rising=False)
    page.check("input[value=data]", force=True)
    assert opened.ids() == gallery["ids"]


def test_edit_type_and_words_of_instruction_and_texts_filter(opened, written, gallery_of):
    page, gallery = opened.page, gallery_of(written)
    page.select_option("#type", "Add")
    assert sorted(opened.ids()) == ["00", "02", "04"]
    page.select_option("#type", "")
    page.fill("#search", "BLUE near")
    scenes = dict(zip(gallery["ids"], gallery["texts"]["scene_text"], strict=True))
    wanted = [name for name, text in scenes.items() if "blue" in text and "near" in text]
    assert sorted(opened.ids()) == wanted
    assert wanted
    page.fill("#search", "no such word")
    assert page.locator("#rows li").count() == 0
    assert page.inner_text("#count") == "No sample matches."


def test_an_instruction_that_is_html_is_shown_as_text_and_runs_nothing(opened):
    page = opened.page
    page.fill("#search", "onerror")
    words = page.locator("#rows button.instruction")
    assert words.count() == 1
    assert words.inner_text().startswith('<img src=x onerror="document.title=1">')
    words.click()
    shown = page.inner_text("dialog .instruction")
    assert shown.endswith('</script><b>make it red</b> & "go"')
    assert "a <i>ball</i>" in page.inner_text("dialog .texts")
    assert page.title() != "1"
    assert page.locator("#rows b b, dialog .texts i, img[src=x]").count() == 0


def test_the_slider_shows_less_of_the_edit_the_further_it_is_to_the_right(opened):
    page = opened.page
    page.locator("#rows figure[data-kind=arm1]").first.click()
    assert page.input_value("#after") == "arm1"
    after = page.locator("#stage-after")

    def hidden_share() -> float:
        style = after.evaluate("image => getComputedStyle(image).clipPath")
        return float(re.search(r"([\d.]+)%", style)[1])  # type: ignore[index]

    assert hidden_share() == 50
    page.focus("#slider")
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    assert hidden_share() == 60
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    assert hidden_share() == pytest.approx(25, abs=1)
    line = page.locator("#divider").bounding_box()
    assert line
    assert line["x"] + 1 == pytest.approx(box["x"] + box["width"] * hidden_share() / 100, abs=1.5)


def test_before_and_after_may_be_any_two_pictures(opened):
    page = opened.page
    page.locator("#rows button.instruction").first.click()
    page.select_option("#before", "arm0")
    page.select_option("#after", "target")
    assert "/arm0/" in page.get_attribute("#stage-before", "src")
    assert "/target/" in page.get_attribute("#stage-after", "src")
    assert page.inner_text(".ends").split("\n") == ["Plain", "Target"]


def test_everything_can_be_done_by_keyboard(opened):
    page = opened.page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "search"
    page.keyboard.type("ball")
    page.locator("#search").blur()
    order = opened.ids()
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    assert page.inner_text("#compare-title").startswith(order[0])
    assert page.evaluate("document.activeElement.id") == "slider"
    page.keyboard.press("j")
    assert page.inner_text("#compare-title").startswith(order[1])
    page.keyboard.press("m")
    assert page.locator("#stage-masks").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog").is_visible()
    # where the reader was, with the masks that were asked for
    focused = "document.activeElement.closest('li').dataset.number"
    assert page.evaluate(focused) == str(int(order[1]))
    assert page.locator("#rows .frame:not(.always) img.masks").first.is_visible()


def test_all_pictures_are_there_and_small_ones_keep_their_pixels(opened):
    page = opened.page
    page.evaluate("document.querySelectorAll('#rows img').forEach(i => i.loading = 'eager')")
    opened.wait_until("[...document.images].every(i => !i.getAttribute('src') || i.complete)")
    sizes = page.evaluate("[...document.querySelectorAll('#rows img')].map(i => i.naturalWidth)")
    assert set(sizes) == {96}
    rules = (
        "[...document.querySelectorAll('#rows img')].map(i => getComputedStyle(i).imageRendering)"
    )
    assert set(page.evaluate(rules)) == {"pixelated"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_at_any_width_and_in_any_light_the_page_fits_and_can_be_read(
    browser, written, size, scheme
):
    tab = Opened(browser, written, size, scheme)
    page = tab.page
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.locator("#rows button.instruction").first.click()
    box = page.locator("dialog").bounding_box()
    assert box
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= size[0] + 1
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= box["width"] + 1
    texts = "h1, h2, p, td, th, label, button, .said, dd, dt, figcaption span, summary span"
    assert min(page.evaluate(CONTRASTS, texts)) >= 4.5  # WCAG 2.2, success criterion 1.4.3
    tab.context.close()
    assert tab.said == []


@pytest.mark.parametrize("width", [1100, 1280, 1400])
def test_four_editors_beside_each_other_stand_in_one_row_with_their_whole_names(
    browser, written, gallery_of, tmp_path, width
):
    gallery = gallery_of(written)
    names = ["IP2P (without)", "IP2P (with)", "MB (without full description)", "a" * 40]
    pictures = {f"arm{place}": gallery["pictures"]["arm0"] for place in range(4)}
    of_four = {"arms": names, "scores": [gallery["scores"][0]] * 4}
    many = {**gallery, **of_four, "pictures": gallery["pictures"] | pictures}
    tab = Opened(browser, _written_with(written, many, tmp_path), (width, 900), "light")
    first = tab.page.locator("#rows li").first
    tops = first.locator(".frame").evaluate_all("all => all.map(f => f.offsetTop)")
    assert len(tops) >= 6
    assert len(set(tops)) == 1
    labels = first.locator("figcaption span")
    assert set(names) <= set(labels.all_inner_texts())
    cut = labels.evaluate_all(
        "all => all.filter(s => s.scrollWidth > s.clientWidth + 1 && s.clientWidth)"
        ".concat(all.filter(s => s.offsetWidth > s.closest('figure').clientWidth))"
        ".map(s => s.textContent)"
    )
    assert cut == []
    tab.context.close()


# contrast ratios of texts with the background behind them, by WCAG's formula
CONTRASTS = """selector => {
  const channel = (byte) => {
    const v = byte / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  };
  const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll(selector)]
    .filter((e) => e.textContent.trim() && e.offsetParent && !e.disabled)
    .map((e) => {
      const both = [light(parts(getComputedStyle(e).color)), light(behind(e))];
      return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
    });
}"""


def test_five_thousand_samples_are_painted_and_filtered_within_a_second(
    browser, written, gallery_of, tmp_path
):
    file = _enlarged(written, gallery_of(written), tmp_path)
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    page = context.new_page()
    protocol = context.new_cdp_session(page)
    # the thread's own time, in which a busy machine does not count
    protocol.send("Performance.enable", {"timeDomain": "threadTicks"})

    def spent() -> float:
        told = protocol.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in told if one["name"] == "TaskDuration")

    def cost(of: Callable[[], object]) -> float:
        before = spent()
        of()
        page.evaluate(TWO_FRAMES)
        return spent() - before

    costs = {
        "ready": cost(lambda: page.goto(file.as_uri())),
        "filter": cost(lambda: page.fill("#search", "nr-4711")),
        "all again": cost(lambda: page.fill("#search", "")),
        "sort": cost(lambda: page.select_option("#metric", "psnr_outside")),
    }
    print(costs, page.evaluate(PAINT))
    assert max(costs.values()) < WITHIN, costs
    page.fill("#search", "nr-4711")
    assert page.inner_text("#count") == "1 of 5,000 samples"
    page.fill("#search", "")
    assert page.locator("#rows li").count() == 20
    page.click("#next")
    assert page.inner_text("#page") == "21 to 40 of 5,000"
    context.close()


# the frame that shows what was asked for
TWO_FRAMES = "new Promise((d) => requestAnimationFrame(() => requestAnimationFrame(d)))"
PAINT = "performance.getEntriesByType('paint').map((one) => `${one.name}: ${one.startTime} ms`)"


def _enlarged(page: Path, gallery: dict[str, Any], folder: Path) -> Path:
    """Write the page with 5,000 samples, each with texts of its own; they share the pictures."""
    times = -(-MANY // len(gallery["ids"]))

    def longer(column: list[Any]) -> list[Any]:
        return (column * times)[:MANY]

    many = {**gallery, **{key: longer(gallery[key]) for key in ("types", "groups", "sizes")}}
    many["ids"] = [f"nr-{number}" for number in range(MANY)]
    many["instructions"] = [
        f"{text} {'and so on ' * 10}" for text in longer(gallery["instructions"])
    ]
    many["texts"] = {
        key: [f"{text} " * 8 for text in longer(texts)] for key, texts in gallery["texts"].items()
    }
    many["pictures"] = {key: longer(places) for key, places in gallery["pictures"].items()}
    many["scores"] = [
        {key: [(n * 7919) % MANY / MANY for n in range(MANY)] for key in scores}
        for scores in gallery["scores"]
    ]
    return _written_with(page, many, folder)


def _written_with(page: Path, gallery: dict[str, Any], folder: Path) -> Path:
    """Write the page with another gallery into a folder."""
    text = json.dumps(gallery).replace("<", "\\u003c")
    whole = page.read_text("utf-8")
    begin = whole.index('type="application/json">') + len('type="application/json">')
    end = whole.index("</script>", begin)
    shutil.copytree(page.parent / "thumbs", folder / "thumbs")
    (folder / "index.html").write_text(whole[:begin] + text + whole[end:], "utf-8")
    return folder / "index.html"

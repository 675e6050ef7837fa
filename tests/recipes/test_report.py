"""The page that `ric report` writes, read without a browser; tests/report looks at it in one."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ric.config import EditConfig, EvalConfig, as_dict
from ric.errors import RicError
from ric.recipes import report as recipe
from ric.recipes.evaluate import evaluate
from ric.recipes.report import report
from ric.runs.open_run import open_run
from ric.runs.rows import read_lines


class Read(HTMLParser):
    """A page's visible text, its elements' attributes, and its scripts' texts."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.inside = ""
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.inside = tag
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        kept = {"script": self.scripts, "style": self.styles}.get(self.inside, self.texts)
        kept.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


@pytest.fixture
def page(chain, tmp_path) -> Path:
    return report(["4"], tmp_path / "report", runs_dir=chain.runs)


def metadata(data: Path) -> list[dict[str, str]]:
    return list(read_lines(data / "metadata.jsonl"))


def test_every_score_stands_there_with_its_interval(chain, page):
    text = Read(page).text
    editors = json.loads((chain.scored / "scores.json").read_text())["editors"]
    assert [row["label"] for row in editors][:2] == ["Plain", "In context"]
    for row in editors:
        l1, psnr = row["scores"]["l1"], row["scores"]["psnr_outside"]
        assert f"{l1['value']:.4f} {l1['low']:.4f} to {l1['high']:.4f}" in text
        assert f"{psnr['value']:.2f} {psnr['low']:.2f} to {psnr['high']:.2f}" in text
    # the paired difference, whose interval excludes 0
    assert "In context - Plain" in text


def test_a_sample_has_its_pictures_texts_and_every_editors_own_scores(chain, page, gallery_of):
    shown = gallery_of(page)
    rows = metadata(chain.data)
    assert shown["ids"] == [row["id"] for row in rows]
    assert shown["instructions"] == [row["instruction"] for row in rows]
    assert shown["types"] == [row["editing_type"] for row in rows]
    assert shown["texts"]["region_text"] == [row["region_text"] for row in rows]
    assert shown["arms"] == ["Plain", "In context"]
    scored = {
        (row["label"], row["id"]): row for row in read_lines(chain.scored / "per_sample.jsonl")
    }
    for place, label in enumerate(shown["arms"]):
        for key in ("l1", "psnr_outside"):
            expected = [scored[label, name][key] for name in shown["ids"]]
            assert shown["scores"][place][key] == pytest.approx(expected, rel=1e-4)
    assert [(one["key"], one["up"]) for one in shown["metrics"]] == [
        ("l1", False), ("psnr_outside", True),
    ]  # fmt: skip


def test_small_pictures_are_copied_to_the_bit_and_the_mask_lies_over_its_region(
    chain, page, gallery_of
):
    pictures = gallery_of(page)["pictures"]
    places = {"source": chain.data / "source", "target": chain.data / "target"}
    places |= {f"arm{n}": chain.runs / f"0000{n + 2}-edit" / "images" for n in (0, 1)}
    for kind, folder in places.items():
        for number, address in enumerate(pictures[kind]):
            mine = np.asarray(Image.open(page.parent / address).convert("RGB"))
            original = np.asarray(Image.open(folder / f"{number:02d}.png").convert("RGB"))
            assert (mine == original).all(), (kind, number)
    drawn = np.asarray(Image.open(page.parent / pictures["masks"][0]).convert("RGBA"))
    mask = np.asarray(Image.open(chain.data / "mask" / "00.png")) > 127
    assert ((drawn[..., 3] > 0) == mask).all()


def test_the_chain_names_settings_versions_weights_and_licences(chain, page):
    text = Read(page).text
    for name in ("00001-train-unet", "00002-edit", "00003-edit", "00004-eval"):
        assert name in text
    assert "from 00001-train-unet" in text
    record = json.loads((chain.runs / "00001-train-unet" / "run.json").read_text())
    assert f"torch {record['environment']['versions']['torch']}" in text
    assert "lr 3e-05" in text
    assert "timbrooks/instruct-pix2pix" in text
    assert "MIT; its Stable Diffusion 1.5 parts CreativeML OpenRAIL-M" in text
    assert "use restrictions pass on" in text
    # a judge of the chain's own is a model that was read, and no pretrained weight
    assert "region_encoder 00000-fit-clip" in text
    assert "region_encoder of" not in text


def test_the_curves_of_the_training_stand_there_with_their_last_values(page):
    read = Read(page)
    labels = [value for tag, name, value in read.attributes if (tag, name) == ("svg", "aria-label")]
    assert labels == ["Loss over steps: loss", "Cosine with the text over steps: cos_region"]
    assert "loss 0.25" in read.text
    assert "cos region 0.75" in read.text


def test_html_in_a_text_of_the_data_or_a_label_is_shown_and_never_read(
    chain, tmp_path, gallery_of, tiny
):
    config = tiny(EvalConfig, chain.data, edits=("<i>A</i>=2",), metrics="l1", split="test")
    with open_run("eval", as_dict(config), runs_dir=chain.runs) as run:
        evaluate(config, run)
    page = report([str(run.path)], tmp_path / "report", runs_dir=chain.runs)
    read = Read(page)
    assert gallery_of(page)["instructions"][2].startswith("<img src=x onerror=")
    assert not [value for tag, name, value in read.attributes if name.startswith("on")]
    assert not [tag for tag, *_ in read.attributes if tag in ("i", "b") and "onerror" in tag]
    assert "<i>A</i> · 6 samples" in read.text
    whole = page.read_text("utf-8")
    assert "<i>" not in whole
    assert 'onerror="document' not in whole
    assert len(read.scripts) == 2


def test_nothing_on_the_page_leads_outside_its_folder(page):
    read = Read(page)
    addresses = [value for _, name, value in read.attributes if name in ("src", "href")]
    assert all(value.startswith(("#", "data:,")) for value in addresses)
    assert "url(" not in "".join(read.styles)
    assert not re.search("fetch|XMLHttpRequest|import|innerHTML", read.scripts[-1])
    policy = next(value for _, name, value in read.attributes if value.startswith("default-src"))
    assert policy.startswith("default-src 'none'")
    for kind, (*_, own) in (("script", read.scripts), ("style", read.styles)):
        digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_of_paths_on_this_machine_only_the_last_part_is_shown(chain, page):
    assert chain.data.name in Read(page).text
    assert str(chain.data.parent) not in page.read_text("utf-8")


def test_a_single_file_holds_its_pictures(chain, tmp_path, gallery_of):
    page = report(["4"], tmp_path / "one", runs_dir=chain.runs, single_file=True)
    assert [file.name for file in page.parent.iterdir()] == ["index.html"]
    address = gallery_of(page)["pictures"]["source"][0]
    (tmp_path / "there.png").write_bytes(base64.b64decode(address.partition(",")[2]))
    with Image.open(tmp_path / "there.png") as picture:
        assert picture.size == (96, 80)


def test_a_single_file_of_too_many_samples_is_refused_before_a_picture_is_read(
    chain, tmp_path, monkeypatch, gallery_of
):
    monkeypatch.setattr(recipe, "MOST_IN_ONE_FILE", 4)
    with pytest.raises(RicError, match="holds up to 4 samples; here are 6") as refused:
        report(["4"], tmp_path / "one", runs_dir=chain.runs, single_file=True)
    assert "--limit 4" in (refused.value.hint or "")
    assert not (tmp_path / "one").exists()
    page = report(["4"], tmp_path / "one", runs_dir=chain.runs, single_file=True, limit=4)
    assert len(gallery_of(page)["ids"]) == 4


def test_edit_runs_stand_side_by_side_without_scores_and_one_that_was_scored_only_once(
    chain, tmp_path, gallery_of
):
    bare = gallery_of(report(["2", "3"], tmp_path / "bare", runs_dir=chain.runs))
    assert (bare["arms"], bare["metrics"]) == (["00002-edit", "00003-edit"], [])
    both = gallery_of(report(["2", "4"], tmp_path / "both", runs_dir=chain.runs))
    assert both["arms"] == ["Plain", "In context"]


def test_a_sample_that_one_arm_lacks_is_shown_with_the_others(chain, tmp_path, gallery_of):
    (chain.runs / "00003-edit" / "images" / "01.png").unlink()
    shown = gallery_of(report(["4"], tmp_path / "report", runs_dir=chain.runs))
    assert shown["pictures"]["arm1"][1] is None
    assert shown["pictures"]["arm0"][1] is not None


def test_pictures_and_runs_that_are_gone_are_told_and_the_rest_is_shown(
    chain, tmp_path, gallery_of
):
    shutil.rmtree(chain.runs / "00003-edit")
    (chain.data / "source" / "04.png").write_bytes(b"no picture")
    page = report(["4"], tmp_path / "report", runs_dir=chain.runs)
    text = Read(page).text
    assert "00004-eval was made from 00003-edit, which is gone" in text
    assert "scored 'In context=3', whose pictures are gone" in text
    assert "1 pictures cannot be shown, such as 04, source" in text
    assert gallery_of(page)["pictures"]["source"][4] is None
    assert gallery_of(page)["arms"] == ["Plain"]


def test_photos_are_shown_beside_their_edits(chain, tmp_path, gallery_of):
    photos, out = tmp_path / "photos", tmp_path / "edited"
    photos.mkdir()
    out.mkdir()
    Image.new("RGB", (640, 480), "navy").save(photos / "a.jpg")
    Image.new("RGB", (640, 480), "white").save(out / "a.jpg")
    config = EditConfig(data=str(photos), instruction="make it day", out=str(out))
    with open_run("edit", as_dict(config), runs_dir=chain.runs) as run:
        run.note(data={"name": str(photos), "fingerprint": None}, out=str(out))
        run.append("edits", {"id": "a", "file_name": str(out / "a.jpg")})
    page = report([str(run.path)], tmp_path / "report", runs_dir=chain.runs)
    shown = gallery_of(page)
    assert (shown["ids"], shown["instructions"]) == (["a"], ["make it day"])
    with Image.open(page.parent / shown["pictures"]["arm0"][0]) as picture:
        assert (picture.format, picture.size) == ("WEBP", (384, 288))
        assert min(picture.getpixel((100, 100))) > 250


def test_texts_of_a_describe_run_stand_where_the_data_has_none(chain, tmp_path, gallery_of):
    with open_run("describe", {}, runs_dir=chain.runs) as run:
        for number, text in ((0, "said of it"), (1, "not shown: the data has its own")):
            run.append("descriptions", {"id": f"0{number}", "scene_text": text})
    lines = metadata(chain.data)
    del lines[0]["scene_text"]
    (chain.data / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    shown = gallery_of(report(["4", "5"], tmp_path / "report", runs_dir=chain.runs))
    assert shown["texts"]["scene_text"][:2] == ["said of it", lines[1]["scene_text"]]


def test_a_run_without_pictures_has_its_curves_and_its_chain(chain, tmp_path):
    page = report(["1"], tmp_path / "report", runs_dir=chain.runs)
    read = Read(page)
    assert "Loss over steps: loss" in page.read_text("utf-8")
    assert not read.scripts


def test_an_earlier_report_is_replaced_and_any_other_folder_is_kept(chain, page, tmp_path):
    (page.parent / "thumbs" / "old.png").write_text("of the earlier one")
    report(["2"], page.parent, runs_dir=chain.runs)
    assert not (page.parent / "thumbs" / "old.png").exists()
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "index.html").write_text("<p>my own page")
    with pytest.raises(RicError, match="is not a report"):
        report(["2"], mine, runs_dir=chain.runs)
    assert (mine / "index.html").read_text() == "<p>my own page"


def test_runs_over_different_data_are_refused(chain, tmp_path, make_edits, tiny):
    other = make_edits(2)
    config = tiny(EditConfig, other)
    with open_run("edit", as_dict(config), runs_dir=chain.runs) as run:
        run.note(data={"name": str(other), "fingerprint": "another"})
    with pytest.raises(RicError, match="00004-eval and 00005-edit are over different data"):
        report(["4", "5"], tmp_path / "report", runs_dir=chain.runs)


def test_data_that_has_moved_is_read_where_it_is_now(chain, tmp_path, gallery_of):
    moved = chain.data.rename(tmp_path / "elsewhere")
    with pytest.raises(RicError, match="No data at"):
        report(["4"], tmp_path / "report", runs_dir=chain.runs)
    page = report(["4"], tmp_path / "report", runs_dir=chain.runs, data=str(moved))
    assert all(gallery_of(page)["pictures"]["source"])


def test_runs_of_version_0_1_0_are_shown(tmp_path, gallery_of):
    made = Path(__file__).parents[1] / "fixtures" / "runs-0.1.0"
    runs = shutil.copytree(made, tmp_path / "runs")
    page = report(["6"], tmp_path / "report", runs_dir=runs)
    shown = gallery_of(page)
    assert shown["ids"] == ["scene-5-000000", "scene-5-000005", "scene-5-000012"]
    # what is inside the masks of drawn scenes comes first
    assert shown["metrics"][0]["key"] == "edit_success"
    mask = np.asarray(Image.open(page.parent / shown["pictures"]["masks"][0]).convert("RGBA"))
    colours = {tuple(pixel[:3]) for pixel in mask.reshape(-1, 4) if pixel[3] == 255}
    assert colours == {(226, 29, 72), (24, 105, 220)}

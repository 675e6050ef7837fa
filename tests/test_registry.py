"""Editors, describers, loss terms and metrics by name, and those added from outside."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ric.config import DescribeConfig, EditConfig, EvalConfig
from ric.errors import RicError
from ric.metric_table import METRICS, metrics_of
from ric.registry import (
    DESCRIBERS,
    EDITORS,
    JUDGES,
    LOSSES,
    Part,
    load_part,
    model_of,
    readers_of,
    settings_of,
)
from ric.settings import resolve_config
from ric_cli.main import main
from ric_cli.options import with_common_options

TURNED = """
from PIL import ImageOps

class Turned:
    def __init__(self, model, config, device):
        assert model is None

    def edit(self, requests, between_steps=lambda: None):
        return [ImageOps.mirror(request.image) for request in requests]

    def describe(self):
        return {"turned": True}

class Brief:
    def __init__(self, model, config, device):
        pass

    def describe(self, sample):
        return f"A picture after: {sample.instruction}"

class Bright:
    def __init__(self, pipeline, decoder, config):
        assert pipeline.unet is not None
        self.most = config.image_size

    def __call__(self, pixels, batch):
        assert len(pixels) == len(batch.boxes)
        assert pixels.shape[-1] == self.most
        return 1 - pixels.mean(dim=(1, 2, 3))

class Reds:
    heading = "Red share"
    higher_is_better = False
    digits = 2
    definition = "mean level of red, in percent"

    def __init__(self, model, config, device):
        assert model is None and config.reference == "target"

    def score(self, pair, reference):
        assert pair.edited.size == reference.size
        red = pair.edited.getchannel("R").getdata()
        return 100 * sum(red) / 255 / len(red)

class Failing(Reds):
    def score(self, pair, reference):
        return reference / 2

class Endless(Reds):
    def score(self, pair, reference):
        return float("nan")

class Nameless:
    def __init__(self, model, config, device):
        pass

class Hungry(Turned):
    needs_model = True

    def __init__(self, model, config, device):
        assert (model / "unet").is_dir()
"""


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    file = tmp_path / "my_parts.py"
    file.write_text(TURNED)
    return file


def ric(*words: object) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ric", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("kind", "table"),
    [
        ("editor", EDITORS),
        ("describer", DESCRIBERS),
        ("loss", LOSSES),
        ("metric", [name for name, metric in METRICS.items() if metric.place]),
    ],
)
def test_everything_in_the_tables_can_be_imported(kind, table):
    assert table
    for name in table:
        assert callable(load_part(kind, name))


@pytest.mark.parametrize(
    ("kind", "table", "config"),
    [
        ("editor", EDITORS, EditConfig),
        ("describer", DESCRIBERS, DescribeConfig),
        ("judge", JUDGES, EvalConfig),
    ],
)
def test_a_row_names_settings_that_exist_and_its_models_are_among_them(kind, table, config):
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    assert settings_of(kind).keys() <= fields.keys()
    for row in table.values():
        assert {row.model, *row.further} - {""} <= row.settings.keys()
        for defaults in row.defaults.values():
            assert defaults.keys() <= row.settings.keys()
    for name in settings_of(kind):
        helps = {row.settings[name] for row in table.values() if name in row.settings}
        assert len(helps) == 1, name


def test_a_row_is_all_that_a_new_editors_flags_defaults_and_refusals_need(parts, tmp_path, capfd):
    def bare() -> None:
        """Take no option of its own."""

    row = Part(f"{parts}:Turned", settings={"skip": "How much is turned."})
    row = row._replace(defaults={"tiny": {"skip": 3}})
    words = ("edit", "scenes:60#5", "--editor", "turned", "--preset", "tiny", "--limit", 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EDITORS, "turned", row)
        assert readers_of("editor", "skip") == ("ddpm-inversion", "turned")
        declared = inspect.signature(with_common_options(EditConfig, "editor")(bare)).parameters
        assert declared["skip"].annotation.__metadata__[0].help == (
            "How much is turned. (ddpm-inversion, turned)"
        )
        run = tmp_path / "run"
        assert ric(*words, "--quiet", "--run", run) == 0
        assert json.loads((run / "run.json").read_text())["config"]["skip"] == 3
        assert ric(*words, "--dds-weight", 2, "--dry-run") == 1
    assert "--editor turned does not use --dds-weight." in capfd.readouterr().err
    assert resolve_config(EditConfig, {"editor": "ddpm-inversion"}).skip == EditConfig.skip


def test_an_editor_of_a_file_edits_a_data_set_and_is_scored(parts, tmp_path):
    few = ("--preset", "tiny", "--limit", 3, "--quiet")
    run = tmp_path / "edit"
    assert ric("edit", "scenes:60#5", "--editor", f"{parts}:Turned", *few, "--run", run) == 0
    rows = [json.loads(line) for line in (run / "edits.jsonl").read_text().splitlines()]
    assert len(rows) == 3
    assert all(row["turned"] and row["model"] is None for row in rows)
    record = json.loads((run / "run.json").read_text())
    assert "weights" not in record or "pipeline" not in record["weights"]
    scored = tmp_path / "eval"
    words = ("eval", f"Mine={run}", "--data", "scenes:60#5", *few, "--run", scored)
    assert ric(*words) == 0
    editors = json.loads((scored / "scores.json").read_text())["editors"]
    assert editors[0]["label"] == "Mine"


def test_a_describer_of_a_file_describes_a_data_set(parts, tmp_path):
    run = tmp_path / "describe"
    words = ("describe", "scenes:60#5", "--describer", f"{parts}:Brief", "--preset", "tiny")
    assert ric(*words, "--limit", 2, "--quiet", "--run", run) == 0
    rows = [json.loads(line) for line in (run / "descriptions.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    assert all(row["scene_text"].startswith("A picture after: ") for row in rows)


def test_a_loss_term_of_a_file_trains_a_unet_beside_the_papers_and_is_logged(parts, tmp_path):
    runs = {}
    for weight in (0, 5):
        runs[weight] = tmp_path / f"train-{weight}"
        words = ("train-unet", "scenes:60#5", "--preset", "tiny", "--limit", 4, "--batch-size", 2)
        terms = ("--loss", "outside=0.1", "--loss", f"{parts}:Bright={weight}")
        alone = ("--no-region-loss", "--no-global-loss", "--steps", 2, "--lr", "1e-3", "--quiet")
        assert ric(*words, *terms, *alone, "--run", runs[weight]) == 0
    first, weighed = (
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in runs.values()
    )
    row = weighed[0]
    expected = row["loss_noise"] + 0.1 * row["loss_outside"] + 5 * row["loss_bright"]
    assert row["loss"] == pytest.approx(expected, rel=1e-5)
    assert row["grad_norm_bright"] > 0
    assert first[0]["loss_bright"] == row["loss_bright"]  # the same start
    assert first[1]["loss_bright"] != weighed[1]["loss_bright"]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("outsde", "There is no loss 'outsde'"),
        ("outside=much", "--loss outside=much: its weight is not a number of 0 or more"),
        ("outside=-1", "--loss outside=-1: its weight is not a number of 0 or more"),
        ("my.py:Region", "there is already a term 'region'"),
    ],
)
def test_a_loss_term_that_cannot_be_is_told_by_the_dry_run(typed, message, capfd):
    words = ("train-unet", "scenes:60#5", "--preset", "tiny", "--loss", typed, "--dry-run")
    assert ric(*words) == 1
    assert message in " ".join("".join(capfd.readouterr()).split())


def test_one_that_wants_the_named_model_gets_it(parts, tmp_path):
    assert model_of("editor", f"{parts}:Hungry") == "unet"
    assert not model_of("editor", f"{parts}:Turned")
    words = ("edit", "scenes:60#5", "--editor", f"{parts}:Hungry", "--preset", "tiny")
    assert ric(*words, "--limit", 1, "--quiet", "--run", tmp_path / "edit") == 0


@pytest.fixture
def declared(parts, monkeypatch) -> None:
    """Declare one of each kind as an installed package does, by its entry points."""
    monkeypatch.syspath_prepend(parts.parent)
    there = {
        ("ric.editors", "turned"): "my_parts:Turned",
        ("ric.losses", "bright"): "my_parts:Bright",
        ("ric.describers", "brief"): "my_parts:Brief",
        ("ric.metrics", "reds"): "my_parts:Reds",
    }

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        value = there.get((group, name))
        return [EntryPoint(name, value, group)] if value else []

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)


def test_one_of_an_installed_module_is_found_by_its_place_and_only_among_its_kind(declared):
    assert load_part("editor", "my_parts:Turned").__name__ == "Turned"
    with pytest.raises(RicError, match="There is no describer 'turned'"):
        load_part("describer", "turned")


ALONE = ("--no-region-loss", "--no-global-loss", "--steps", 1)


@pytest.mark.parametrize(
    ("words", "rows", "shows"),
    [
        (("edit", "--editor", "turned", "--limit", 1), "edits", {"turned": True}),
        (
            ("describe", "--describer", "brief", "--limit", 1),
            "descriptions",
            {"what": "scene", "describer": "brief"},
        ),
        (
            ("train-unet", "--loss", "bright=5", *ALONE, "--batch-size", 1, "--limit", 1),
            "metrics",
            {"step": 1},
        ),
    ],
    ids=["editor", "describer", "loss"],
)
def test_one_declared_by_an_entry_point_does_its_command(words, rows, shows, declared, tmp_path):
    command, *flags = words
    run = tmp_path / "run"
    common = ("--preset", "tiny", "--quiet", "--run", run)
    assert ric(command, "scenes:60#5", *flags, *common) == 0
    (row,) = [json.loads(line) for line in (run / f"{rows}.jsonl").read_text().splitlines()]
    assert shows.items() <= row.items()
    if command == "describe":
        assert row["scene_text"].startswith("A picture after: ")
    if command == "train-unet":
        assert row["loss"] == pytest.approx(row["loss_noise"] + 5 * row["loss_bright"], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("zone-9", "There is no editor 'zone-9'. Hint: Did you mean zone? Choose one of: ip2p"),
        ("nowhere.py:Mine", "cannot be imported: FileNotFoundError: there is no file nowhere.py"),
        ("no_such_package:Mine", "cannot be imported: ModuleNotFoundError"),
        ("json:Mine", "cannot be imported: AttributeError"),
    ],
)
def test_one_that_is_not_there_is_one_line_with_a_hint(name, message, capfd):
    assert ric("edit", "scenes:60#5", "--editor", name, "--preset", "tiny", "--limit", 1) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said
    assert "NAME" in said or "Choose one of: ip2p" in said


def test_code_of_another_that_fails_is_one_line(tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("raise RuntimeError('no licence\\nsecond line')")
    with pytest.raises(RicError, match=r"RuntimeError: no licence$"):
        load_part("editor", f"{broken}:Mine")


# --- metrics -------------------------------------------------------------------------------------


@pytest.fixture
def edits(tmp_path: Path) -> Path:
    """Three greys as outputs of the first test scenes."""
    from ric.data.sample import load_samples

    folder = tmp_path / "greys"
    folder.mkdir()
    for level, sample in zip(
        (51, 102, 204), load_samples("scenes:60#5").narrowed("test"), strict=False
    ):
        Image.new("RGB", (64, 64), (level, 0, 0)).save(folder / f"{sample.id}.png")
    return folder


@pytest.fixture
def few() -> tuple[object, ...]:
    return ("--data", "scenes:60#5", "--limit", 3, "--preset", "tiny")


def test_a_metric_of_a_file_stands_in_every_table_with_its_interval(
    parts, edits, few, tmp_path, capfd
):
    run = tmp_path / "eval"
    words = ("eval", f"Mine={edits}", *few, "--metrics", f"l1,{parts}:Reds", "--run", run)
    assert ric(*words) == 0
    first = capfd.readouterr()
    assert "Red share" in first.out
    assert "Reds (N = 3): mean level of red, in percent." in first.err
    told = json.loads((run / "scores.json").read_text())["editors"][0]["scores"]
    assert list(told) == ["l1", "Reds"]
    assert told["Reds"]["value"] == pytest.approx((20 + 40 + 80) / 3)
    assert told["Reds"]["direction"] == "down"
    assert told["Reds"]["low"] < told["Reds"]["value"] < told["Reds"]["high"]
    rows = [json.loads(line) for line in (run / "per_sample.jsonl").read_text().splitlines()]
    mine = sorted(row["Reds"] for row in rows if row["label"] == "Mine")
    np.testing.assert_allclose(mine, [20, 40, 80])
    for name, words_of in {"table.md": "Red share ↓", "table.tex": "Red share"}.items():
        assert words_of in (run / name).read_text()
    # and again when the run is finished
    assert ric(*words) == 0
    assert capfd.readouterr().out == first.out


def test_a_metric_beside_all_others_and_between_two_editors(parts, edits, few, tmp_path):
    run = tmp_path / "eval"
    (tmp_path / "brighter").mkdir()
    for file in edits.iterdir():
        Image.open(file).point(lambda level: level + 51).save(tmp_path / "brighter" / file.name)
    names = ("eval", f"A={edits}", f"B={tmp_path / 'brighter'}")
    assert ric(*names, *few, "--metrics", f"all,{parts}:Reds", "--run", run, "--quiet") == 0
    told = json.loads((run / "scores.json").read_text())
    keys = {name.partition("[")[0] for name in told["editors"][0]["scores"]}
    assert {"clip_i", "fid", "l1", "psnr_outside", "edit_success", "Reds"} <= keys
    apart = told["differences"][0]["scores"]["Reds"]
    assert (apart["value"], apart["heading"]) == (pytest.approx(20), "Red share")
    assert "| Red share ↓ | +20.00 [+20.00, +20.00] (N = 3) |" in (run / "table.md").read_text()


def test_a_metric_is_found_by_its_entry_point(declared, edits, few, tmp_path):
    run = tmp_path / "eval"
    words = ("eval", f"Mine={edits}", *few, "--metrics", "reds", "--run", run, "--quiet")
    assert ric(*words) == 0
    told = json.loads((run / "scores.json").read_text())["editors"][0]["scores"]
    assert told["reds"]["value"] == pytest.approx(140 / 3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("fidd", "There is no metric 'fidd'. Hint: Did you mean fid? Choose one of: clip_i,"),
        ("nowhere.py:Mine", "cannot be imported: FileNotFoundError: there is no file nowhere.py"),
        ("structure_distance", "Without a protocol there is no metric 'structure_distance'."),
        (",", "--metrics names no metric."),
        ("{parts}:Nameless", "has no definition and no higher_is_better and no score."),
        ("{parts}:Failing", "Failing fails on sample 'scene-5-"),
        ("{parts}:Endless", "Endless fails on sample 'scene-5-"),
        ("{parts}:Reds,{parts}:Reds.mro", "Two of --metrics are called 'Reds'."),
    ],
)
def test_a_metric_that_is_not_there_or_fails_is_one_line_with_a_hint(
    names, message, parts, edits, few, tmp_path, capfd
):
    run = tmp_path / "eval"
    words = ("eval", f"Mine={edits}", *few, "--run", run)
    assert ric(*words, "--metrics", names.format(parts=parts)) == 1
    said = " ".join(capfd.readouterr().err.split())
    assert message in said
    assert "Traceback" not in said


def test_a_protocol_has_its_own_metrics_and_takes_some_of_them(edits, few, tmp_path, capfd):
    words = ("eval", f"Mine={edits}", *few, "--run", tmp_path / "eval", "--protocol", "magicbrush")
    assert ric(*words, "--metrics", "fid") == 1
    assert "--protocol magicbrush has no metric 'fid'." in " ".join(capfd.readouterr().err.split())
    assert metrics_of(EvalConfig(protocol="magicbrush", metrics="L1,clip-i")) == ("l1", "clip_i")
    assert metrics_of(EvalConfig(protocol="magicbrush", metrics="all")) == (
        "clip_i", "dino", "clip_t", "l1", "l2",
    )  # fmt: skip


def test_pictures_for_fid_without_fid_are_refused(edits, few, tmp_path, capfd):
    words = ("eval", f"Mine={edits}", *few, "--run", tmp_path / "eval", "--fid-set", edits)
    assert ric(*words, "--metrics", "l1") == 1
    said = " ".join(capfd.readouterr().err.split())
    assert "--fid-set goes with FID, KID, FD-DINOv2, CMMD and CLIP-FID." in said

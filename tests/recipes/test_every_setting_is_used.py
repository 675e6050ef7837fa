"""No setting is recorded in a run and then looked at by nothing; DATA is opened once.

Quick: a recipe reads each of its settings. Slow: another value of it changes what the run holds, or
is refused. What of a run counts is all but what says what was asked, by whom and when.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ric.config import (
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric.data import sample
from ric.data.masks import signature_box
from ric.errors import RicError
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.recipes.train_unet import train_unet
from ric.registry import readers_of

FEW = {"batch_size": 4, "log_every": 1, "checkpoint_every": 9, "keep_checkpoints": 1}
RUNS: dict[type[CommandConfig], tuple[Callable[..., object], *tuple[dict[str, object], ...]]] = {
    DescribeConfig: (
        describe,
        {"describer": "chat", "model": "tiny", "max_new_tokens": 2, "split": "val"}
        | {"quality_gates": False},
    ),
    FitClipConfig: (
        fit_clip,
        {"fusion_epochs": 1, "joint_epochs": 1, **FEW},
        {"fusion_epochs": 0, "joint_epochs": 1, "blur_to_t": 300, **FEW},
    ),
    FitBlipConfig: (
        fit_blip,
        {"epochs": 1, **FEW},
        {"epochs": 1, "blur_to_t": 300, **FEW},
    ),
    TrainUnetConfig: (train_unet, {"steps": 1, "show_every": 1, **FEW}),
    EditConfig: (
        edit,
        {"steps": 1, "split": "val"},
        {"steps": 1, "skip": 0, "split": "val", "editor": "ddpm-inversion", "source_caption": "x"}
        | {"target_caption": "y"},
        {"steps": 1, "split": "val", "editor": "cds", "source_caption": "x", "target_caption": "y"},
        {"steps": 1, "split": "val", "editor": "zone"},
        {"steps": 1, "split": "val", "mask": "data", "crop_to_mask": True},
        {"steps": 1, "split": "val", "candidates": 2},
    ),
    EvalConfig: (evaluate, {"split": "val"}),
}
# read before a recipe begins, or in a case that is not this one and has its own tests
ELSEWHERE = {
    CommandConfig: {"preset"},  # laid over the defaults
    DescribeConfig: {
        "seed",  # the first answer draws nothing
        "attempts",  # where an answer cannot be used
        "base_url", "concurrency", "timeout", "sent_pixels",  # of a server
        "retry_failed",  # of a finished run
    },
    EditConfig: {
        "overwrite", "retry_failed",  # of a run that began before
        "mask_text_model", "mask_text_sam",  # with a text; the family has no such models
    },
    TrainUnetConfig: {"allow_missing_text"},  # where texts are missing
    EvalConfig: {
        "dtype", "fid", "lpips_net",  # refused where they would change nothing, as here
        "layout",  # read by the command line
        "target", "mask",  # with a source
        "texts",  # where there are any
        "partial",  # where outputs are missing
        "region_clip",  # for a metric that is asked for by name
        "judge_model", "judge_prompts", "judge_swap", "judge_dtype", "judge_batch_size",
        "max_new_tokens", "attempts", "load_in",  # of a judge
        "base_url", "concurrency", "timeout", "sent_pixels",  # of its server
    },
}  # fmt: skip
NOT_READING = {"dataclasses", "ric.config", "ric.settings", __name__}  # they copy and compare


@contextmanager
def reads_of(kind: type[CommandConfig], seen: set[str]):
    """Collect the fields of a config that something reads for its own use."""
    own = {field.name for field in fields(kind)}

    def read(self: CommandConfig, name: str) -> object:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if name in own and caller not in NOT_READING:
            seen.add(name)
        return object.__getattribute__(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "__getattribute__", read, raising=False)
        yield


@pytest.mark.parametrize("kind", RUNS, ids=lambda kind: kind.__name__)
def test_a_recipe_reads_every_setting_of_its_command_and_opens_data_once(
    kind, tiny, edits, trained_on, follow, tmp_path, monkeypatch
):
    recipe, first, *more = RUNS[kind]
    if kind in (EditConfig, EvalConfig):
        # by a model that was trained on other pictures, with which DATA is compared
        model = {"unet": str(trained_on(["another"]))}
    if kind is EvalConfig:
        config = tiny(EditConfig, edits, **RUNS[EditConfig][1], **model)
        first = {**first, "edits": (f"Mine={follow(edit, config, tmp_path / 'edited')}",)}
    if kind is EditConfig:
        first = {**first, **model}
    seen: set[str] = set()
    opened, load = [], sample.load_samples

    def counted(*given, **named):
        opened.append(given)
        return load(*given, **named)

    monkeypatch.setattr(sample, "load_samples", counted)
    for number, settings in enumerate((first, *more), 1):
        config = tiny(kind, edits, **settings)
        with reads_of(kind, seen):
            follow(recipe, config, tmp_path / f"run-{number}")
        assert len(opened) == number
    own = {field.name for field in fields(kind)}
    known = ELSEWHERE[CommandConfig] | ELSEWHERE.get(kind, set())
    assert ", ".join(sorted(own - seen - known)) == ""


# --- another value, another run ------------------------------------------------------------------

FOLDER = Path(__file__).parents[2] / "ric" / "assets" / "tiny"  # other weights than the fixture's
# Another value of each setting, and what else it needs to be asked for.
OTHER: dict[type[CommandConfig], dict[str, Any]] = {
    CommandConfig: {
        "data": "another", "split": "all", "columns": "instruction=region_text", "limit": 2,
        "seed": 1, "device": "cuda:99", "dtype": "bf16", "max_pixels": 90,
        "ignore_signature": True,
    },
    DescribeConfig: {
        "describer": "dataset", "model": str(FOLDER / "captioner"), "max_new_tokens": 5,
        "what": "region", "image": "source", "prompt_file": "no-such-file", "quality_gates": True,
        "base_url": "http://127.0.0.1:9/v1", "concurrency": 2, "timeout": 9.0,
        "sent_pixels": 2048, "shard": "1/5",
    },
    FitClipConfig: {
        "clip": str(FOLDER / "clip"), "descriptions": "described",
        "image_size": 32, "fit": "crop", "batch_size": 3,
        "fusion_epochs": 2, "fusion_lr": 0.1, "joint_epochs": 2, "joint_lr": 0.1,
        "temperature": 0.5, "num_heads": 4, "gated_fusion": False, "sees": "crop",
        "pasted_negatives": True, "attribute_negatives": True, "flatten": 0.3, "controls": False,
        "region_text": "instruction", "weight_decay": 0.9, "measure_every": 1,
        "keep": "best", "checkpoint_every": 9, "keep_checkpoints": 1, "log_every": 2,
        "track": "no-such-tracker", "blur_to_t": 500, "base": str(FOLDER / "pipeline"),
    },
    FitBlipConfig: {
        "blip": str(FOLDER / "scene_encoder" / "blip"), "descriptions": "described",
        "image_size": 32, "fit": "crop", "batch_size": 3, "epochs": 2, "lr": 0.1,
        "pasted_negatives": True, "attribute_negatives": True, "flatten": 0.3,
        "source_negatives": True, "max_text_tokens": 6, "temperature": 0.5, "weight_decay": 0.9,
        "measure_every": 1, "keep": "best", "checkpoint_every": 9, "keep_checkpoints": 1,
        "log_every": 2, "track": "no-such-tracker", "blur_to_t": 500,
        "base": str(FOLDER / "pipeline"),
    },
    TrainUnetConfig: {
        "base": str(FOLDER / "pipeline"), "descriptions": "described",
        "region_clip": str(FOLDER / "region_encoder"), "scene_blip": str(FOLDER / "scene_encoder"),
        "steps": 3, "lr": 0.1, "image_size": 32, "batch_size": 3, "lora_rank": 2,
        "region_loss": False, "global_loss": False, "gated_fusion": False, "region_weight": 3.0,
        "global_weight": 3.0, "noise_weight": 3.0, "losses": ("outside=1",),
        "region_text": "instruction", "fit": "crop", "flip": True, "loss_decoder": "no-such-folder",
        "conditioning_dropout": 0.33, "align_below": 300, "align_weight": "alpha-bar", "ema": False,
        "align_agree": True, "align_to": "target", "noise_reduction": "sum", "hinge": True,
        "balance": 0.5, "clip_alignments": 0.01,
        "align_restore": 0.5, "flatten": 0.1, "augment_judged": True, "region_gradient": "box",
        "ema_decay": 0.0, "adam_8bit": True, "adam_beta1": 0.1, "adam_beta2": 0.1,
        "weight_decay": 0.9, "max_grad_norm": 1e-3, "memory": 24.0, "show_every": 1,
        "attention": "xformers", "checkpoint_every": 9, "keep_checkpoints": 1, "log_every": 2,
        "track": "no-such-tracker",
    },
    EditConfig: {
        "instruction": "make it night", "batch_size": 1, "editor": "no_such_file.py:Mine",
        "unet": str(FOLDER / "pipeline"), "steps": 2, "guidance": 5.0, "image_guidance": 3.0,
        "image_size": 32, "scheduler": "ddim", "shard": "1/5",
        # of the second editor
        "text_to_image": str(FOLDER / "text_to_image"), "skip": 1, "source_guidance": 9.0,
        "keep_last_noise": True, "source_caption": "a red ball", "target_caption": "a red ball",
        "captions": ("described",),
        # of the third
        "dds_weight": 0.5, "contrast_weight": 0.5,
        # of the fourth
        "unet_magicbrush": str(FOLDER / "pipeline"), "segmenter": "no-such-folder",
        "zone_attention": "null", "save_intermediates": True,
        # of the judges: refused without candidates
        "candidates": 2, "choose_by": "medoid", "region_clip": str(FOLDER / "region_encoder"),
        "scene_blip": str(FOLDER / "scene_encoder"),
        # of masks: refused without them
        "mask": "data", "feather": 3, "crop_to_mask": True, "margin": 9,
        "mask_text": "a ball", "mask_text_model": "no-such-folder",
        "mask_text_sam": "no-such-folder",
        # of photos: refused for a dataset
        "more_instructions": ("make it day",), "instructions": "photos/none.txt", "seeds": "0,1",
        "also": ("photos",), "recursive": True, "out": "out", "format": "jpg", "quality": 9,
        "export": "out",  # of a benchmark: refused for any other dataset
        "redo": ("s08",),  # refused where nothing was made
    },
    EvalConfig: {
        "edits": ("Other=edited-0",), "source": "photos", "match": "file", "fit": "squash",
        "turns": "final", "register": True, "group_by": "region-size", "fid_set": "photos",
        "protocol": "magicbrush",
        "metrics": "l1", "decode": "plain", "reference": "source", "text": "instruction",
        "region_clip": str(FOLDER / "region_encoder"),
        "clip": str(FOLDER / "clip"), "dino": str(FOLDER / "scene_classifier"),
        "fid": "pytorch-fid", "lpips_net": "vgg", "dtype": "bf16",
        # of a judge: refused without one
        "judge": "chat", "judge_model": "tiny", "judge_prompts": "photos", "judge_swap": True,
        "judge_dtype": "bf16", "judge_batch_size": 2, "max_new_tokens": 5, "attempts": 2,
        "load_in": "8bit", "base_url": "http://127.0.0.1:9/v1", "concurrency": 2, "timeout": 9.0,
        "sent_pixels": 2048, "agree_with": "1",
    },
}  # fmt: skip
# What changes how a result is come by, or when it is had, and not the result: tests of their own
# hold it to be the same.
SAME: dict[type[CommandConfig], set[str]] = {
    CommandConfig: {"preset", "weights"},  # laid over the defaults; where models are looked for
    # the first answer draws nothing and two words come out the same; of masks a describer of one's
    # own may look at
    DescribeConfig: {
        "seed", "dtype", "ignore_signature", "batch_size", "attempts", "load_in", "retry_failed",
    },
    FitClipConfig: {"micro_batch"},
    FitBlipConfig: {"micro_batch"},
    TrainUnetConfig: {
        "accumulate", "allow_missing_text", "cache", "compile", "ema_on_cpu",
        "gradient_checkpointing", "push_to_hub",
    },
    # an edit's row tells its batch
    EditConfig: {"allow_overlap", "overwrite", "retry_failed"},
    EvalConfig: {
        "allow_overlap", "batch_size", "layout", "mask", "partial", "target", "texts",
        # which no score of these runs is drawn by, or which only a GPU would
        "seed", "device",
    },
}  # fmt: skip
SAVED = {"checkpoint_every": 1, "keep_checkpoints": 2}
OF_THE_ASKING = {"argv", "config", "environment", "process", "started", "ended", "error"}


def cases() -> list[Any]:
    found = []
    for kind in RUNS:
        others = OTHER[CommandConfig] | OTHER[kind]
        same = SAME[CommandConfig] | SAME.get(kind, set())
        own = {field.name for field in fields(kind)}
        assert own == (others.keys() & own) | same, sorted(own ^ ((others.keys() & own) | same))
        found += [
            pytest.param(kind, name, value, id=f"{kind.__name__}-{name}")
            for name, value in others.items()
            if name in own - same
        ]
    return found


@pytest.fixture(scope="module")
def workshop(tiny, make_edits, follow, tmp_path_factory) -> Callable[..., dict[str, Any] | None]:
    """Take a command's run with some settings changed, and give what it holds; None: refused."""
    room = tmp_path_factory.mktemp("workshop")
    texts = {n: {"id": f"s{n:02d}", "region_text": f"a red thing {n}"} for n in range(12)}
    val = {n: texts[n] | {"split": "val"} for n in (8, 9, 10)}
    data = {"one": make_edits(11, texts | val), "another": make_edits(12, texts | val)}
    for number in range(11):  # a signature, for whoever does not ignore it
        file = data["one"] / "target" / f"{number:02d}.png"
        with Image.open(file) as target:
            signed = target.convert("RGB")
        signed.paste((255, 0, 0), signature_box(*signed.size))
        signed.save(file)
    named = {"another": str(data["another"])}
    spoken = {"describer": "chat", "model": "tiny", "quality_gates": False}
    described = tiny(DescribeConfig, data["one"], **spoken, split="all")
    named["described"] = str(follow(describe, described, room / "described"))
    for number in (0, 1):
        settings = RUNS[EditConfig][1] | {"seed": number}
        run = follow(edit, tiny(EditConfig, data["one"], **settings), room / f"edited-{number}")
        # out of its run, whose pictures are named by their samples' ids whatever --match says
        named[f"edited-{number}"] = str(shutil.copytree(run / "images", room / f"out-{number}"))
    # of another shape than its source
    Image.new("RGB", (60, 80)).save(Path(named["edited-1"]) / "s10.png")
    # black with a transparency that --decode plain ignores
    Image.new("RGBA", (96, 80)).save(Path(named["edited-1"]) / "s09.png")
    photos = room / "photos"
    shutil.copytree(data["one"] / "source", photos)
    named["photos"] = str(photos)
    taken = iter(range(1000))

    def here(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(here, value))
        if not isinstance(value, str):
            return value
        label, equals, place = value.rpartition("=")
        return f"{label}{equals}{named.get(place, place)}" if place in named else value

    def take(kind: type[CommandConfig], nth: int = 0, **changes: Any) -> dict[str, Any] | None:
        recipe, *several = RUNS[kind]
        settings = several[nth]
        if nth:
            settings = {**settings, "steps": 2}
        if kind is EvalConfig:
            settings = {**settings, "edits": ("Mine=edited-1",), "partial": True}
        if kind is TrainUnetConfig:
            settings = {**settings, **SAVED, "steps": 2, "show_every": 0}
        if kind is FitClipConfig:
            settings = {**settings, **SAVED, "joint_epochs": 3}
        if kind is FitBlipConfig:
            settings = {**settings, **SAVED, "epochs": 3}
        asked = {key: here(value) for key, value in (settings | changes).items()}
        on = asked.pop("data", data["one"])
        try:
            if "source" in asked:
                del asked["split"]
                on = ""
            config = tiny(kind, on, **asked)
            return held(follow(recipe, config, room / f"run-{next(taken)}"))
        except RicError:
            return None

    return take


def held(run: Path) -> dict[str, Any]:
    """Give what a run's files hold, by name; of its record and rows, what they tell of results."""
    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.name in ("state.json", "curves.png", "run.json", "README.md"):
            found[name] = None  # that it is there: they tell times, or what was asked
        elif file.suffix == ".jsonl":
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            for row in rows:
                row.pop("images_per_second", None)
            found[name] = rows
        elif file.name == "scores.json":
            scores = json.loads(file.read_text())
            found[name] = (scores["editors"], sorted(scores["groups"]))
        elif file.is_file() and file.suffix in (".safetensors", ".png", ".json"):
            found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
    record = json.loads((run / "run.json").read_text())
    return found | {key: record[key] for key in record.keys() - OF_THE_ASKING}


@pytest.fixture(scope="module")
def usual(workshop) -> Callable[..., dict[str, Any]]:
    @cache
    def of(kind: type[CommandConfig], nth: int = 0) -> dict[str, Any]:
        found = workshop(kind, nth)
        assert found is not None, "the usual settings are refused: nothing would be shown"
        return found

    return of


@pytest.mark.slow
@pytest.mark.parametrize("kind", RUNS, ids=lambda kind: kind.__name__)
def test_the_same_settings_give_the_same_run(kind, workshop, usual):
    for nth in range(len(RUNS[kind]) - 1):
        assert workshop(kind, nth) == usual(kind, nth)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "value"), cases())
def test_another_value_of_a_setting_changes_the_run_or_is_refused(
    kind, name, value, workshop, usual
):
    # an editor that reads it, in the order of their runs
    readers = readers_of("editor", name) or ("ip2p",)
    nth = ["ip2p", "ddpm-inversion", "cds", "zone"].index(readers[0])
    assert workshop(kind, nth, **{name: value}) != usual(kind, nth)

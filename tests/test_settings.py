"""Settings: defaults, preset, config file, flags; the later one wins."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from ric.config import (
    TINY,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
    as_dict,
)
from ric.config_file import load_config_file
from ric.errors import RicError
from ric.setting_values import BOUNDS, OF_ONE_KIND, WORDS, check_value
from ric.settings import resolve_config

ALL = list(TINY)


def test_a_flag_wins_over_the_file_the_file_over_the_preset_the_preset_over_the_default():
    def lr_and_size(**how):
        config = resolve_config(FitClipConfig, how.pop("flags", {}), **how)
        return config.fusion_lr, config.image_size, config.batch_size, config.joint_lr

    tiny = {"preset": "tiny"}
    assert lr_and_size() == (1e-4, 512, 64, 1e-5)
    assert lr_and_size(flags=tiny) == (1e-3, 64, 16, 1e-4)
    file = {"image_size": 96, "batch_size": 4}
    assert lr_and_size(flags=tiny, from_file=file) == (1e-3, 96, 4, 1e-4)
    both = tiny | {"batch_size": 2}
    assert lr_and_size(flags=both, from_file=file) == (1e-3, 96, 2, 1e-4)


def test_a_preset_named_in_the_file_counts_unless_a_flag_names_another():
    steps = TINY[EditConfig]["steps"]
    assert resolve_config(EditConfig, {}, from_file={"preset": "tiny"}).steps == steps != 100
    flags = {"preset": "paper"}
    assert resolve_config(EditConfig, flags, from_file={"preset": "tiny"}).steps == 100


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("preset", ["paper", "tiny"])
def test_every_field_goes_through_json_and_comes_back(kind, preset):
    config = resolve_config(kind, {"preset": preset})
    changed = {
        field.name: value
        for field in dataclasses.fields(kind)
        if (value := other_value(getattr(config, field.name))) is not None
    }
    changed |= {"edits": ("A=1", "B=2")} if kind is EvalConfig else {}
    changed |= {"pasted_negatives": False} if kind is FitBlipConfig else {}  # or source_negatives
    if kind is EditConfig:  # it has no use for the one, and the other excludes some of the rest
        changed |= {"ignore_signature": False, "candidates": 1}
    for one in (config, dataclasses.replace(config, **changed)):
        saved = json.loads(json.dumps(as_dict(one)))
        assert list(saved) == [field.name for field in dataclasses.fields(kind)]
        assert resolve_config(kind, {}, from_file=saved) == one


def other_value(value: object) -> object:
    """Another value of the same type, where any will do (a choice is left as it is)."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value / 2 if isinstance(value, float) else None


@pytest.mark.parametrize("kind", ALL)
def test_the_tiny_preset_sets_only_fields_that_exist_and_differ(kind):
    fields = {field.name: field.default for field in dataclasses.fields(kind)}
    for name, value in TINY[kind].items():
        assert name in fields
        assert value != fields[name], f"{name} is the default anyway"


def test_bounds_are_of_fields_that_exist():
    fields = {field.name for kind in ALL for field in dataclasses.fields(kind)}
    assert BOUNDS.keys() <= fields
    for kind, own in OF_ONE_KIND.items():
        assert own.keys() <= {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("kind", ALL)
def test_every_default_is_within_its_bounds(kind):
    for preset in ("paper", "tiny"):
        resolve_config(kind, {}, from_file=as_dict(resolve_config(kind, {"preset": preset})))


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("through", ["flags", "from_file"])
@pytest.mark.parametrize(
    ("kind", "key", "value", "rule"),
    [
        (TrainUnetConfig, "lr", -1.0, "more than 0"),
        (TrainUnetConfig, "lr", 0, "more than 0"),
        (TrainUnetConfig, "lr", NAN, "finite and more than 0"),
        (TrainUnetConfig, "lr", INF, "finite and more than 0"),
        (FitClipConfig, "fusion_lr", -1e-4, "more than 0"),
        (FitClipConfig, "joint_lr", NAN, "finite and more than 0"),
        (FitBlipConfig, "lr", 0.0, "more than 0"),
        (FitClipConfig, "temperature", 0.0, "more than 0"),
        (TrainUnetConfig, "max_grad_norm", -1.0, "more than 0"),
        (TrainUnetConfig, "region_weight", -0.5, "at least 0"),
        (TrainUnetConfig, "global_weight", NAN, "finite and at least 0"),
        (TrainUnetConfig, "noise_weight", -INF, "finite and at least 0"),
        (TrainUnetConfig, "weight_decay", -0.1, "at least 0"),
        (TrainUnetConfig, "conditioning_dropout", 0.34, "at least 0 and at most 0.3333"),
        (TrainUnetConfig, "conditioning_dropout", NAN, "finite and at least 0 and at most 0.3333"),
        (TrainUnetConfig, "adam_beta1", 1.0, "at least 0 and less than 1"),
        (TrainUnetConfig, "adam_beta2", -0.1, "at least 0 and less than 1"),
        (TrainUnetConfig, "ema_decay", 1.1, "at least 0 and at most 1"),
        (TrainUnetConfig, "align_below", -5, "at least 0"),
        (EditConfig, "guidance", NAN, "finite"),
        (EditConfig, "image_guidance", INF, "finite"),
        (FitClipConfig, "batch_size", 1, "at least 2"),
        (FitBlipConfig, "batch_size", 1, "at least 2"),
        (TrainUnetConfig, "batch_size", 0, "at least 1"),
        (EditConfig, "seed", -1, "at least 0"),
    ],
)
def test_a_number_out_of_its_range_is_named_with_its_range(through, kind, key, value, rule):
    with pytest.raises(RicError) as raised:
        resolve_config(kind, **({"flags": {}} | {through: {key: value}}))
    value = float(value) if isinstance(getattr(kind, key), float) else value
    assert raised.value.message == f"{key} is {value}; it is {rule}."


def test_the_ends_of_a_range_are_within_it():
    ends = {"conditioning_dropout": 1 / 3, "ema_decay": 1, "adam_beta1": 0, "noise_weight": 0}
    assert resolve_config(TrainUnetConfig, ends | {"align_below": 0}).ema_decay == 1.0
    assert resolve_config(EditConfig, {"guidance": -1.0, "seed": 10**400}).guidance == -1.0
    assert resolve_config(TrainUnetConfig, {"batch_size": 1}).batch_size == 1


@pytest.mark.parametrize("value", ["", "  ", None])
def test_an_empty_text_is_none_given(value):
    assert resolve_config(EditConfig, {"instruction": value}).instruction is None


def test_an_unknown_key_is_named_with_the_known_ones():
    with pytest.raises(RicError) as raised:
        resolve_config(EditConfig, {}, from_file={"stepz": 5})
    assert raised.value.message == "The config file sets 'stepz', which EditConfig does not have."
    assert "steps" in raised.value.hint


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("steps", "ten", "steps is 'ten', which is not a whole number."),
        ("steps", 1.5, "steps is 1.5, which is not a whole number."),
        ("steps", True, "steps is True, which is not a whole number."),
        ("steps", None, "steps is None, which is not a whole number."),
        ("steps", 0, "steps is 0; it is at least 1."),
        ("limit", "ten", "limit is 'ten', which is not a whole number."),
        ("limit", 0, "limit is 0; it is at least 1."),
        ("guidance", "much", "guidance is 'much', which is not a number."),
        ("guidance", True, "guidance is True, which is not a number."),
        ("guidance", [1], "guidance is [1], which is not a number."),
        ("guidance", None, "guidance is None, which is not a number."),
        ("guidance", 10**400, f"guidance is 1{'0' * 99}…, which is not a number."),
        pytest.param(
            "steps",
            -(16**5000),
            "steps is a number of thousands of digits; it is at least 1.",
            id="digits",
        ),
        ("unet", "a\0b", "unet is 'a\\x00b', which holds a NUL character."),
        ("steps", "x" * 10**6, f"steps is '{'x' * 99}…, which is not a whole number."),
        ("limit", "", "limit is '', which is not a whole number."),
        ("allow_overlap", "yes", "allow_overlap is 'yes', which is not yes or no (true, false)."),
        ("allow_overlap", 1, "allow_overlap is 1, which is not yes or no (true, false)."),
        ("unet", 5, "unet is 5, which is not text."),
        ("columns", ["a"], "columns is ['a'], which is not text."),
        ("dtype", "fp16", "dtype is 'fp16'."),
        ("dtype", ["bf16"], "dtype is ['bf16']."),
        ("preset", "huge", "preset is 'huge'."),
    ],
)
def test_a_wrong_value_is_named(key, value, words):
    with pytest.raises(RicError) as raised:
        resolve_config(EditConfig, {}, from_file={key: value})
    assert raised.value.message == words


def test_a_bad_choice_lists_the_choices():
    with pytest.raises(RicError) as raised:
        resolve_config(EvalConfig, {}, from_file={"fid": "legacy"})
    assert raised.value.hint == "Choose one of: clean, torch-fidelity, pytorch-fid."


@pytest.mark.parametrize("value", ["mine", [1], {"a": 1}])
def test_a_list_of_texts_is_one(value):
    with pytest.raises(RicError, match="which is not a list of texts"):
        resolve_config(EvalConfig, {}, from_file={"edits": value})


def test_yaml_reads_a_number_with_an_exponent_and_a_whole_one_as_floats(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("lr: 1e-4\nweight_decay: 0\nregion_clip: null\nregion_loss: false\n")
    assert isinstance(load_config_file(file)["lr"], str)
    config = resolve_config(TrainUnetConfig, {}, from_file=load_config_file(file))
    assert (config.lr, config.weight_decay) == (1e-4, 0.0)
    assert isinstance(config.weight_decay, float)
    assert config.region_clip is None
    assert config.region_loss is False


def test_a_run_json_is_a_config_file(tmp_path):
    before = resolve_config(EvalConfig, {"edits": ["A=1"], "batch_size": 3, "data": "d"})
    record = {"schema": 1, "command": "eval", "config": as_dict(before)}
    (tmp_path / "run.json").write_text(json.dumps(record))
    from_file = load_config_file(tmp_path / "run.json")
    assert resolve_config(EvalConfig, {}, from_file=from_file) == before
    assert resolve_config(EvalConfig, {"batch_size": 5}, from_file=from_file).batch_size == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a mapping of fields to values."),
        (b"- 1\n", "is not a mapping of fields to values."),
        (b"a: [", "is neither YAML nor JSON: while parsing"),
        (b"\xff\xfe\x00\x81", "is neither YAML nor JSON"),
        (b"steps: 1\nlr: 2\nsteps: 3\n", "it sets 'steps' twice"),
        (b"a: " + b"[" * 50_000, "is nested too deeply"),
        (b"a: &a [*a]\n", "is nested too deeply|more than 10000 values"),
        (
            b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(
                b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10))
                for n in range(1, 12)
            ),
            "it has more than 10000 values",
        ),
        (b"a: 2024-13-45\n", "is neither YAML nor JSON: month must be in 1..12"),
        (b"a: !!float text\n", "is neither YAML nor JSON"),
        (b"a: !!timestamp text\n", "is neither YAML nor JSON"),
        (b"a: !!bool text\n", "is neither YAML nor JSON"),
        (b"a: !!int ''\n", "is neither YAML nor JSON"),
        (b"a: !!python/object/apply:os.getcwd []\n", "is neither YAML nor JSON"),
        (b"? [a]\n: 1\n", "is neither YAML nor JSON"),
        (b"a: 1\n---\nb: 2\n", "is neither YAML nor JSON"),
        (b"a: '" + b"x" * (1 << 20) + b"'\n", "has more than 1 MiB"),
        (b"a: \x00\n", "is neither YAML nor JSON"),
    ],
)
def test_a_config_file_that_cannot_be_read_says_why(tmp_path, content, words):
    file = tmp_path / "mine.yaml"
    file.write_bytes(content)
    with pytest.raises(RicError) as raised:
        load_config_file(file)
    assert raised.value.message.startswith(f"The config file {file} ")
    assert re.search(words, raised.value.message)
    assert "\n" not in raised.value.message


def test_an_endless_device_is_no_config_file():
    with pytest.raises(RicError, match="has more than 1 MiB"):
        load_config_file(Path("/dev/zero"))


def test_a_config_file_may_repeat_a_value_by_an_alias(tmp_path):
    (tmp_path / "mine.yaml").write_text("lr: &rate 0.5\nweight_decay: *rate\n")
    assert load_config_file(tmp_path / "mine.yaml") == {"lr": 0.5, "weight_decay": 0.5}


def test_a_config_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(RicError, match=r"Cannot read the config file .*x\.yaml: No such file"):
        load_config_file(tmp_path / "x.yaml")


def test_config_and_settings_import_nothing_heavy():
    script = "import sys, ric.settings; print(*{'torch', 'yaml', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"dtype": "bf16"}, "ric eval computes every score in float32, not in bf16."),
        ({"preset": "tiny", "fid": "pytorch-fid"}, "--preset tiny does not use --fid: "),
        ({"preset": "tiny", "lpips_net": "vgg"}, "--preset tiny does not use --lpips-net: "),
    ],
)
def test_what_changes_no_score_cannot_be_asked_of_eval(flags, message):
    with pytest.raises(RicError) as raised:
        resolve_config(EvalConfig, flags)
    assert raised.value.message.startswith(message)
    usual = {key: getattr(EvalConfig, key) for key in flags if key != "preset"}
    assert resolve_config(EvalConfig, flags | usual).dtype == "fp32"
    asked = {key: value for key, value in flags.items() if key != "preset"}
    tiny = {"preset": flags.get("preset", "paper")}
    config = resolve_config(EvalConfig, tiny, from_file=asked)
    assert {key: getattr(config, key) for key in usual} == usual  # what is recorded is what is done


def test_a_second_folder_that_is_not_there_is_named(tmp_path):
    gone = str(tmp_path / "gone")
    with pytest.raises(RicError, match=f"'{gone}' is not a folder to compare '{tmp_path}' with"):
        resolve_config(EvalConfig, {"edits": (str(tmp_path), gone)})
    for named in ("@edit", "7", f"B={gone}"):
        assert resolve_config(EvalConfig, {"edits": (str(tmp_path), named)}).source is None
    given = {"edits": (str(tmp_path), gone), "data": "scenes:3@64"}
    assert resolve_config(EvalConfig, given).data == "scenes:3@64"


def test_edit_which_shows_no_mask_to_an_editor_has_no_use_for_their_signature():
    with pytest.raises(RicError, match="ric edit does not use --ignore-signature"):
        resolve_config(EditConfig, {"ignore_signature": True})
    from_file = {"ignore_signature": True}  # as another command's run.json says
    assert not resolve_config(EditConfig, {}, from_file=from_file).ignore_signature


def test_alignments_are_balanced_or_clipped_and_not_both():
    settings = {"data": "scenes:9", "balance": 0.3, "clip_alignments": 0.3}
    with pytest.raises(RicError, match="--clip-alignments only scales them down"):
        resolve_config(TrainUnetConfig, settings)


def test_a_text_has_one_further_negative_its_source_or_the_region_pasted_into_it():
    settings = {"data": "scenes:9", "source_negatives": True, "pasted_negatives": True}
    with pytest.raises(RicError, match="A text has one further negative"):
        resolve_config(FitBlipConfig, settings)


def test_an_alignment_with_the_target_has_no_use_for_a_hinge_at_the_target():
    settings = {"data": "scenes:9", "align_to": "target", "hinge": True}
    with pytest.raises(RicError, match="both losses end at the target already"):
        resolve_config(TrainUnetConfig, settings)


def test_each_setting_of_words_is_one_and_refuses_half_a_character():
    kinds = {kind: get_type_hints(kind) for kind in TINY}
    assert {name for hints in kinds.values() for name in hints} >= WORDS
    for kind, hints in kinds.items():
        for name in WORDS & hints.keys():
            value: Any = "a\udcffb"
            with pytest.raises(RicError, match="is not UTF-8"):
                check_value(kind, name, (value,) if "tuple" in str(hints[name]) else value)

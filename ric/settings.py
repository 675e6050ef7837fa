"""Resolving a command's config from a preset, a config file and flags, with checks.

Like `ric.config`, this file imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ric.config import (
    TINY,
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    Preset,
    as_dict,
    command_of,
    flag_of,
)
from ric.errors import RicError
from ric.protocols import fixed_by_protocol
from ric.registry import EDITORS, defaults_of, is_shipped, readers_of, settings_of
from ric.setting_values import check_value, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

ConfigT = TypeVar("ConfigT", bound=CommandConfig)

# commands whose settings depend on the editor, describer or judge that does the work
PARTS: dict[type[CommandConfig], str] = {
    EditConfig: "editor",
    DescribeConfig: "describer",
    EvalConfig: "judge",
}


def resolve_config(
    kind: type[ConfigT],
    flags: dict[str, Any],
    *,
    from_file: dict[str, Any] | None = None,
) -> ConfigT:
    """Apply a preset, a config file and flags to the paper's numbers; later ones win.

    Args:
        kind: The command's dataclass.
        flags: Values the user typed; keys are field names.
        from_file: Values of `--config`; keys are field names.

    Raises:
        RicError: `from_file` holds a key the command does not have, or a value is of a wrong
            type or out of its range.
    """
    from_file = dict(from_file or {})
    fields = {field.name for field in dataclasses.fields(kind)}
    for key in from_file:
        if key not in fields:
            raise RicError(
                f"The config file sets {shown(key)}, which {kind.__name__} does not have.",
                f"It has: {', '.join(sorted(fields))}.",
            )
    # before they are compared with one another
    from_file = {key: check_value(kind, key, value) for key, value in from_file.items()}
    preset = flags.get("preset", from_file.get("preset", kind.preset))
    check_value(kind, "preset", preset)
    typed = {**from_file, **flags}
    values = {**(TINY[kind] if preset == "tiny" else {}), **typed}
    chosen = _chosen_part(kind, values)
    if chosen:
        _refuse_unread_settings(*chosen, flags)
        values = {**values, **defaults_of(*chosen, preset), **typed}
    if kind is EditConfig:
        _refuse_unused_edit_settings(values, flags)
        if flags.get("ignore_signature"):
            raise RicError(
                "ric edit does not use --ignore-signature.",
                "Omit --ignore-signature; ric eval uses it.",
            )
        values["ignore_signature"] = False
    if kind is FitClipConfig:
        _refuse_unused_descriptions(values)
    _refuse_idle_training_settings(kind, values, flags)
    if kind is DescribeConfig:
        _refuse_incomplete_describe(values)
    if kind is EvalConfig:
        _refuse_incomplete_judge(values)
        values |= _fixed_by_eval(preset, flags)
        values |= _two_folder_settings(values)
        values |= _source_settings(values, flags)
    if shard := values.get("shard"):
        shard_of(str(shard))
    if values.get("protocol", "none") != "none":
        check_value(kind, "protocol", values["protocol"])
        values |= fixed_by_protocol(values, flags)
    return kind(**{key: check_value(kind, key, value) for key, value in values.items()})


def _chosen_part(kind: type[CommandConfig], values: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return (`editor`, `describer` or `judge`, the one that is chosen); None for the others."""
    part = PARTS.get(kind)
    return (part, str(values.get(part, getattr(kind, part)))) if part else None


def recorded_config(kind: type[ConfigT], values: Mapping[str, Any]) -> ConfigT:
    """Return a command's settings as a run has recorded them, without those of other versions.

    Raises:
        RicError: one has a value that it cannot have.
    """
    known = {one.name for one in dataclasses.fields(kind)}
    return kind(**{k: check_value(kind, k, value) for k, value in values.items() if k in known})


def usual_settings(command: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a command's settings are if none is typed; empty for an unknown command.

    Args:
        command: As a run records it: `train-unet`, `tiny-vae`.
        config: Its preset, and its editor if it has one, decide.
    """
    kind = next((kind for kind in TINY if command_of(kind).replace(" ", "-") == command), None)
    if kind is None:
        return {}
    preset: Preset = "tiny" if config.get("preset") == "tiny" else "paper"
    of_tiny = TINY[kind] if preset == "tiny" else {}
    chosen = _chosen_part(kind, config)
    return {**as_dict(kind()), **of_tiny, **(defaults_of(*chosen, preset) if chosen else {})}


def unread_settings(command: str, config: Mapping[str, Any]) -> frozenset[str]:
    """Return the settings of a command that its editor, describer or judge does not read.

    Args:
        command: As for `usual_settings`.
        config: Names the editor, describer or judge; those from outside ric may read any setting.
    """
    kind = next((kind for kind in PARTS if command_of(kind) == command), None)
    chosen = _chosen_part(kind, config) if kind else None
    if chosen is None or not is_shipped(*chosen):
        return frozenset()
    part, name = chosen
    return frozenset(key for key in settings_of(part) if name not in readers_of(part, key))


def _refuse_unread_settings(kind: str, name: str, flags: dict[str, Any]) -> None:
    """Stop where a command is given a setting that its editor or describer does not read.

    Args:
        kind: `editor` or `describer`.
        name: The one that is chosen; those from outside ric may read any setting.
        flags: What was typed.

    Raises:
        RicError: names the flag, and whose it is.
    """
    if not is_shipped(kind, name):
        return
    for key in settings_of(kind):
        readers = readers_of(kind, key)
        if key in flags and name not in readers:
            flag = flag_of(key)
            raise RicError(
                f"--{kind} {name} does not use {flag}.",
                f"Omit {flag}, or choose --{kind} {' or '.join(readers)}.",
            )


def _refuse_incomplete_describe(values: dict[str, Any]) -> None:
    """Stop where `ric describe` lacks its server, or a setting does not fit another (RicError)."""
    if values.get("describer", DescribeConfig.describer) == "openai":
        _refuse_no_address(values, "--describer openai", "--model")
    if values.get("prompt_file") and values.get("what") == "all":
        raise RicError(
            "--prompt-file is the prompt of one kind of text, and --what is all.",
            "Name one: --what scene",
        )


def _refuse_no_address(values: Mapping[str, Any], flag: str, model: str) -> None:
    """Stop where a server has no address (raises RicError).

    Args:
        values: The settings.
        flag: What needs it, as it is typed.
        model: The flag that names the server's model.
    """
    url = str(values.get("base_url") or "")
    if not re.match(r"https?://[^/\s]", url):
        raise RicError(
            f"{flag} needs the address of a server{f', not {shown(url)}' if url else ''}.",
            f"Add --base-url http://HOST:PORT/v1, and {model} as the server calls it.",
        )


def _refuse_incomplete_judge(values: Mapping[str, Any]) -> None:
    """Stop where the judge of `ric eval` has no model or no server (raises RicError)."""
    judge = values.get("judge", EvalConfig.judge)
    if judge == "openai":
        _refuse_no_address(values, "--judge openai", "--judge-model")
    if judge in ("chat", "openai") and not values.get("judge_model"):
        raise RicError(
            f"--judge {judge} needs a model.",
            "Name it with --judge-model: a folder or a hub id, or what the server calls it.",
        )


def shard_of(text: str | None) -> tuple[int, int]:
    """Read `2/5`, the second of five shards, as (2, 5); None, all in one, as (1, 1).

    Raises:
        RicError: it is not of that form, or there is no such shard.
    """
    if text is None:
        return 1, 1
    part, slash, count = text.partition("/")
    if not (slash and part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
        raise RicError(f"--shard is {shown(text)}.", "Write the shard and their number: 2/5")
    return int(part), int(count)


def _refuse_unused_descriptions(values: dict[str, Any]) -> None:
    """Stop where `ric fit-clip` would read texts and use none of them (raises RicError)."""
    if values.get("descriptions") and values.get("region_text") == "instruction":
        raise RicError(
            "--descriptions has no use where instructions are the region texts.",
            "Omit --descriptions or --region-text instruction.",
        )


def _refuse_idle_training_settings(
    kind: type[CommandConfig], values: Mapping[str, Any], flags: Mapping[str, Any]
) -> None:
    """Stop where one of a training's settings would do nothing beside another (RicError)."""
    is_fit = kind in (FitClipConfig, FitBlipConfig)
    if is_fit and flags.get("base") is not None and values.get("blur_to_t") is None:
        raise RicError(
            "A fit uses --base only with --blur-to-t.", "Omit --base, or add --blur-to-t 600."
        )
    if values.get("balance") is not None and values.get("clip_alignments") is not None:
        raise RicError(
            "--balance scales the alignments, and --clip-alignments only scales them down.",
            "Omit one of them.",
        )
    if values.get("source_negatives") and values.get("pasted_negatives"):
        raise RicError(
            "A text has one further negative: its source, or the region pasted into it.",
            "Omit --source-negatives or --pasted-negatives.",
        )
    if values.get("align_to") == "target" and values.get("hinge"):
        raise RicError(
            "With --align-to target both losses end at the target already.", "Omit --hinge."
        )


def _refuse_idle_judges(values: Mapping[str, Any], flags: Mapping[str, Any]) -> None:
    """Stop where `ric edit` has judges and nothing to choose, or the reverse (RicError)."""
    judges = ("region_clip", "scene_blip")
    named = next((name for name in judges if flags.get(name) is not None), None)
    if values.get("candidates", 1) == 1:
        if idle := named or ("choose_by" if "choose_by" in flags else None):
            raise RicError(
                f"{flag_of(idle)} chooses among candidates, and there is one of each.",
                f"Add --candidates 4, or omit {flag_of(idle)}.",
            )
        return
    if values.get("choose_by") == "medoid":
        if named:
            raise RicError(
                f"--choose-by medoid needs no judge, and {flag_of(named)} is one.",
                "Omit one of them.",
            )
        if values["candidates"] < 3:
            raise RicError(
                "Of two candidates each is as like the other.", "--choose-by medoid: --candidates 3"
            )
    elif all(values.get(name) is None for name in judges):
        raise RicError(
            "--candidates needs a judge that chooses.",
            "Name a fit-clip run, a fit-blip run, or both: --region-clip RUN --scene-blip RUN;"
            " or --choose-by medoid, the edit that is most like the others.",
        )
    for name in ("seeds", "save_intermediates"):
        if values.get(name):
            raise RicError(
                f"{flag_of(name)} does not go with --candidates, of which one is kept.",
                "Omit one of them.",
            )


def _refuse_unused_edit_settings(values: dict[str, Any], flags: Mapping[str, Any]) -> None:
    """Stop where `ric edit` would not use a setting of masks or formats (raises RicError)."""
    examples = {
        "mask": "FILE",
        "mask_text": '"the dress"',
        "mask_text_sam": "facebook/sam-vit-base",
    }
    for key, example in examples.items():
        text, flag = values.get(key), flag_of(key)
        if isinstance(text, str) and not text.strip():
            # as of a shell's unset variable; the whole picture would be edited
            raise RicError(f"{flag} is empty.", f"Omit it, or write {flag} {example}.")
    for key, flag in (("crop_to_mask", "--crop-to-mask"), ("feather", "--feather")):
        if values.get("mask") == "none" and values.get(key):
            raise RicError(f"{flag} needs a mask, and --mask is none.", f"Omit {flag} or --mask.")
    if values.get("mask_text") and values.get("mask") is not None:
        raise RicError("--mask-text finds the masks, and --mask names others.", "Omit one of them.")
    for key in ("mask_text_model", "mask_text_sam"):
        usual_model = getattr(EditConfig, key)
        if values.get(key, usual_model) != usual_model and not values.get("mask_text"):
            raise RicError(
                f"{flag_of(key)} is that of --mask-text.", 'Add --mask-text "the dress".'
            )
    usual = EditConfig.margin
    if values.get("margin", usual) != usual and not values.get("crop_to_mask"):
        raise RicError("--margin needs --crop-to-mask.", "Add --crop-to-mask.")
    _refuse_idle_judges(values, flags)
    editor = EDITORS.get(values.get("editor", EditConfig.editor))
    instructed = editor is not None and "instruction" in editor.reads
    several = values.get("more_instructions") or values.get("instructions")
    if several and editor and not instructed:
        raise RicError(
            f"--editor {values['editor']} reads no instruction.",
            "Omit --instruction and --instructions, or choose another editor.",
        )
    # by texts of --captions
    judged = values.get("candidates", 1) > 1 and values.get("choose_by") != "medoid"
    if instructed and not judged and values.get("instruction") and values.get("captions"):
        raise RicError(
            "A typed instruction is for all pictures, and --captions names each one's.",
            "Omit one of them.",
        )
    if values.get("format") == "png" and values.get("quality") is not None:
        raise RicError(
            "--quality applies only to JPEG and WebP.", "Omit --quality, or --format png."
        )


def _fixed_by_eval(preset: str, flags: dict[str, Any]) -> dict[str, str]:
    """Return the settings that change no score of `ric eval`, at their defaults.

    They replace those of a config file, so that what is recorded is what was computed.

    Raises:
        RicError: one of them was typed with another value.
    """
    if flags.get("dtype", EvalConfig.dtype) != EvalConfig.dtype:
        raise RicError(
            f"ric eval computes every score in float32, not in {flags['dtype']}.",
            "Omit --dtype.",
        )
    fixed: dict[str, str] = {"dtype": EvalConfig.dtype}
    if preset != "tiny":
        return fixed
    for key in ("fid", "lpips_net"):
        fixed[key] = usual = getattr(EvalConfig, key)
        if flags.get(key, usual) != usual:
            flag = flag_of(key)
            raise RicError(
                f"--preset tiny does not use {flag}: the embedded classifier stands in for it.",
                f"Omit {flag} or --preset.",
            )
    return fixed


def _two_folder_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Make `ric eval A/ B/` compare the pictures of A with those of B, without any source.

    Raises:
        RicError: the second of two bare names is neither a folder nor a run.
    """
    edits = values.get("edits", ())
    if len(edits) != 2 or any(values.get(key) for key in ("data", "source", "target")):
        return {}
    compared, reference = edits
    is_run = (Path(reference) / "run.json").is_file()
    if not Path(reference).is_dir() or is_run:
        is_numbered = reference.isdecimal() or reference[:5].isdecimal()  # 7 or 00007-edit
        is_named = "=" in reference or reference.startswith("@") or is_numbered
        if not (is_run or is_named):
            raise RicError(
                f"'{reference}' is not a folder to compare '{compared}' with.",
                "Two folders are compared as they are; what edits are scored on is named by"
                " --data DATA or --source DIR.",
            )
        return {}
    return {"edits": (compared,), "source": reference, "target": reference}


def _source_settings(values: dict[str, Any], flags: dict[str, Any]) -> dict[str, str | None]:
    """Return the settings that follow from `--source`: its pictures are the data, without splits.

    Flags win over a config file's `data` and `source`.

    Raises:
        RicError: `--data` and `--source` differ, `--split` or `--columns` is given with a source,
            or `--target` or `--mask` without one.
    """
    data, typed = flags.get("data"), flags.get("source")
    if data and typed and data != typed:
        raise RicError("--data and --source are both given.", "Score on one of them.")
    source = typed if data else values.get("source")
    if source:
        if flags.get("split", "all") != "all" or flags.get("columns"):
            flag = "--columns" if flags.get("columns") else "--split"
            raise RicError(
                f"{flag} does not go with --source: loose pictures have no splits and no columns.",
                f"Omit {flag}, or describe the pictures in a folder with metadata.jsonl.",
            )
        return {"data": source, "split": "all"}
    also = [name for name in ("target", "mask") if flags.get(name)]
    if also:
        raise RicError(
            f"--{also[0]} goes with --source, the folder of the photos before the edit.",
            "Or describe the pictures in a folder with metadata.jsonl: --data DATA",
        )
    return dict.fromkeys(("source", "target", "mask"))

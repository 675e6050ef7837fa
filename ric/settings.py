"""Resolving a command's config from a preset, a config file and flags, with checks.

Like `ric.config`, this file imports nothing heavy.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from ric.config import (
    PROTOCOLS,
    TINY,
    CommandConfig,
    DescribeConfig,
    EditConfig,
    EvalConfig,
    EvalProtocol,
    FitBlipConfig,
    FitClipConfig,
    Preset,
    as_dict,
    command_of,
)
from ric.errors import RicError, first_line
from ric.registry import EDITORS, defaults_of, is_shipped, readers_of, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ConfigT = TypeVar("ConfigT", bound=CommandConfig)

# commands whose settings depend on the editor or describer that does the work
PARTS: dict[type[CommandConfig], str] = {EditConfig: "editor", DescribeConfig: "describer"}
# settings that a protocol rules out: it has no such score, or fixes how it is computed
NOT_IN_PROTOCOL: dict[EvalProtocol, tuple[str, ...]] = {
    "magicbrush": ("fid", "fid_set", "lpips_net"),
    "pie-bench": ("fid", "fid_set", "lpips_net"),
    "paper": ("fid_set",),
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
                f"The config file sets {_shown(key)}, which {kind.__name__} does not have.",
                f"It has: {', '.join(sorted(fields))}.",
            )
    preset = flags.get("preset", from_file.get("preset", kind.preset))
    _typed(kind, "preset", preset)
    typed = {**from_file, **flags}
    values = {**(TINY[kind] if preset == "tiny" else {}), **typed}
    if part := PARTS.get(kind):
        _refuse_unread_settings(part, str(values.get(part, getattr(kind, part))), flags)
        values = {**values, **_part_defaults(kind, values, preset), **typed}
    if kind is EditConfig:
        _refuse_unused_edit_settings(values)
        if flags.get("ignore_signature"):
            raise RicError(
                "ric edit does not use --ignore-signature.",
                "Omit --ignore-signature; ric eval uses it.",
            )
        values["ignore_signature"] = False
    if kind is FitClipConfig:
        _refuse_unused_descriptions(values)
    if kind is DescribeConfig:
        _refuse_incomplete_describe(str(values.get("describer", DescribeConfig.describer)), values)
    if kind is EvalConfig:
        values |= _fixed_by_eval(preset, flags)
        values |= _two_folder_settings(values)
        values |= _source_settings(values, flags)
    if values.get("protocol", "none") != "none":
        _typed(kind, "protocol", values["protocol"])
        values |= _fixed_by_protocol(values, flags)
    return kind(**{key: _typed(kind, key, value) for key, value in values.items()})


def _part_defaults(
    kind: type[CommandConfig], values: Mapping[str, Any], preset: Preset
) -> Mapping[str, Any]:
    """Return the defaults of the editor or describer that is chosen; empty for other commands."""
    part = PARTS.get(kind)
    return defaults_of(part, str(values.get(part, getattr(kind, part))), preset) if part else {}


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
    return {**as_dict(kind()), **of_tiny, **_part_defaults(kind, config, preset)}


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
            flag = "--" + key.replace("_", "-")
            raise RicError(
                f"--{kind} {name} does not use {flag}.",
                f"Omit {flag}, or choose --{kind} {' or '.join(readers)}.",
            )


def _refuse_incomplete_describe(describer: str, values: dict[str, Any]) -> None:
    """Stop where `ric describe` lacks its server, or a setting does not fit another (RicError)."""
    url = str(values.get("base_url") or "")
    if describer == "openai" and not re.match(r"https?://[^/\s]", url):
        raise RicError(
            f"--describer openai needs the address of a server, not {_shown(url)}."
            if url
            else "--describer openai needs the address of a server.",
            "Add --base-url http://HOST:PORT/v1, and --model as the server calls it.",
        )
    if values.get("prompt_file") and values.get("what") == "all":
        raise RicError(
            "--prompt-file is the prompt of one kind of text, and --what is all.",
            "Name one: --what scene",
        )
    if shard := values.get("shard"):
        shard_of(str(shard))


def shard_of(text: str | None) -> tuple[int, int]:
    """Read `2/5`, the second of five shards, as (2, 5); None, all in one, as (1, 1).

    Raises:
        RicError: it is not of that form, or there is no such shard.
    """
    if text is None:
        return 1, 1
    part, slash, count = text.partition("/")
    if not (slash and part.isdecimal() and count.isdecimal() and 1 <= int(part) <= int(count)):
        raise RicError(f"--shard is {_shown(text)}.", "Write the shard and their number: 2/5")
    return int(part), int(count)


def _refuse_unused_descriptions(values: dict[str, Any]) -> None:
    """Stop where `ric fit-clip` would read texts and use none of them (raises RicError)."""
    if values.get("descriptions") and values.get("region_text") == "instruction":
        raise RicError(
            "--descriptions has no use where instructions are the region texts.",
            "Omit --descriptions or --region-text instruction.",
        )


def _refuse_unused_edit_settings(values: dict[str, Any]) -> None:
    """Stop where `ric edit` would not use a setting of masks or formats (raises RicError)."""
    for key, example in (("mask", "FILE"), ("mask_text", '"the dress"')):
        typed, flag = values.get(key), "--" + key.replace("_", "-")
        if isinstance(typed, str) and not typed.strip():
            # as of a shell's unset variable; the whole picture would be edited
            raise RicError(f"{flag} is empty.", f"Omit it, or write {flag} {example}.")
    for key, flag in (("crop_to_mask", "--crop-to-mask"), ("feather", "--feather")):
        if values.get("mask") == "none" and values.get(key):
            raise RicError(f"{flag} needs a mask, and --mask is none.", f"Omit {flag} or --mask.")
    if values.get("mask_text") and values.get("mask") is not None:
        raise RicError("--mask-text finds the masks, and --mask names others.", "Omit one of them.")
    usual_model = EditConfig.mask_text_model
    if values.get("mask_text_model", usual_model) != usual_model and not values.get("mask_text"):
        raise RicError("--mask-text-model is that of --mask-text.", 'Add --mask-text "the dress".')
    usual = EditConfig.margin
    if values.get("margin", usual) != usual and not values.get("crop_to_mask"):
        raise RicError("--margin needs --crop-to-mask.", "Add --crop-to-mask.")
    editor = EDITORS.get(values.get("editor", EditConfig.editor))
    instructed = editor is not None and "instruction" in editor.reads
    several = values.get("more_instructions") or values.get("instructions")
    if several and editor and not instructed:
        raise RicError(
            f"--editor {values['editor']} reads no instruction.",
            "Omit --instruction and --instructions, or choose another editor.",
        )
    if instructed and values.get("instruction") and values.get("captions"):
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
            flag = "--" + key.replace("_", "-")
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
        is_named = "=" in reference or reference.startswith("@") or reference.isdecimal()
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
            or `--target`, `--mask` or `--texts` without one.
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
    also = [name for name in ("target", "mask", "texts") if flags.get(name)]
    if also:
        raise RicError(
            f"--{also[0]} goes with --source, the folder of the photos before the edit.",
            "Or describe the pictures in a folder with metadata.jsonl: --data DATA",
        )
    return dict.fromkeys(("source", "target", "mask", "texts"))


def _fixed_by_protocol(values: dict[str, Any], flags: dict[str, Any]) -> dict[str, str]:
    """Return the settings that the protocol fixes; they override a config file.

    Raises:
        RicError: a flag contradicts them.
    """
    own_networks = ("clip", "dino") if values.get("preset") == "tiny" else ()
    fixed = {
        key: value
        for key, value in PROTOCOLS[values["protocol"]].items()
        if key not in own_networks
    }
    for key in NOT_IN_PROTOCOL.get(values["protocol"], ()):
        if key in flags:
            flag = "--" + key.replace("_", "-")
            raise RicError(f"--protocol {values['protocol']} does not use {flag}.", f"Omit {flag}.")
    for key, value in fixed.items():
        if flags.get(key, value) != value:
            flag = "--" + key.replace("_", "-")
            raise RicError(
                f"--protocol {values['protocol']} fixes {flag} as {value!r}, not {flags[key]!r}.",
                f"Omit {flag} or --protocol.",
            )
    return fixed


def _typed(kind: type[CommandConfig], key: str, value: Any) -> Any:
    """Check `value` against the field's annotation; convert numbers in texts, and lists to tuples.

    Raises:
        RicError: it is of another type, not one of the field's choices, or out of range.
    """
    hint = get_type_hints(kind)[key]
    if get_origin(hint) in (UnionType, Union):  # Union: a Literal or None
        hint = get_args(hint)[0]
        # an empty text, as in `ric edit DATA ""`, counts as not given; a caption may be empty
        is_empty = isinstance(value, str) and not value.strip() and not key.endswith("_caption")
        if value is None or (hint is str and is_empty):
            return None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise RicError(f"{key} is {_shown(value)}.", f"Choose one of: {choices}.")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise RicError(f"{key} is {_shown(value)}, which is not a list of texts.")
        return tuple(value)
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML reads 1e-4 as a text
        with suppress(ValueError, OverflowError):
            value = float(value)
    if isinstance(value, str) and "\0" in value:
        raise RicError(f"{key} is {_shown(value)}, which holds a NUL character.")
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise RicError(f"{key} is {_shown(value)}, which is not {IN_WORDS[hint]}.")
    bounds = OF_ONE_KIND.get(kind, {}).get(key) or BOUNDS.get(key, Bounds())
    if hint in (int, float) and not bounds.hold(value):
        raise RicError(f"{key} is {_shown(value)}; it is {bounds.in_words(value)}.")
    return value


def _shown(value: Any) -> str:
    """Format a value for a message, cut to 100 characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}…"


class Bounds(NamedTuple):
    """The range of a setting's values, all finite."""

    least: float = -math.inf
    most: float = math.inf
    but_least: bool = False  # the least itself is excluded
    but_most: bool = False  # the most itself is excluded

    def hold(self, value: float) -> bool:
        """Tell whether `value` is within the range."""
        above = value > self.least if self.but_least else value >= self.least
        below = value < self.most if self.but_most else value <= self.most
        return _is_finite(value) and above and below

    def in_words(self, value: float) -> str:
        """Describe what `value` should be: `at least 0 and less than 1`, `finite`."""
        words = [] if _is_finite(value) else ["finite"]
        if self.least > -math.inf:
            words.append(f"{'more than' if self.but_least else 'at least'} {self.least:.4g}")
        if self.most < math.inf:
            words.append(f"{'less than' if self.but_most else 'at most'} {self.most:.4g}")
        return " and ".join(words)


def _is_finite(value: float) -> bool:
    # a whole number may be larger than any float
    return isinstance(value, int) or math.isfinite(value)


IN_WORDS = {int: "a whole number", float: "a number", bool: "yes or no (true, false)", str: "text"}
POSITIVE, NOT_NEGATIVE = Bounds(0, but_least=True), Bounds(0)
# The ranges for flags and config files; a number that is not listed need only be finite.
BOUNDS: dict[str, Bounds] = {
    "accumulate": Bounds(1), "averages": Bounds(1), "balance": NOT_NEGATIVE, "block": NOT_NEGATIVE,
    "constant_share": Bounds(0, 1), "context_weight": NOT_NEGATIVE, "noise_power": POSITIVE,
    "passes": Bounds(1),
    "adam_beta1": Bounds(0, 1, but_most=True),
    "adam_beta2": Bounds(0, 1, but_most=True), "align_below": NOT_NEGATIVE,
    "align_restore": Bounds(0, 1, but_most=True), "attempts": Bounds(1), "batch_size": Bounds(1),
    "checkpoint_every": Bounds(1), "colour_noise": Bounds(0, 1),
    "concurrency": Bounds(1), "sent_pixels": Bounds(1024), "timeout": POSITIVE,
    "conditioning_dropout": Bounds(0, 1 / 3),
    "edit_weight": NOT_NEGATIVE, "ema_decay": Bounds(0, 1), "epochs": Bounds(1),
    "feather": NOT_NEGATIVE, "flatten": NOT_NEGATIVE, "fusion_epochs": NOT_NEGATIVE,
    "fusion_lr": POSITIVE, "global_weight": NOT_NEGATIVE, "image_size": Bounds(8),
    "joint_epochs": NOT_NEGATIVE, "joint_lr": POSITIVE, "keep_checkpoints": Bounds(1),
    "limit": Bounds(1), "log_every": Bounds(1), "lora_rank": Bounds(1), "lr": POSITIVE,
    "margin": NOT_NEGATIVE, "max_grad_norm": POSITIVE,
    "max_new_tokens": Bounds(1), "max_pixels": Bounds(1), "max_text_tokens": Bounds(3),
    "memory": POSITIVE,
    "noise_weight": NOT_NEGATIVE, "num_heads": Bounds(1), "quality": Bounds(1, 100),
    "region_weight": NOT_NEGATIVE,
    "seed": NOT_NEGATIVE, "skip": NOT_NEGATIVE, "show_every": NOT_NEGATIVE, "steps": Bounds(1),
    "temperature": POSITIVE, "weight_decay": NOT_NEGATIVE,
}  # fmt: skip
# a contrastive batch needs at least two samples
OF_ONE_KIND: dict[type[CommandConfig], dict[str, Bounds]] = {
    FitClipConfig: {"batch_size": Bounds(2)},
    FitBlipConfig: {"batch_size": Bounds(2)},
}


LARGEST_CONFIG = 1 << 20  # bytes
MOST_VALUES = 10_000  # in one config file, counting every repetition by an alias (*name)


def load_config_file(path: Path) -> dict[str, Any]:
    """Read `--config`: a YAML file of fields, or a run.json, whose `config` is used.

    Raises:
        RicError: the file is missing, cannot be parsed, is too large, names a field twice, or does
            not hold a mapping.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(LARGEST_CONFIG + 1)
    except OSError as error:
        raise RicError(f"Cannot read the config file {path}: {error.strerror}.") from None
    if len(data) > LARGEST_CONFIG:
        raise RicError(f"The config file {path} has more than {LARGEST_CONFIG >> 20} MiB.")
    try:
        loaded = _load_yaml(data.decode("utf-8"))
    except UnicodeDecodeError:
        raise RicError(f"The config file {path} is neither YAML nor JSON, but binary.") from None
    except RecursionError:
        raise RicError(f"The config file {path} is nested too deeply.") from None
    except Exception as error:
        # besides its own errors yaml raises whatever Python does on malformed dates and numbers
        reason = first_line(error)
        raise RicError(f"The config file {path} is neither YAML nor JSON: {reason}.") from None
    if isinstance(loaded, dict) and "schema" in loaded and isinstance(loaded.get("config"), dict):
        loaded = loaded["config"]
    if not isinstance(loaded, dict):
        raise RicError(f"The config file {path} is not a mapping of fields to values.")
    return loaded


def _load_yaml(text: str) -> Any:
    """Parse YAML of a bounded size (raises ValueError, RecursionError, or yaml's errors)."""
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        tree = loader.get_single_node()
        if tree is None:
            return None
        for number, node in enumerate(_nodes(tree)):
            if number > MOST_VALUES:
                raise ValueError(f"it has more than {MOST_VALUES} values")
            if isinstance(node, yaml.MappingNode):
                keys = Counter(
                    key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)
                )
                if twice := [key for key, count in keys.items() if count > 1]:
                    raise ValueError(f"it sets {twice[0]!r} twice")
        return loader.construct_document(tree)
    finally:
        loader.dispose()


def _nodes(node: Any) -> Iterator[Any]:
    """Yield a YAML node and all below it, including every repetition by an alias."""
    yield node
    if isinstance(node.value, list):
        for child in node.value:
            for part in child if isinstance(child, tuple) else (child,):
                yield from _nodes(part)

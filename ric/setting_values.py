"""The values of settings: their types, their ranges, and how messages show them.

Like `ric.config`, this file imports nothing heavy.
"""

from __future__ import annotations

import math
from contextlib import suppress
from functools import cache
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    NamedTuple,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from ric.config import CommandConfig, FitBlipConfig, FitClipConfig, flag_of
from ric.errors import RicError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence


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
POSITIVE = Bounds(0, but_least=True)
NOT_NEGATIVE = Bounds(0)
# The ranges for flags and config files; a number that is not listed need only be finite.
BOUNDS: dict[str, Bounds] = {
    "accumulate": Bounds(1), "averages": Bounds(1), "balance": NOT_NEGATIVE, "block": NOT_NEGATIVE,
    "blur_to_t": Bounds(1), "candidates": Bounds(1), "clip_alignments": NOT_NEGATIVE,
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
    "joint_epochs": NOT_NEGATIVE, "joint_lr": POSITIVE, "judge_batch_size": Bounds(1),
    "keep_checkpoints": Bounds(1),
    "limit": Bounds(1), "log_every": Bounds(1), "lora_rank": Bounds(1), "lr": POSITIVE,
    "margin": NOT_NEGATIVE, "max_grad_norm": POSITIVE,
    "max_new_tokens": Bounds(1), "max_pixels": Bounds(1), "max_text_tokens": Bounds(3),
    "memory": POSITIVE,
    "noise_weight": NOT_NEGATIVE, "num_heads": Bounds(1), "quality": Bounds(1, 100),
    "region_weight": NOT_NEGATIVE,
    "seed": NOT_NEGATIVE, "skip": NOT_NEGATIVE, "show_every": NOT_NEGATIVE, "steps": Bounds(1),
    "temperature": POSITIVE, "weight_decay": NOT_NEGATIVE,
}  # fmt: skip
# Settings of words, never of a file: only a file's name need not be UTF-8.
WORDS = frozenset({
    "base_url", "columns", "device", "instruction", "mask_text", "more_instructions",
    "push_to_hub", "redo", "scheduler", "seeds", "shard", "source_caption", "target_caption",
    "track",
})  # fmt: skip
# a contrastive batch needs at least two samples
OF_ONE_KIND: dict[type[CommandConfig], dict[str, Bounds]] = {
    FitClipConfig: {"batch_size": Bounds(2)},
    FitBlipConfig: {"batch_size": Bounds(2)},
}


@cache
def _hints(kind: type[CommandConfig]) -> dict[str, Any]:
    """Return the types of a command's settings: reading them anew for each takes long."""
    return get_type_hints(kind)


def check_value(kind: type[CommandConfig], key: str, value: Any) -> Any:
    """Check `value` against the field's annotation; convert numbers in texts, and lists to tuples.

    Raises:
        RicError: it is of another type, not one of the field's choices, or out of range.
    """
    hint = _hints(cast("Any", kind))[key]  # mypy takes a class for unhashable
    if get_origin(hint) in (UnionType, Union):  # Union: a Literal or None
        hint = get_args(hint)[0]
        # an empty text, as in `ric edit DATA ""`, counts as not given; a caption may be empty
        is_empty = isinstance(value, str) and not value.strip() and not key.endswith("_caption")
        if value is None or (hint is str and is_empty):
            return None
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            choices = ", ".join(map(str, get_args(hint)))
            raise RicError(f"{key} is {shown(value)}.", f"Choose one of: {choices}.")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise RicError(f"{key} is {shown(value)}, which is not a list of texts.")
        _refuse_halves(key, value)
        return tuple(value)
    if hint is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        # YAML reads 1e-4 as a text
        with suppress(ValueError, OverflowError):
            value = float(value)
    _refuse_halves(key, [value])
    if isinstance(value, str) and "\0" in value:
        raise RicError(f"{key} is {shown(value)}, which holds a NUL character.")
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise RicError(f"{key} is {shown(value)}, which is not {IN_WORDS[hint]}.")
    bounds = OF_ONE_KIND.get(kind, {}).get(key) or BOUNDS.get(key, Bounds())
    if hint in (int, float) and not bounds.hold(value):
        raise RicError(f"{key} is {shown(value)}; it is {bounds.in_words(value)}.")
    return value


def _refuse_halves(key: str, values: Sequence[Any]) -> None:
    """Refuse words that are not UTF-8, which Python holds as surrogates (raises RicError)."""
    if key not in WORDS:
        return
    for value in values:
        if isinstance(value, str) and printable(value) != value:
            name = "--instruction" if key == "more_instructions" else flag_of(key)
            name = "The instruction" if key == "instruction" else name
            raise RicError(
                f"{name} is {shown(printable(value))}, which is not UTF-8.",
                "Type it in a terminal whose encoding is UTF-8.",
            )


def shown(value: Any) -> str:
    """Format a value for a message, cut to 100 characters."""
    try:
        text = repr(value)
    except ValueError:  # a whole number of more digits than Python writes
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}…"

"""DeepSeek-VL2's shapes, read from config.json and processor_config.json; only tiny is run.

The released files leave out whatever is the default of the released configuration classes; those
defaults stand here. Imports no torch: preflight reads this file, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ric.errors import RicError
from ric.model_files import read_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MODEL_TYPE = "deepseek_vl_v2"
TINY = "deepseek-ai/deepseek-vl2-tiny"
# the hint where another model cannot be run
OTHERS = f"Try {TINY}, deepseek-community/deepseek-vl-1.3b-chat, or --describer dataset"
OTHER_SIZES = ("deepseek-ai/deepseek-vl2-small", "deepseek-ai/deepseek-vl2")
MOST_TILES = 9
MOST_EXPERTS = 1024  # the tiny model has 64; listing more would take long
IMAGE, USER, ASSISTANT = "<image>", "<|User|>", "<|Assistant|>"
GROUNDING = ("<|ref|>", "<|/ref|>", "<|det|>", "<|/det|>", "<|grounding|>")

# What may vary, with the default where the files leave it out; None: they must say it.
VISION: dict[str, int | float | None] = {
    "image_size": 384, "patch_size": 16, "width": 1024, "layers": 24, "heads": 16, "mlp_ratio": 4,
}  # fmt: skip
PROJECTOR: dict[str, int | float | None] = {
    "input_dim": 1152, "n_embed": 2048, "downsample_ratio": 2,
}  # fmt: skip
LANGUAGE: dict[str, int | float | None] = {
    "vocab_size": 102400, "hidden_size": 4096, "intermediate_size": 11008,
    "moe_intermediate_size": 1407, "num_hidden_layers": 30, "num_attention_heads": 32,
    "n_shared_experts": None, "n_routed_experts": None, "num_experts_per_tok": None,
    "first_k_dense_replace": 0, "routed_scaling_factor": 1.0, "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
}  # fmt: skip
FRACTIONS = ("mlp_ratio", "routed_scaling_factor", "rms_norm_eps", "rope_theta")
# What must be so, since only this is computed: the default where it is left out, and the value.
FIXED: dict[str, dict[str, tuple[Any, Any]]] = {
    "": {"tile_tag": ("tile_tag", "2D"), "global_view_pos": ("head", "head")},
    "vision_config": {"class_token": (False, False), "ignore_head": (True, True)},
    "projector_config": {
        "projector_type": ("downsample_mlp_gelu", "downsample_mlp_gelu"),
        "depth": (2, 2),
        "mlp_ratio": (1, 1),
        "token_pooling": (False, False),
    },
    "language_config": {
        "scoring_func": ("softmax", "softmax"),
        "norm_topk_prob": (False, False),
        "moe_layer_freq": (1, 1),
        "hidden_act": ("silu", "silu"),
        "attention_bias": (False, False),
        "rope_scaling": (None, None),
        "tie_word_embeddings": (False, False),
    },
}
HALF = [0.5, 0.5, 0.5]
FIXED_PROCESSOR = {
    "image_mean": (HALF, HALF),
    "image_std": (HALF, HALF),
    "normalize": (True, True),
    "sft_format": ("deepseek", "deepseek"),
}


class Architecture(NamedTuple):
    """The sizes of a DeepSeek-VL2, by the released names.

    Attributes:
        vision: Of the SigLIP tower; the keys of `VISION`.
        projector: Of the projector; the keys of `PROJECTOR`.
        language: Of the language model; the keys of `LANGUAGE`.
        resolutions: What pictures are padded to, (width, height) in pixels, in order of preference.
    """

    vision: dict[str, Any]
    projector: dict[str, Any]
    language: dict[str, Any]
    resolutions: tuple[tuple[int, int], ...]

    @property
    def tile(self) -> int:
        """The side of a tile in pixels."""
        return int(self.vision["image_size"])

    @property
    def side(self) -> int:
        """The side of a tile in tokens: patches, `downsample_ratio` of them to a token."""
        patches = self.tile // self.vision["patch_size"]
        return int(-(-patches // self.projector["downsample_ratio"]))

    def tokens_of(self, grid: tuple[int, int]) -> int:
        """Count the tokens of a picture cut into a grid of tiles (across, down).

        They are the rows of the whole picture, a separator, and the rows of all tiles together;
        every row ends with a line break.
        """
        across, down = grid
        return self.side * (self.side + 1) + 1 + down * self.side * (across * self.side + 1)


def is_vl2(config: Mapping[str, Any]) -> bool:
    """Tell whether a config.json is that of a DeepSeek-VL2 of any size."""
    return config.get("model_type") == MODEL_TYPE


def refuse_other_sizes(named: str, config: Mapping[str, Any] | None = None) -> None:
    """Refuse DeepSeek-VL2-Small and DeepSeek-VL2: other attention, another router.

    Args:
        named: The model's id or folder.
        config: Its config.json, if that is here.

    Raises:
        RicError: it is one of them; the message names DeepSeek-VL2-Tiny.
    """
    why = "" if named in OTHER_SIZES else None
    if config is not None and is_vl2(config):
        language = _part(config, "language_config")
        if language.get("use_mla", True):
            why = ", with latent attention"
        elif language.get("topk_method", "gready") != "greedy":  # sic: the released default
            why = f", with the router {language.get('topk_method', 'gready')!r}"
    if why is not None:
        raise RicError(
            f"{named} is another size of DeepSeek-VL2{why}; of its sizes only DeepSeek-VL2-Tiny is"
            " run.",
            f"Try --model {TINY}",
        )


def read_architecture(folder: Path) -> Architecture:
    """Read config.json and processor_config.json.

    Raises:
        RicError: a file is missing or damaged, the model is another size or another architecture,
            or a value cannot be used.
    """
    file, other = folder / "config.json", folder / "processor_config.json"
    config, processor = read_json(file), read_json(other)
    refuse_other_sizes(str(folder), config)
    for part, rows in FIXED.items():
        _require(file, part, _part(config, part) if part else config, rows)
    _require(other, "", processor, FIXED_PROCESSOR)
    vision = _numbers(file, config, "vision_config", VISION)
    projector = _numbers(file, config, "projector_config", PROJECTOR)
    language = _numbers(file, config, "language_config", LANGUAGE)
    heads = _part(config, "language_config").get("num_key_value_heads")
    for name, value, needed in (
        ("vision_config.width", vision["width"], projector["input_dim"]),
        ("projector_config.n_embed", projector["n_embed"], language["hidden_size"]),
        ("language_config.num_key_value_heads", heads, language["num_attention_heads"]),
    ):
        if value not in (None, needed):
            raise _unusable(file, name, value, str(needed))
    said = processor.get("candidate_resolutions", config.get("candidate_resolutions"))
    resolutions = _resolutions(other, said, int(vision["image_size"]))
    return Architecture(vision, projector, language, resolutions)


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _require(
    file: Path, part: str, said: Mapping[str, Any], rows: Mapping[str, tuple[Any, Any]]
) -> None:
    for key, (default, needed) in rows.items():
        if (value := said.get(key, default)) != needed:
            raise _unusable(file, f"{part}.{key}".lstrip("."), value, repr(needed))


def _numbers(
    file: Path, config: Mapping[str, Any], part: str, known: Mapping[str, int | float | None]
) -> dict[str, Any]:
    """Read the numbers of a part of config.json, all positive but a count of dense layers."""
    said = {key: _part(config, part).get(key, default) for key, default in known.items()}
    for key, value in said.items():
        kinds = float | int if key in FRACTIONS else int
        least = 0 if key == "first_k_dense_replace" else 1e-12
        most = MOST_EXPERTS if key == "n_routed_experts" else 1e9
        if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value <= most:
            raise _unusable(file, f"{part}.{key}", value, "a positive number")
    return said


def _resolutions(file: Path, said: Any, tile: int) -> tuple[tuple[int, int], ...]:
    """Check the resolutions that pictures are padded to; of equal ones the first is chosen."""
    try:
        pairs = tuple((int(width), int(height)) for width, height in said)
    except (TypeError, ValueError):
        pairs = ()
    for width, height in pairs or [(0, 0)]:
        whole = width > 0 and height > 0 and width % tile == height % tile == 0
        if not whole or width * height > MOST_TILES * tile**2:
            needed = f"pairs of multiples of {tile}, of at most {MOST_TILES} tiles"
            raise _unusable(file, "candidate_resolutions", said, needed)
    return pairs


def _unusable(file: Path, name: str, value: object, needed: str) -> RicError:
    return RicError(
        f"{file} has {name} {str(value)[:80]!r}; it must be {needed}.",
        f"Copy or download the folder again: {TINY}",
    )

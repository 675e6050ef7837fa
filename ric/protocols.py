"""The protocols of `ric eval`: the metrics and settings that each of them fixes."""

from __future__ import annotations

from typing import Any

from ric.config import EvalProtocol, flag_of
from ric.errors import RicError

# Protocols with a few scores of their own, none over whole sets; all are computed and shown.
OF_FEW_SCORES: dict[EvalProtocol, tuple[str, ...]] = {
    "magicbrush": ("clip_i", "dino", "clip_t", "l1", "l2"),
    "pie-bench": (
        "structure_distance", "psnr_unedited", "lpips_unedited", "mse_unedited", "ssim_unedited",
        "clip_source", "clip_edited", "clip_edited_part",
    ),
}  # fmt: skip
# The settings that a protocol of `ric eval` fixes; the tiny preset keeps its own networks.
PROTOCOLS: dict[EvalProtocol, dict[str, str]] = {
    "magicbrush": {                     # its evaluation/image_eval.py
        "reference": "target",
        "fit": "squash",
        "decode": "plain",
        "text": "target_text",
        "clip": "openai/clip-vit-base-patch32",
        "dino": "facebook/dino-vits16",
    },
    "pie-bench": {                      # PnPInversion's evaluation/matrics_calculator.py
        "reference": "source",
        "decode": "plain",
        "text": "target_text",
        "clip": "openai/clip-vit-large-patch14",
        "dino": "facebook/dino-vitb8",
    },
    "paper": {                          # Sec. 4, and docs/scoring.md where it is silent
        "reference": "source",
        "text": "region_text",
        "fid": "clean",
        "lpips_net": "alex",
        "clip": "openai/clip-vit-base-patch32",
        "dino": "facebook/dino-vits16",
    },
}  # fmt: skip
# settings that a protocol rules out: it has no such score, or fixes how it is computed
NOT_IN_PROTOCOL: dict[EvalProtocol, tuple[str, ...]] = {
    "magicbrush": ("fid", "fid_set", "lpips_net"),
    "pie-bench": ("fid", "fid_set", "lpips_net"),
    "paper": ("fid_set",),
}


def fixed_by_protocol(values: dict[str, Any], flags: dict[str, Any]) -> dict[str, str]:
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
            flag = flag_of(key)
            raise RicError(f"--protocol {values['protocol']} does not use {flag}.", f"Omit {flag}.")
    for key, value in fixed.items():
        if flags.get(key, value) != value:
            flag = flag_of(key)
            raise RicError(
                f"--protocol {values['protocol']} fixes {flag} as {value!r}, not {flags[key]!r}.",
                f"Omit {flag} or --protocol.",
            )
    return fixed

"""Recognising by their configs, before torch is imported, pipelines and finders of masks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ric.config import EditConfig, TrainUnetConfig
from ric.errors import RicError
from ric.models.locate import find
from ric.models.mask_finders import finder_kind
from ric.models.schedulers import scheduler_class
from ric.models.table import kind_of, models_of

if TYPE_CHECKING:
    from pathlib import Path

    from ric.config import CommandConfig


def refuse_other_pipelines(config: CommandConfig, runs_dir: Path) -> None:
    """Refuse a pipeline that could not be trained, or could not edit.

    One that is not on this machine yet is not checked.

    Raises:
        RicError: it is of another kind, such as SDXL's, or its UNet reads no source picture.
    """
    if not isinstance(config, (EditConfig, TrainUnetConfig)):
        return
    for model in models_of(config):
        # an editor from outside ric may read other pipelines: its kind is ""
        of_kind = model.row.artifact == kind_of(config, model.row) == "pipeline"
        if of_kind and (place := find(config, model, runs_dir)):
            widens = isinstance(config, TrainUnetConfig) and config.lora_rank is None
            _refuse_other(model.name, place, widens=widens)


def refuse_unfit_scheduler(config: EditConfig, runs_dir: Path) -> None:
    """Refuse a `--scheduler` that is unknown, or does not sample what the UNet predicts.

    Raises:
        RicError: see above; without a pipeline on this machine only the name is checked.
    """
    if config.scheduler is None:
        return
    pipeline = next((model for model in models_of(config) if model.row.setting == "unet"), None)
    place = find(config, pipeline, runs_dir) if pipeline else None
    noise = _read(place / "scheduler" / "scheduler_config.json") if place else {}
    scheduler_class(config.scheduler, noise.get("prediction_type"))


def refuse_other_finders(config: EditConfig, runs_dir: Path) -> None:
    """Refuse a `--mask-text-model` that finds nothing by a text, lacks a SAM, or needs none.

    Raises:
        RicError: see above; a model that is not on this machine yet is not checked.
    """
    finder = next((one for one in models_of(config) if one.row.setting == "mask_text_model"), None)
    if finder and finder.name != "tiny" and (place := find(config, finder, runs_dir)):
        finder_kind(place, with_sam=config.mask_text_sam is not None)


def _refuse_other(name: str, place: Path, *, widens: bool) -> None:
    """Check a pipeline's configs; with `widens` a UNet without source channels will do (choice 10).

    Raises:
        RicError: see `refuse_other_pipelines`.
    """
    index = _read(place / "model_index.json")
    unet, text = (_read(place / part / "config.json") for part in ("unet", "text_encoder"))
    kind = index.get("_class_name") or "folder without a pipeline class"
    reads, makes = unet.get("in_channels"), int(unet.get("out_channels") or 0)
    wrong = None
    if not index:
        wrong = "it has no model_index.json"
    elif unet.get("_class_name") != "UNet2DConditionModel":
        wrong = f"it is a {kind}, without a UNet2DConditionModel"
    elif unet.get("addition_embed_type") or unet.get("encoder_hid_dim_type"):
        wrong = f"it is a {kind}, whose UNet reads more than the tokens of one text"
    elif text.get("hidden_size") != unet.get("cross_attention_dim"):
        wrong = f"it is a {kind}, whose UNet does not read the tokens of one CLIP text encoder"
    elif reads not in ((makes, 2 * makes) if widens else (2 * makes,)):
        wanted = f"{makes} or {2 * makes}" if widens else f"{2 * makes} (latents and source)"
        wrong = f"its UNet reads {reads} channels, not {wanted}"
    if wrong:
        others = ", or one of Stable Diffusion 1 or 2" if widens else ""
        raise RicError(
            f"{name} is not an InstructPix2Pix-type pipeline: {wrong}.",
            f"Name one such as timbrooks/instruct-pix2pix, or a train-unet run{others}.",
        )


def _read(file: Path) -> dict[str, Any]:
    """Read a config; a missing or broken one counts as empty."""
    try:
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}

"""The networks of `ric train-unet`: the base that is trained, and the frozen judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diffusers import DDPMScheduler

from ric.errors import RicError
from ric.method.alignment import AlignmentRules
from ric.method.objective import RegionInContextObjective, WeightedTerm
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.locate import locate
from ric.models.pipeline import (
    load_pipeline,
    load_small_decoder,
    read_source_channels,
    refuse_size,
    size_multiple,
)
from ric.models.table import uses
from ric.registry import load_part
from ric.training.judges import judge_of
from ric.training.loss_terms import log_name, weights_of

if TYPE_CHECKING:
    from diffusers import (
        AutoencoderKL,
        AutoencoderTiny,
        StableDiffusionInstructPix2PixPipeline,
        UNet2DConditionModel,
    )

    from ric.config import TrainUnetConfig
    from ric.runs.run import RunDir
    from ric.work import Work


def load_base(config: TrainUnetConfig, work: Work) -> StableDiffusionInstructPix2PixPipeline:
    """Load the pipeline whose UNet is trained, with input channels for a source picture.

    Raises:
        RicError: it is not found, or cannot be trained with these settings.
    """
    pipeline = load_pipeline(locate(config, "base", work.run), work.device)
    if config.lora_rank:
        _refuse_unread_source(pipeline.unet)
    read_source_channels(pipeline.unet)
    refuse_size(config.image_size, size_multiple(pipeline))
    if config.attention == "xformers":
        _use_xformers(pipeline.unet)
    return pipeline


def load_objective(
    config: TrainUnetConfig, work: Work, pipeline: StableDiffusionInstructPix2PixPipeline
) -> RegionInContextObjective:
    """Load the judges, the decoder and further terms, and weight them as in Eq. 10.

    Raises:
        RicError: a judge, the small decoder or a further term cannot be loaded.
    """
    region_judge, scene_judge = load_judges(config, work)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    decoder = _loss_decoder(config, work.run, pipeline)
    return RegionInContextObjective(
        decoder,
        region_judge,
        scene_judge,
        prediction_type=schedule.config.prediction_type,
        alphas_cumprod=schedule.alphas_cumprod,
        region_weight=config.region_weight,
        global_weight=config.global_weight,
        noise_weight=config.noise_weight,
        noise_reduction=config.noise_reduction,
        rules=AlignmentRules(
            below=config.align_below,
            weight=config.align_weight,
            restore=config.align_restore,
            flatten=config.flatten,
            augment=config.augment_judged,
            agree=config.align_agree,
            region_gradient=config.region_gradient,
        ),
        further={
            log_name(place): WeightedTerm(
                weight, load_part("loss", place)(pipeline, decoder, config)
            )
            for place, weight in weights_of(config.losses).items()
        },
    )


def load_judges(
    config: TrainUnetConfig, work: Work
) -> tuple[RegionEncoder | None, SceneEncoder | None]:
    """Load the judges whose losses are on.

    Raises:
        RicError: a loss is on and its judge is not named, is not a judge, outputs NaN, or was
            fitted with the fusion where it is off here, or without it where it is on.
    """
    region = scene = None
    if judge_of(config, "region_clip"):
        path = locate(config, "region_clip", work.run)
        region = RegionEncoder.from_pretrained(path).to(work.device)
        _refuse_other_fusion(region, config)
    if judge_of(config, "scene_blip"):
        path = locate(config, "scene_blip", work.run)
        scene = SceneEncoder.from_pretrained(path).to(work.device)
    _refuse_nan(region, scene)
    return region, scene


def _refuse_other_fusion(region: RegionEncoder, config: TrainUnetConfig) -> None:
    """Refuse a judge that was fitted with fusion where it is off here, or the other way round.

    Without the fusion that it was fitted with, a judge's recall falls to a third.
    """
    if region.gated == config.gated_fusion:
        return
    if region.gated:
        raise RicError(
            f"--no-gated-fusion, but {config.region_clip} was fitted with gated fusion.",
            f"Fit one without: ric fit-clip {config.data} --no-gated-fusion",
        )
    raise RicError(
        f"{config.region_clip} was fitted without gated fusion.",
        "Train without it too, as Table 3 does: --no-gated-fusion; or name another --region-clip.",
    )


@torch.no_grad()
def _refuse_nan(region: RegionEncoder | None, scene: SceneEncoder | None) -> None:
    """Refuse a judge whose embedding of a grey picture or of a word is not finite.

    Every step that it takes part in would be skipped, and only the others would train.

    Raises:
        RicError: one is not.
    """
    for name, judge in (("region", region), ("scene", scene)):
        if judge is None:
            continue
        side = judge.pixels.size
        grey = torch.zeros(1, 3, side, side, device=judge.logit_scale.device)
        seen = (
            judge.encode_region(grey, [(0, 0, side, side)])
            if isinstance(judge, RegionEncoder)
            else judge.encode_image(grey)
        )
        if not all(answer.isfinite().all() for answer in (seen, judge.encode_text(["a"]))):
            raise RicError(
                f"The {name} judge in {judge.tower.name_or_path} outputs NaN or infinity.",
                "Its fit has failed: fit it again, with a lower learning rate.",
            )
        judge.truncated_texts = 0


def _loss_decoder(
    config: TrainUnetConfig, run: RunDir, pipeline: StableDiffusionInstructPix2PixPipeline
) -> AutoencoderKL | AutoencoderTiny:
    """Load the decoder of the losses: the pipeline's own VAE, or a small one of its latents."""
    if not uses(config, "loss_decoder"):
        return pipeline.vae
    path = locate(config, "loss_decoder", run)
    return load_small_decoder(path, pipeline)


def _refuse_unread_source(unet: UNet2DConditionModel) -> None:
    if unet.conv_in.in_channels == unet.config.out_channels:
        raise RicError(
            "--lora-rank needs a base that reads a source picture; this one makes pictures from"
            " text alone.",
            "Start from an InstructPix2Pix-type pipeline, or train all weights: no --lora-rank.",
        )


def _use_xformers(unet: UNet2DConditionModel) -> None:
    try:
        unet.enable_xformers_memory_efficient_attention()
    except (ImportError, ValueError, RuntimeError, NotImplementedError) as error:
        raise RicError(
            f"--attention xformers does not work here: {str(error).splitlines()[0]}",
            "Install it with: pip install 'ric[xformers]', or use --attention sdpa",
        ) from None


def copy_out_of_file(unet: UNet2DConditionModel) -> None:
    """Copy the weights, one by one, out of the memory-mapped file that backs them on a CPU.

    As long as one of them is a view of it, all pages of the file that were read stay in memory.
    """
    for weight in unet.parameters():
        weight.data = weight.data.clone()

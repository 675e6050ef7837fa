"""The training set of `ric train-unet`: DATA decoded, listed, and encoded by frozen networks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ric.device import pick_dtype
from ric.errors import RicError
from ric.inputs.batches import TrainingSet
from ric.inputs.encodings import Encoder, OnDemand, encode_once
from ric.inputs.examples import Example, Needs, enough, load_examples
from ric.models.pipeline import count_cut
from ric.runs.trained_on import list_trained_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import StableDiffusionInstructPix2PixPipeline

    from ric.config import TrainUnetConfig
    from ric.method.objective import RegionInContextObjective
    from ric.runs.descriptions import Descriptions
    from ric.work import Work


def encode_training_set(
    config: TrainUnetConfig,
    work: Work,
    pipeline: StableDiffusionInstructPix2PixPipeline,
    objective: RegionInContextObjective,
    descriptions: Descriptions | None,
) -> TrainingSet:
    """Encode the samples once, or with `--no-cache` keep their pictures to encode them each step.

    Args:
        config: DATA's split, size and columns, and the rules of the losses.
        work: DATA and the run.
        pipeline: Its VAE and text encoder encode the samples.
        objective: Its judges encode the texts.
        descriptions: Texts in place of DATA's own.

    Raises:
        RicError: there is no usable sample, no sample has a judge's text, or some lack it without
            `--allow-missing-text`.
    """
    dtype = pick_dtype(config.dtype, pipeline.device)
    region_judge, scene_judge = objective.region_encoder, objective.scene_encoder
    aims_at_target = config.align_to == "target"
    decoder = objective.vae if config.hinge or aims_at_target else None
    encoder = Encoder(
        pipeline, region_judge, scene_judge, dtype, config.flip, decoder, aims_at_target
    )
    load = partial(_examples, config, work, objective, descriptions)
    examples = work.ranks.once_per_machine(load)
    _note_cut_texts(examples, encoder, work)
    return TrainingSet(
        samples=encode_once(
            encoder, examples, work.ranks, work.progress, on_host=config.memory is not None
        )
        if config.cache
        else OnDemand(encoder, examples),
        null_prompt=encoder.null_prompt(),
        scaling_factor=pipeline.vae.config.scaling_factor,
        num_timesteps=pipeline.scheduler.config.num_train_timesteps,
    )


def _examples(
    config: TrainUnetConfig,
    work: Work,
    objective: RegionInContextObjective,
    descriptions: Descriptions | None,
) -> list[Example]:
    """Load the samples and list them; note those that a judge's loss leaves out (choice 6).

    The set of samples does not depend on the judges: trainings with and without one see the same
    pictures, noise and timesteps.
    """
    run = work.run
    needs = Needs(
        config.image_size,
        config.fit,
        region_text=config.region_text,
        descriptions=descriptions,
    )
    examples = enough(load_examples(config, work, config.split, needs), run, least=1)
    list_trained_on(examples, run)
    if objective.region_encoder is not None:
        lost = [item.id for item in examples if item.region_text is None]
        _leave_out("region", lost, len(examples), config, work)
        _leave_out_without_box(examples, work)
    if objective.scene_encoder is not None:
        lost = [item.id for item in examples if item.scene_text is None]
        _leave_out("scene", lost, len(examples), config, work)
    return examples


def _note_cut_texts(examples: Sequence[Example], encoder: Encoder, work: Work) -> None:
    """Note how many texts are longer than their network reads."""
    cut = {"instruction": count_cut(encoder.pipeline, [item.instruction for item in examples])}
    judges = {"region_text": encoder.region_judge, "scene_text": encoder.scene_judge}
    for kind, judge in judges.items():
        if judge is not None:
            before = judge.truncated_texts
            if texts := [text for item in examples if (text := getattr(item, kind))]:
                judge.tokenize(texts)
            cut[kind] = judge.truncated_texts - before
    work.run.note(truncated_texts=cut)
    for kind, count in cut.items():
        if count:
            few = f"{count} of {len(examples)} samples"
            work.progress.note(f"{few} have a {kind} longer than is read: the end is cut off")


def _leave_out_without_box(examples: Sequence[Example], work: Work) -> None:
    """Note the samples without a box: the region loss skips them."""
    bad = {item.id: item.bad_mask for item in examples if item.bad_mask is not None}
    if bad:
        work.run.note(bad_masks=bad)
        shown = "; ".join(f"{name}: {reason}" for name, reason in list(bad.items())[:3])
        work.progress.note(f"{len(bad)} masks are unusable ({shown}): the region loss skips them")
    unlocalised = [item.id for item in examples if item.box is None and item.bad_mask is None]
    if unlocalised:
        work.run.note(unlocalised=unlocalised)
        work.progress.note(
            f"{len(unlocalised)} samples are unlocalised: the region loss skips them"
        )


def _leave_out(
    judge: str, lost: list[str], count: int, config: TrainUnetConfig, work: Work
) -> None:
    """Note the samples without a judge's text: its loss skips them, the noise loss does not.

    Raises:
        RicError: all lack it, or some do without `--allow-missing-text`.
    """
    if not lost:
        return
    work.run.note(**{f"without_{judge}_text": lost})
    remedy, without = _REMEDIES[judge]
    if len(lost) == count:
        raise RicError(
            f"No sample has a {judge} text, which the {judge} loss needs.",
            f"Use {remedy}, or train without that loss: {without}",
        )
    if not config.allow_missing_text:
        shown = ", ".join(lost[:5]) + (", …" if len(lost) > 5 else "")
        raise RicError(
            f"{len(lost)} of {count} samples have no {judge} text: {shown}.",
            f"All are listed in {work.run.path / 'run.json'}. Use {remedy}, or train them with the"
            " other losses only: --allow-missing-text",
        )
    work.progress.note(f"{len(lost)} samples have no {judge} text: the {judge} loss skips them")


# by judge: the flag that provides its texts, and the one that switches its loss off
_REMEDIES = {
    "region": ("--region-text instruction", "--no-region-loss"),
    "scene": ("--descriptions RUN", "--no-global-loss"),
}

"""The samples of a `train-unet` config, encoded as its run encodes them."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from ric.config import TrainUnetConfig
from ric.inputs.batches import TrainingSet
from ric.inputs.encodings import Encoder
from ric.inputs.examples import Example, Needs, load_examples
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.runs.open_run import open_run
from ric.work import open_work


def prepared_samples(
    config: TrainUnetConfig,
    pipeline: StableDiffusionInstructPix2PixPipeline,
    region_judge: RegionEncoder,
    scene_judge: SceneEncoder,
    folder: Path,
) -> tuple[list[Example], TrainingSet]:
    """Load and encode them, in float32; a run is opened in `folder` for what they have to say."""
    with open_run("train-unet", {}, runs_dir=folder) as run:
        examples = load_examples(
            config, open_work(config, run), "train", Needs(64, region_text="region_text")
        )
    encoder = Encoder(pipeline, region_judge, scene_judge, torch.float32, False)
    scale = pipeline.vae.config.scaling_factor
    return examples, TrainingSet(encoder.encode(examples), encoder.null_prompt(), scale, 1000)

from __future__ import annotations

import json
from pathlib import Path

import pytest
from noting import Noting

from ric.config import TrainUnetConfig, as_dict
from ric.recipes.train_unet import train_unet
from ric.runs.open_run import open_run
from ric.training.clipped_steps import ADVICE, warn_of_clipping

CONFIG = TrainUnetConfig()  # the limit is 1, and so are the weights
BY_REGION = {"grad_norm": 5.0, "grad_norm_noise": 0.1, "grad_norm_region": 4.0}


@pytest.mark.parametrize(
    ("row", "counts"),
    [
        (BY_REGION, True),
        (BY_REGION | {"grad_norm": 0.9}, False),  # not clipped
        (BY_REGION | {"grad_norm_noise": 4.5}, False),  # clipped by the noise loss
        (BY_REGION | {"balance_region": 0.01}, False),
        (BY_REGION | {"grad_norm_region": 0.0, "grad_norm_global": 0.2}, True),
        (BY_REGION | {"grad_norm": None}, False),  # it was not finite
    ],
)
def test_a_step_counts_where_it_was_clipped_and_an_alignment_is_the_longer_part(row, counts):
    assert (warn_of_clipping([row], CONFIG) is not None) == counts


def test_more_than_half_of_the_logged_steps_are_needed_and_weights_count():
    short = {"grad_norm": 0.5, "grad_norm_noise": 0.5}
    assert warn_of_clipping([BY_REGION, short], CONFIG) is None
    assert warn_of_clipping([], CONFIG) is None
    told = warn_of_clipping([BY_REGION, BY_REGION, short], CONFIG)
    assert told is not None
    assert told.startswith("In 2 of 3 logged steps")
    light = TrainUnetConfig(region_weight=0.02)
    assert warn_of_clipping([BY_REGION, BY_REGION, short], light) is None


@pytest.mark.parametrize("limit", [1e-4, 1e6])
def test_a_training_that_its_alignments_clip_says_so_at_its_end(tiny, edits, tmp_path, limit):
    run, progress = Path(tmp_path / "run"), Noting()
    changes = {"steps": 2, "batch_size": 4, "log_every": 1, "max_grad_norm": limit}
    changes["region_weight"] = 1e4  # these judges are untrained and pull weakly
    config = tiny(TrainUnetConfig, edits, **changes)
    with open_run("train-unet", as_dict(config), runs_dir=tmp_path, run=run) as opened:
        train_unet(config, opened, progress)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(1e4 * row["grad_norm_region"] > row["grad_norm_noise"] for row in rows)
    assert any(ADVICE in line for line in progress.lines) == (limit < 1)

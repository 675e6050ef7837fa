"""`fit-clip --flatten` and `fit-blip --flatten`: judges fitted on pixels that they like less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity

from ric.config import FitBlipConfig, FitClipConfig
from ric.data.batches import to_unit
from ric.inputs.examples import Needs, load_examples
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.recipes.fit_blip import fit_blip
from ric.recipes.fit_clip import fit_clip
from ric.runs.open_run import open_run
from ric.work import open_work

RHO = 0.1


def eq_11(visual: torch.Tensor, text: torch.Tensor) -> float:
    """Eq. 11 written out, of texts that all differ, at the temperature that fits begin with."""
    scores = (cosine_similarity(visual[:, None], text[None], dim=-1) / 0.07).exp()
    rows, columns = scores / scores.sum(1, keepdim=True), scores / scores.sum(0, keepdim=True)
    return -(rows.diag().log().mean() + columns.diag().log().mean()).item() / 2


@pytest.mark.parametrize("command", ["fit-clip", "fit-blip"])
def test_the_first_loss_is_that_of_pixels_a_step_away_in_the_direction_the_judge_likes_least(
    command, tiny, make_edits, follow, tiny_family, tmp_path, metrics_of
):
    colours = ("red", "blue", "green", "black", "white", "grey", "yellow", "brown")
    texts = [{"region_text": f"the {one} ball", "scene_text": f"a {one} ball"} for one in colours]
    data = make_edits(8, dict(enumerate(texts)))
    kind: Any = {"fit-clip": FitClipConfig, "fit-blip": FitBlipConfig}[command]
    epochs = {"fit-clip": {"fusion_epochs": 0, "joint_epochs": 1, "controls": False},
              "fit-blip": {"epochs": 1}}[command]  # fmt: skip
    settings = {"split": "all", "batch_size": 8, "log_every": 1, **epochs}
    recipe: Any = {"fit-clip": fit_clip, "fit-blip": fit_blip}[command]
    rows, sharp = (
        metrics_of(follow(recipe, tiny(kind, data, **settings, flatten=rho), tmp_path / str(rho)))
        for rho in (RHO, 0.0)
    )
    with open_run(command, {}, runs_dir=tmp_path) as run:
        config = tiny(kind, data, **settings)
        needs = Needs(64, region_text="region_text")
        items = load_examples(config, open_work(config, run), "all", needs)
    pictures = to_unit(torch.stack([item.target for item in items]))
    if command == "fit-clip":
        judge: Any = RegionEncoder.from_clip(tiny_family / "clip")
        text = judge.encode_text([item.region_text for item in items]).detach()
        boxes = [item.box for item in items]

        def seen_in(pixels: torch.Tensor) -> torch.Tensor:
            return judge.encode_region(pixels, boxes)
    else:
        judge = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")
        text = judge.encode_text([item.scene_text for item in items]).detach()
        seen_in = judge.encode_image
    pixels = pictures.clone().requires_grad_()
    cosine_similarity(seen_in(pixels), text).sum().backward()
    length = pixels.grad.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    with torch.no_grad():
        expected = eq_11(seen_in(pictures - RHO * pixels.grad / length), text)
        assert sharp[1]["loss"] == pytest.approx(eq_11(seen_in(pictures), text), rel=1e-4)
    assert rows[1]["loss"] == pytest.approx(expected, rel=1e-4)
    assert rows[1]["loss"] != pytest.approx(sharp[1]["loss"], rel=1e-3)
    # retrieval is measured on the pictures as they are
    assert rows[0] == sharp[0]

"""A judge that is wired but useless must not pass: the shipped ones, on scenes of test."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from ric.config import FitBlipConfig, FitClipConfig
from ric.data.batches import to_unit
from ric.data.drawn_scenes import SceneStream
from ric.inputs import fit_set
from ric.inputs.examples import Needs, load_examples
from ric.method.region_box import grow_box, tightest_box
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.metrics.intervals import mean_interval
from ric.recipes import fit_blip, fit_clip
from ric.recipes.tiny.beginnings import write_beginnings
from ric.runs.open_run import open_run
from ric.scenes.render import render
from ric.scenes.things import COLOURS
from ric.scenes.words import texts_of
from ric.weights.tiny_family import SHIPPED
from ric.work import open_work

SEED, COUNT = 3, 1500
CPU = torch.device("cpu")
AMONG = 64
FITTED = "scenes:3600@64#21"
SETTINGS = {"batch_size": AMONG, "measure_every": 99}
AT_LEAST = 0.8  # of the scenes


@pytest.fixture(scope="module")
def scenes():
    """Pictures by name (`target`, `source`, and where a thing is left `recoloured`), and texts."""
    found = []
    stream = SceneStream(count=COUNT, seed=SEED)
    for sample in stream.of_split("test"):
        index = int(sample.id[-6:])
        edit, pair = stream.draw(index)
        pictures = {"target": pair.target, "source": pair.source}
        if edit.after:
            things = list(edit.target.things)
            taken = {thing.colour for thing in things}
            other = next(colour for colour in COLOURS if colour not in taken)
            things[edit.after[0]] = replace(things[edit.after[0]], colour=other)
            pictures["recoloured"] = render(edit.target.having(tuple(things)), 64)
        box = grow_box(tightest_box(torch.from_numpy(pair.mask)), 64, 64)
        found.append((pictures, box, texts_of(edit, SEED, index)))
    return found


@torch.no_grad()
def preferred(scenes, embed_image, embed_text, other: str) -> float:
    """Give the share of scenes whose target is nearer to its text than another picture is."""
    won = []
    for pictures, box, texts in scenes:
        if other in pictures:
            text = embed_text(texts)
            target, rival = (
                cosine_similarity(
                    embed_image(to_unit(torch.tensor(pictures[name]).permute(2, 0, 1)[None]), box),
                    text,
                ).item()
                for name in ("target", other)
            )
            won.append(target > rival)
    assert len(won) > 50
    return sum(won) / len(won)


def by_region(judge: RegionEncoder):
    return (
        lambda image, box: judge.encode_region(image, [box]),
        lambda texts: judge.encode_text([texts.region_text]),
    )


def by_scene(judge: SceneEncoder):
    return (
        lambda image, box: judge.encode_image(image),
        lambda texts: judge.encode_text([texts.scene_text]),
    )


@pytest.mark.parametrize("other", ["source", "recoloured"])
def test_the_region_judge_prefers_the_target_to_the_source_and_to_another_colour(other, scenes):
    judge = RegionEncoder.from_pretrained(SHIPPED / "region_encoder")
    assert preferred(scenes, *by_region(judge), other) >= AT_LEAST


@pytest.mark.parametrize("other", ["source", "recoloured"])
def test_the_scene_judge_prefers_the_target_to_the_source_and_to_another_colour(other, scenes):
    judge = SceneEncoder.from_pretrained(SHIPPED / "scene_encoder")
    assert preferred(scenes, *by_scene(judge), other) >= AT_LEAST


@pytest.mark.parametrize("other", ["source", "recoloured"])
def test_an_untrained_judge_does_not(other, scenes, tiny_family):
    region = RegionEncoder.from_clip(tiny_family / "clip")
    scene = SceneEncoder.from_blip(tiny_family / "scene_encoder" / "blip")
    assert preferred(scenes, *by_region(region), other) < AT_LEAST
    assert preferred(scenes, *by_scene(scene), other) < AT_LEAST


@pytest.mark.slow
@pytest.mark.parametrize("name", ["region", "scene"])
def test_recall_among_64_lies_above_that_of_the_same_judge_fitted_on_shuffled_texts(
    name, tiny, follow, tmp_path, monkeypatch
):
    if name == "region":
        module, recipe, text, judge = fit_clip, fit_clip.fit_clip, "region_text", RegionEncoder
        config = tiny(FitClipConfig, FITTED, clip=str(SHIPPED / "clip"), fusion_epochs=4,
                      joint_epochs=0, controls=False, limit=1500, **SETTINGS)  # fmt: skip
    else:
        module, recipe, text, judge = fit_blip, fit_blip.fit_blip, "scene_text", SceneEncoder
        blip = write_beginnings(tmp_path / "begin") / "blip"
        config = tiny(FitBlipConfig, FITTED, blip=str(blip), epochs=4, lr=1e-3, limit=3000,
                      **SETTINGS)  # fmt: skip
    more = {"region_text": "region_text"} if name == "region" else {}
    with open_run("fit", {}, runs_dir=tmp_path / "runs") as run:
        unseen = replace(config, data=f"scenes:{COUNT}@64#{SEED}", limit=2 * AMONG)
        examples = load_examples(unseen, open_work(unseen, run), "test", Needs(64, **more))

    def shuffled(*given):
        fitted = load_examples(*given)
        texts = [getattr(item, text) for item in fitted]
        order = np.random.default_rng(0).permutation(len(texts))
        return [
            replace(item, **{text: texts[place]}) for item, place in zip(fitted, order, strict=True)
        ]

    hits = {}
    for texts, examples_of in (("own", load_examples), ("shuffled", shuffled)):
        monkeypatch.setattr(fit_set, "load_examples", examples_of)
        fitted = judge.from_pretrained(follow(recipe, config, tmp_path / texts))
        hits[texts] = found_first(partial(module.embed, fitted), examples, text)
    low, _ = mean_interval((hits["own"] - hits["shuffled"]).tolist())
    assert low > 0
    assert hits["shuffled"].mean() < 0.1  # by chance 1/64


@torch.no_grad()
def found_first(embed, examples, text: str) -> np.ndarray:
    """Tell of each example whether its text is the nearest of 64 to its picture: 0.0 or 1.0."""
    found = []
    for start in range(0, len(examples), AMONG):
        some = examples[start : start + AMONG]
        assert len(some) == AMONG
        pictures, words = embed(some)
        nearest = cosine_similarity(pictures[:, None], words[None], dim=-1).argmax(dim=1)
        texts = [getattr(item, text) for item in some]
        found += [texts[best] == own for best, own in zip(nearest, texts, strict=True)]
    return np.array(found, float)

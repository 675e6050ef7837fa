"""The suite: the same numbers as its parts called one by one, however the samples are batched."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest
import torch
from PIL import Image

from ric.config import EvalConfig
from ric.errors import RicError, SampleError
from ric.metrics import pixel
from ric.metrics.clip_features import ClipFeatures
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.cmmd import cmmd_from_features
from ric.metrics.dino_similarity import DinoSimilarity
from ric.metrics.fid import fid_from_features, jackknife_fid
from ric.metrics.inception_score import inception_score
from ric.metrics.kid import kid_from_features
from ric.metrics.networks import MetricNetworks, SetFeatures, Unavailable
from ric.metrics.pairs import Pair, fit_to
from ric.metrics.pick_score import PickScore
from ric.metrics.pixel import black_inside, inverted, l1, l2, psnr_outside, ssim_outside
from ric.metrics.scene_net import SceneNet
from ric.scoring.encode_once import Encodings
from ric.scoring.load_metrics import load_pair_metrics
from ric.scoring.rules import Rules
from ric.scoring.suite import MetricSuite

OUTSIDE = ("psnr_outside", "ssim_outside", "lpips_outside")


@pytest.fixture(scope="module")
def networks(tiny_family) -> MetricNetworks:
    scene_net = SceneNet(tiny_family / "scene_classifier")
    return MetricNetworks(
        clip=ClipSimilarity(tiny_family / "clip", encoder="tiny"),
        dino=DinoSimilarity(tiny_family / "dino", encoder="tiny"),
        lpips=scene_net,
        fid=scene_net,
        inception_score=scene_net,
        lpips_squeeze=scene_net,
    )


@pytest.fixture(scope="module")
def pairs(draw) -> list[Pair]:
    mask = Image.new("L", (96, 80))
    mask.paste(255, (10, 10, 50, 50))
    return [
        Pair(
            id=f"{index:04}",
            edited=draw(index, 64, 64),
            source=draw(100 + index),
            target=draw(200 + index),
            text=f"a {['red', 'green', 'blue'][index % 3]} ball",
            mask=mask,
        )
        for index in range(10)
    ]


def score(networks, pairs, batch: int = 4, role="editor", **rules):
    suite = MetricSuite(networks, Rules(**rules), role=role)
    for start in range(0, len(pairs), batch):
        suite.add(pairs[start : start + batch])
    return suite.finish()


def numbers(row: dict) -> list[float]:
    return [value for value in row.values() if isinstance(value, float)]


@pytest.fixture(scope="module")
def scored(networks, pairs):
    return score(networks, pairs)


def test_a_row_is_every_metric_called_by_itself(networks, pairs, scored):
    pair, row = pairs[3], dict(scored.rows[3])
    edited = fit_to(pair.edited, pair.target.size)
    cosine = {}
    for name, encoder in (("clip_i", networks.clip), ("dino", networks.dino)):
        ours, target, source = encoder.image_embeddings([edited, pair.target, pair.source])
        cosine |= {name: ours @ target, f"{name}_source": ours @ source}
    text = networks.clip.text_embeddings([pair.text])[0]
    expected = {
        **cosine,
        "clip_t": networks.clip.image_embeddings([edited])[0] @ text,
        "lpips": networks.lpips.distances([edited], [pair.target]).item(),
        "l1": l1(edited, pair.target),
        "l2": l2(edited, pair.target),
        "psnr_outside": psnr_outside(edited, pair.source, pair.mask),
        "ssim_outside": ssim_outside(edited, pair.source, pair.mask),
        "lpips_outside": networks.lpips_squeeze.distances(
            *([black_inside(image, pair.mask)] for image in (edited, pair.source))
        ).item(),
    }
    assert (row.pop("id"), row.pop("photo")) == ("0003", "0003")
    assert (row.pop("group"), row.pop("text_kind"), row.pop("text_cut")) == (None, "text", False)
    assert (row.pop("mask_derived"), row.pop("profile_apart")) == (False, False)
    assert row == {key: pytest.approx(float(value), abs=1e-5) for key, value in expected.items()}
    row["id"] = "0003"


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_samples_do_not_depend_on_the_batch_size(networks, pairs, scored, batch):
    again = score(networks, pairs, batch=batch)
    for ours, theirs in zip(again.rows, scored.rows, strict=True):
        assert numbers(ours) == pytest.approx(numbers(theirs), abs=1e-5)
    fid = again.scores["fid"].value
    assert fid == pytest.approx(scored.scores["fid"].value, rel=1e-4)


def test_the_order_of_samples_does_not_matter(networks, pairs, scored):
    shuffled = random.Random(0).sample(pairs, len(pairs))
    again = score(networks, shuffled)
    for ours, theirs in zip(again.scores.scores, scored.scores.scores, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-4)
    assert [row["id"] for row in again.rows] == sorted(pair.id for pair in pairs)


def test_means_are_over_the_rows_and_lie_in_their_interval(scored):
    for name in ("clip_i[tiny]", "dino[tiny]", "clip_t[tiny]", "lpips[scene-net]", "l1"):
        score = scored.scores[name]
        values = [row[score.key] for row in scored.rows]
        assert score.value == pytest.approx(np.mean(values))
        assert score.interval[0] < score.value < score.interval[1]
        assert score.n == len(values)


def test_fid_and_is_are_of_the_sets(networks, pairs, scored):
    edited = networks.fid.set_features([fit_to(pair.edited, pair.target.size) for pair in pairs])
    target = networks.fid.set_features([pair.target for pair in pairs])
    fid = fid_from_features(edited.features, target.features).value
    assert scored.scores["fid[scene-net]"].value == pytest.approx(fid, rel=1e-4)
    inception = inception_score(edited.logits)
    assert scored.scores["is[scene-net]"].value == pytest.approx(inception.mean, rel=1e-5)


def test_fids_spread_and_kid_are_of_the_same_features(networks, pairs, scored):
    edited = networks.fid.set_features([fit_to(pair.edited, pair.target.size) for pair in pairs])
    target = networks.fid.set_features([pair.target for pair in pairs])
    sides = edited.features.numpy(), target.features.numpy()
    fid, kid = scored.scores["fid[scene-net]"], scored.scores["kid[scene-net]"]
    assert fid.interval == pytest.approx(jackknife_fid(*sides).interval, rel=1e-3)
    assert fid.std is None
    assert not fid.ranks
    by_itself = kid_from_features(*sides)
    assert kid.value == pytest.approx(by_itself.value, abs=1e-5)
    assert kid.interval == pytest.approx(by_itself.interval, abs=1e-4)
    assert kid.interval[0] < kid.value < kid.interval[1]
    assert kid.n == 10
    assert f"which adds {by_itself.bias:.4f}" in kid.note


def test_one_sample_has_neither_fid_nor_kid(networks, pairs):
    scores = score(networks, pairs[:1]).scores
    for key in ("fid", "kid"):
        assert "A distance of sets needs 2 pictures or more" in scores[key].unavailable


def test_few_pictures_make_fid_carry_a_note(scored):
    # as many as the network in use has features; Inception has 2,048
    width = len(scored.set_rows[0].features)
    about = f"Below {width:,} pictures FID is mostly small-sample bias: N = 10"
    assert about in scored.scores["fid"].note


def test_the_unedited_source_against_itself_is_perfect(networks, pairs):
    same = [Pair(id=pair.id, edited=pair.source, source=pair.source) for pair in pairs]
    scores = score(networks, same, reference="source", role="identity").scores
    assert scores["clip_i"].value == pytest.approx(1, abs=1e-6)
    assert scores["dino"].value == pytest.approx(1, abs=1e-6)
    assert scores["lpips"].value == pytest.approx(0, abs=1e-9)
    assert scores["l1"].value == 0


def test_more_noise_scores_worse_on_everything_that_has_a_reference(networks, pairs):
    def noisy(pair: Pair, strength: int) -> Pair:
        generator = np.random.default_rng(int(pair.id))
        grain = strength * generator.normal(size=(*reversed(pair.target.size), 3))
        pixels = (np.asarray(pair.target) + grain).round().clip(0, 255).astype(np.uint8)
        return replace(pair, edited=Image.fromarray(pixels), source=pair.target)

    ladder = [
        score(networks, [noisy(pair, strength) for pair in pairs]).scores
        for strength in (0, 8, 24, 72)
    ]
    assert ladder[0]["fid"].value == pytest.approx(0, abs=1e-4)
    for key in ("clip_i", "dino", "lpips", "fid", "kid", "l1", "l2", *OUTSIDE):
        values = [scores[key].value for scores in ladder]
        worse_is_lower = ladder[0][key].direction == "up"
        assert values == sorted(values, reverse=worse_is_lower), key
        assert len(set(values)) == 4, key


def test_the_ground_truth_set_is_at_no_frechet_distance(networks, pairs):
    truth = [Pair(pair.id, pair.target, pair.source, pair.target) for pair in pairs]
    scores = score(networks, truth, role="ground-truth").scores
    assert scores["fid"].value == pytest.approx(0, abs=1e-4)


def test_with_the_source_as_reference_the_target_is_the_other_one(networks, pairs, scored):
    turned = score(networks, pairs[:3], reference="source")
    for ours, theirs in zip(turned.rows, scored.rows, strict=False):
        assert ours["clip_i"] == pytest.approx(theirs["clip_i_source"], abs=1e-5)
        assert ours["clip_i_target"] == pytest.approx(theirs["clip_i"], abs=1e-5)


def test_samples_without_a_target_are_left_out_of_what_needs_one(networks, pairs):
    bare = Pair(id="bare", edited=pairs[0].edited, source=pairs[0].source)
    scored = score(networks, [bare, *pairs[1:5]])
    assert scored.scores["clip_i"].n == 4
    assert scored.scores["clip_i"].note == "Samples without a target: 1 of 5."
    assert scored.scores["clip_i_source"].n == 5
    assert scored.scores["fid"].n == 4
    assert scored.rows[-1]["lpips"] is None


def test_data_without_targets_texts_and_masks_says_so(networks, pairs):
    scores = score(networks, [Pair(pair.id, pair.edited, pair.source) for pair in pairs]).scores
    assert scores["clip_i"].unavailable == "no sample has a target"
    assert scores["fid"].unavailable == "no sample has a target"
    assert scores["clip_t"].unavailable == "no sample has a text"
    for key in ("psnr_outside", "ssim_outside", "lpips_outside"):
        assert scores[key].unavailable == "no sample has a mask"
    assert scores["is"].value is not None


def test_missing_networks_are_named_and_the_rest_is_scored(pairs):
    gone = Unavailable("lpips needs alexnet-owt-7be5be79.pth")
    networks = MetricNetworks(clip=gone, dino=gone, lpips=gone, fid=gone, inception_score=gone)
    scores = score(networks, pairs).scores
    for key in ("clip_i", "dino", "clip_t", "lpips", "fid", "kid", "is"):
        assert scores[key].value is None
        assert scores[key].unavailable == gone.reason
    assert scores["l1"].value > 0


def test_one_picture_gives_no_fid_but_the_reason(networks, pairs):
    assert "2 pictures or more" in score(networks, pairs[:1]).scores["fid"].unavailable


def test_an_empty_suite_scores_nothing(networks):
    scored = score(networks, [])
    assert scored.rows == []
    assert all(score.unavailable == "no sample was scored" for score in scored.scores.scores)


def test_long_texts_are_counted_once_a_suite(networks, pairs):
    long = [Pair(p.id, p.edited, p.source, p.target, "a red ball " * 60) for p in pairs[:3]]
    for _ in range(2):
        note = score(networks, long).scores["clip_t"].note
        assert note == "Texts cut to the length the network reads: 3."


def test_an_id_given_twice_is_refused_and_nothing_is_kept(networks, pairs):
    suite = MetricSuite(networks, label="ours")
    suite.add(pairs[:2])
    with pytest.raises(RicError, match="'0001' was added twice to 'ours'"):
        suite.add([pairs[2], pairs[1]])
    assert len(suite.finish().rows) == 2


def test_a_mask_of_another_size_is_that_samples_failure(networks, pairs):
    bad = Pair("bad", pairs[0].edited, pairs[0].source, mask=Image.new("L", (5, 5)))
    with pytest.raises(SampleError, match=r"Sample 'bad', mask: it is \(5, 5\) pixels"):
        MetricSuite(networks).add([bad])


class Counting:
    """A set encoder that counts the pictures it is shown."""

    definition, marker = "counting", ""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.seen = 0

    def prepare(self, image) -> torch.Tensor:
        return torch.from_numpy(np.asarray(image.resize((2, 2)), np.float32).reshape(-1))

    def features_of(self, prepared) -> SetFeatures:
        self.seen += len(prepared)
        features = torch.stack(prepared)
        return SetFeatures(features, features[:, :5] / 255)


def test_every_picture_is_encoded_once(pairs):
    gone = Unavailable("not in this test")
    shared = Counting("scene-net")
    score(
        MetricNetworks(clip=gone, dino=gone, lpips=gone, fid=shared, inception_score=shared), pairs
    )
    assert shared.seen == 2 * len(pairs)


def test_suites_that_share_their_encodings_encode_source_and_target_once(pairs):
    gone = Unavailable("not in this test")
    network = Counting("scene-net")
    networks = MetricNetworks(
        clip=gone, dino=gone, lpips=gone, fid=network, inception_score=network
    )
    suites, shared = [MetricSuite(networks, label=name) for name in "ab"], Encodings()
    apart = MetricSuite(networks)
    for suite in suites:
        suite.add([replace(pair, edited=pair.edited.copy()) for pair in pairs], shared)
    assert network.seen == (2 + 1) * len(pairs)
    apart.add(pairs)
    for suite in suites:
        assert suite.finish().scores["fid"].value == apart.finish().scores["fid"].value
        assert suite.finish().rows == apart.finish().rows


class CountingDistance:
    """A distance that notes the pictures it is shown."""

    definition, marker, smallest = "counting", "", 1

    def __init__(self) -> None:
        self.calls: list[tuple[list, list]] = []

    def distances(self, edited, reference) -> torch.Tensor:
        self.calls.append((list(edited), list(reference)))
        both = zip(edited, reference, strict=True)
        return torch.tensor([l1(ours, theirs) for ours, theirs in both])


def test_suites_that_share_their_encodings_compare_with_each_reference_in_a_row(pairs):
    gone = Unavailable("not in this test")
    network, outside = CountingDistance(), CountingDistance()
    networks = MetricNetworks(
        clip=gone, dino=gone, lpips=network, fid=gone, inception_score=gone, lpips_squeeze=outside
    )
    made = {name: [replace(pair, edited=pair.edited.copy()) for pair in pairs] for name in "ab"}
    made["source"] = [replace(pair, edited=pair.source) for pair in pairs]
    made["target"] = [replace(pair, edited=pair.target) for pair in pairs]
    apart = {name: score(networks, some).rows for name, some in made.items()}
    network.calls.clear()
    suites, shared = {name: MetricSuite(networks, label=name) for name in made}, Encodings()
    for name, suite in suites.items():
        suite.add(made[name], shared)
    assert network.calls == []
    shared.complete()
    assert {name: suite.finish().rows for name, suite in suites.items()} == apart
    assert all(row["lpips"] == 0 for row in apart["target"])
    assert all(row["lpips_outside"] == 0 for row in apart["source"])
    # one call; the target with itself is not asked for
    ((_, references),) = network.calls
    assert [len(list(same)) for _, same in groupby(references, id)] == [3] * len(pairs)


def test_clip_t_tells_which_text_each_sample_brought(networks, pairs):
    asked = [replace(pair, text_kind="region_text") for pair in pairs[:3]]
    other = [replace(pair, text_kind="instruction") for pair in pairs[3:5]]
    clip_t = score(networks, [*asked, *other], text="region_text").scores["clip_t"]
    assert clip_t.definition.startswith("edited and region_text, else instruction: ")
    assert clip_t.note == "Without a region_text, by the instruction: 2."
    clip_t = score(networks, asked, text="region_text").scores["clip_t"]
    assert clip_t.definition.startswith("edited and region_text: ")
    assert clip_t.note is None


def test_each_sample_s_long_text_is_counted_once_and_tells_samples_apart(networks, pairs):
    long = [
        " ".join((sentence * 12).split()[:120])
        for sentence in (
            "the red ball lies on the grass near a small wooden house ",
            "a tall white lamp stands behind the table in the large room ",
        )
    ]
    same = [replace(pairs[0], id=name, text=text) for name, text in zip("ab", long, strict=True)]
    scored = score(networks, [*same, pairs[1], replace(pairs[2], text=None)], batch=3)
    assert scored.scores["clip_t"].note.endswith("Texts cut to the length the network reads: 2.")
    one, other = (row["clip_t"] for row in scored.rows if row["id"] in "ab")
    assert abs(one - other) > 1e-3


NAMED = ("clip_direction", "psnr", "ssim", "psnr_inside", "lpips_inside")


@pytest.fixture(scope="module")
def captioned(pairs) -> list[Pair]:
    """Pairs with both captions, but the last two: one has a single one, the other equal ones."""
    captions = [{"source_text": f"a {n} ball", "target_text": f"a box, {n}"} for n in range(8)]
    captions += [{"source_text": "a ball"}, dict.fromkeys(("source_text", "target_text"), "a ball")]
    return [replace(pair, **words) for pair, words in zip(pairs, captions, strict=True)]


def named(**changes) -> dict:
    config = EvalConfig(metrics=",".join(NAMED), **changes)
    return {
        "metrics": NAMED,
        "pair_metrics": load_pair_metrics(config, torch.device("cpu")),
    }


@pytest.mark.parametrize("reference", ["target", "source"])
def test_metrics_by_name_are_each_called_by_itself(networks, captioned, reference):
    rows = score(networks, captioned, reference=reference, **named()).rows
    pair, row = captioned[3], rows[3]
    other = getattr(pair, reference)
    edited = fit_to(pair.edited, other.size)
    before, after = networks.clip.text_embeddings([pair.source_text, pair.target_text])
    ours, source = networks.clip.image_embeddings([edited, pair.source])
    cosine = torch.nn.functional.cosine_similarity(ours - source, after - before, dim=0)
    black = [black_inside(image, inverted(pair.mask)) for image in (edited, other)]
    assert row["clip_direction"] == pytest.approx(cosine.item(), abs=1e-4)
    assert row["psnr"] == pytest.approx(pixel.psnr(l2(edited, other)))
    assert row["ssim"] == pytest.approx(pixel.ssim_map(edited, other).mean())
    assert row["psnr_inside"] == pytest.approx(pixel.psnr_inside(edited, other, pair.mask))
    by_network = networks.lpips_squeeze.distances([black[0]], [black[1]]).item()
    assert row["lpips_inside"] == pytest.approx(by_network, abs=1e-6)
    assert not {"clip_i", "clip_t", "lpips", "lpips_outside", "psnr_outside"} & row.keys()


def test_metrics_by_name_say_what_they_compare_and_whom_they_leave_out(networks, captioned):
    masked = [*captioned[1:], replace(captioned[0], mask=None)]
    scores = score(networks, masked, **named()).scores
    assert scores["clip_direction"].n == 8
    needs = "Samples without a source_text and a target_text that differ: 2 of 10."
    assert scores["clip_direction"].note == needs
    assert "target_text less source_text" in scores["clip_direction"].definition
    for key in ("psnr_inside", "lpips_inside"):
        assert scores[key].definition.startswith("edited and target, inside the mask: ")
        assert scores[key].note == "Samples without a mask and a target: 1 of 10."
    assert scores["psnr"].n == scores["ssim"].n == 10
    assert scores["ssim"].definition.startswith("edited and target: structural similarity")


FURTHER = ("dinov2", "fd_dinov2", "cmmd")
OF_TWO = ("pick_score", "dists")


@pytest.fixture(scope="module")
def further(networks, tiny_family) -> MetricNetworks:
    """The stand-ins of the metrics with networks of their own beside the others."""
    own = {
        "dinov2": networks.dino,
        "fd_dinov2": networks.fid,
        "cmmd": ClipFeatures(tiny_family / "clip", encoder="tiny"),
        "pick_score": PickScore(tiny_family / "clip", encoder="tiny"),
        "dists": networks.lpips,
    }
    return replace(networks, own=own)


def test_dinov2_and_the_distances_of_its_kind_are_each_called_by_itself(further, pairs):
    rules = {"metrics": FURTHER, "pair_metrics": ()}
    scored = score(further, pairs, **rules)
    edited = [fit_to(pair.edited, pair.target.size) for pair in pairs]
    targets = [pair.target for pair in pairs]
    dinov2 = further.own["dinov2"]
    ours, theirs = (dinov2.image_embeddings(images) for images in (edited, targets))
    cosines = (ours * theirs).sum(dim=1)
    assert [row["dinov2"] for row in scored.rows] == pytest.approx(cosines.tolist(), abs=1e-5)
    sources = dinov2.image_embeddings([pair.source for pair in pairs])
    to_source = [row["dinov2_source"] for row in scored.rows]
    assert to_source == pytest.approx((ours * sources).sum(dim=1).tolist(), abs=1e-5)
    of = {
        key: [further.own[key].set_features(images)[0].numpy() for images in (edited, targets)]
        for key in ("fd_dinov2", "cmmd")
    }
    frechet, discrepancy = jackknife_fid(*of["fd_dinov2"]), cmmd_from_features(*of["cmmd"])
    scores = scored.scores
    assert scores["fd_dinov2[scene-net]"].value == pytest.approx(frechet.value, rel=1e-4)
    assert scores["fd_dinov2"].interval == pytest.approx(frechet.interval, rel=1e-3)
    assert scores["cmmd[tiny]"].value == pytest.approx(discrepancy.value, rel=1e-4)
    low, high = discrepancy.interval
    assert low < 0  # which no CMMD is
    assert scores["cmmd"].interval == pytest.approx((0, high), rel=1e-3)
    keys = {one.key for one in scores.scores}
    assert keys == {*FURTHER, "dinov2_source"}
    parts = score(further, pairs, batch=3, **rules).scores
    for key in (*FURTHER, "dinov2_source"):
        assert parts[key].value == pytest.approx(scores[key].value, abs=1e-5)


def test_pick_score_and_dists_are_called_by_themselves_on_the_picture_at_its_references_size(
    further, pairs
):
    worded = [replace(pairs[0], text=None), *pairs[1:], replace(pairs[1], id="x", text="a " * 99)]
    scored = score(further, worded, metrics=OF_TWO, pair_metrics=())
    pair, row = pairs[3], scored.rows[3]
    edited = fit_to(pair.edited, pair.target.size)
    clip = further.own["pick_score"]
    cosine = clip.image_embeddings([edited])[0] @ clip.text_embeddings([pair.text])[0]
    assert row["pick_score"] == pytest.approx(clip.scale * cosine.item(), abs=1e-4)
    assert row["dists"] == pytest.approx(
        further.own["dists"].distances([edited], [pair.target]).item(), abs=1e-5
    )
    picked = scored.scores["pick_score[tiny]"]
    assert (picked.n, scored.scores["dists[scene-net]"].n) == (10, 11)
    assert "Samples without a text: 1 of 11." in picked.note
    assert "Texts cut to the length the network reads: 1." in picked.note
    # CLIP-T's own column is another network's
    assert {row["text_cut"] for row in scored.rows} == {None}


def test_distances_of_pairs_say_their_bias_and_rank_no_editor(further, pairs):
    scores = score(further, pairs, metrics=FURTHER, pair_metrics=()).scores
    assert not scores["fd_dinov2"].ranks
    # of the network in use, not of the published one
    width = further.own["fd_dinov2"].model.config.hidden_sizes[-1]
    about = f"Below {width:,} pictures FD-DINOv2 is mostly small-sample bias: N = {len(pairs)},"
    assert about in scores["fd_dinov2"].note
    assert "no editor is marked as best" in scores["fd_dinov2"].note
    assert not scores["cmmd"].ranks
    assert "a difference is taken without it" in scores["cmmd"].note
    alone = score(further, pairs[:1], metrics=("cmmd", "fd_dinov2"), pair_metrics=()).scores
    needs = "A distance of sets needs 2 pictures or more on each side, and has 1 and 1."
    assert alone["cmmd"].unavailable == alone["fd_dinov2"].unavailable == needs
    without = [replace(pair, target=None) for pair in pairs]
    none = score(further, without, metrics=("cmmd", "fd_dinov2"), pair_metrics=()).scores
    assert none["cmmd"].unavailable == none["fd_dinov2"].unavailable == "no sample has a target"


def test_doing_nothing_goes_in_no_direction(networks, captioned):
    unedited = [replace(pair, edited=pair.source) for pair in captioned]
    score_of = score(networks, unedited, role="identity", **named()).scores["clip_direction"]
    assert (score_of.value, score_of.n) == (0, 8)


def test_without_captions_there_is_no_direction_and_the_reason_is_told(networks, pairs):
    (direction, *_) = score(networks, pairs, **named()).scores.scores
    assert direction.key == "clip_direction"
    assert direction.unavailable == "no sample has a source_text and a target_text that differ"


def test_long_captions_are_counted(networks, captioned):
    long = replace(captioned[0], target_text="a red ball on the grass " * 30)
    direction = score(networks, [long, *captioned[1:8]], **named()).scores["clip_direction"]
    assert direction.note == "Texts cut to the length the network reads: 1."


def test_a_second_inception_score_comes_from_fids_own_pass(pairs):
    gone = Unavailable("not in this test")
    clean, tf1 = Counting("clean"), Counting("torch-fidelity")
    scores = score(
        MetricNetworks(clip=gone, dino=gone, lpips=gone, fid=clean, inception_score=tf1), pairs
    ).scores
    assert (clean.seen, tf1.seen) == (2 * len(pairs), len(pairs))
    assert [s.name for s in scores.scores if s.key in ("fid", "is")] == ["fid", "is", "is[clean]"]


def test_scores_and_rows_are_json(scored):
    assert json.loads(json.dumps(scored.scores.as_dict()))["scores"]["fid[scene-net]"]["n"] == 10
    assert json.loads(json.dumps(scored.rows))[0]["id"] == "0000"


def test_threads_that_prepare_pictures_change_no_number(networks, pairs):
    # in the same batches: a matrix product of other shape may round its sums otherwise
    alone = score(networks, pairs, batch=len(pairs))
    with ThreadPoolExecutor(3) as pool:
        suite, encodings = MetricSuite(networks), Encodings(pool)
        suite.add(pairs, encodings)
        encodings.complete()
    assert suite.finish().rows == alone.rows
    assert suite.finish().scores == replace(alone.scores, label=suite.label)


def test_every_text_is_encoded_once_for_all_suites(networks, pairs, monkeypatch):
    seen = []
    embed = networks.clip.text_embeddings
    monkeypatch.setattr(
        networks.clip, "text_embeddings", lambda texts: (seen.extend(texts), embed(texts))[1]
    )
    shared = Encodings()
    for name in "ab":
        MetricSuite(networks, label=name).add(pairs, shared)
    assert sorted(seen) == sorted({pair.text for pair in pairs if pair.text})


def test_a_picture_too_small_for_lpips_has_none_and_is_counted(pairs, networks):
    network = CountingDistance()
    network.smallest = 81  # the pictures are 96 x 80
    others = replace(networks, lpips=network, lpips_squeeze=network)
    scored = score(others, pairs)
    assert network.calls == []
    assert all(row["lpips"] is None and row["lpips_outside"] is None for row in scored.rows)
    assert scored.scores["lpips"].unavailable == "no sample has a target of 81 pixels or more"
    small = [replace(pairs[0], edited=pairs[0].target, target=pairs[0].target), *pairs[1:]]
    large = [replace(p, target=p.target.resize((200, 200))) for p in small[1:]]
    note = score(others, [small[0], *large]).scores["lpips"].note
    assert note == f"Samples without a target of 81 pixels or more: 1 of {len(pairs)}."


def test_masks_that_were_derived_are_told(networks, pairs):
    derived = [replace(pair, mask_is_derived=True) for pair in pairs[:4]]
    scores = score(networks, [*derived, *pairs[4:]]).scores
    for key in OUTSIDE:
        told = f"Masks derived from where source and target differ: 4 of {len(pairs)}."
        assert scores[key].note == told
    assert score(networks, pairs).scores["psnr_outside"].note is None


def test_an_error_in_a_thread_reaches_who_asks(networks, pairs, monkeypatch):
    def fail(*given) -> None:
        raise ZeroDivisionError

    with ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(pixel, "l1", fail)
        encodings = Encodings(pool)
        MetricSuite(networks).add(pairs, encodings)
        with pytest.raises(ZeroDivisionError):
            encodings.complete()
        monkeypatch.undo()
        monkeypatch.setattr(networks.clip, "prepare", fail)
        with pytest.raises(ZeroDivisionError):
            MetricSuite(networks).add(pairs, Encodings(pool))


def test_as_magicbrush_has_it_clip_and_dino_see_an_output_at_its_own_size(networks, pairs):
    suite = MetricSuite(networks, Rules(encode_fitted=False))
    suite.add(pairs[:2])
    rows, fitted = suite.finish().rows, score(networks, pairs[:2]).rows
    for key, encoder in (("clip_i", networks.clip), ("dino", networks.dino)):
        for pair, row, other in zip(pairs, rows, fitted, strict=False):
            ours, target = encoder.image_embeddings([pair.edited, pair.target])
            assert row[key] == pytest.approx(float(ours @ target), abs=1e-5)
            assert row[key] != pytest.approx(other[key], abs=1e-5)

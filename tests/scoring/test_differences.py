"""What one editor scores above another: over the samples both have, pair by pair."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from ric.metrics.cmmd import cmmd_from_features
from ric.metrics.fid import jackknife_fid
from ric.metrics.kid import kid_from_features
from ric.scoring.differences import difference
from ric.scoring.encode_once import SetRow
from ric.scoring.read_scores import read_differences
from ric.scoring.score_table import difference_rows
from ric.scoring.scores import Score, Scores
from ric.scoring.set_distances import set_distances
from ric.scoring.suite import Scored
from ric.scoring.summary import scene_score

HARD = np.random.default_rng(0).beta(8, 2, 40)
TARGETS = np.random.default_rng(1).normal(size=(40, 6))


def editor(label: str, gain: float, numbers: range, seed: int) -> Scored:
    """Score like an editor: each sample's hardness, a gain, noise; features beside the target's."""
    rng = np.random.default_rng(seed)
    noise, moved = rng.normal(0, 0.01, 40), rng.normal(0, 0.4, (40, 6)) + gain
    rows = [{"id": f"{n:02}", "clip_i": HARD[n] + gain + noise[n], "lpips": None} for n in numbers]
    features = TARGETS + moved
    set_rows = [SetRow(features[n], None, TARGETS[n], None) for n in numbers]
    distances = set_distances(set_rows, [row["id"] for row in rows], seed=7)
    scores = (
        Score(key="clip_i", value=0.5, n=len(numbers), definition="a cosine", marker="tiny"),
        Score(key="lpips", unavailable="no weights"),
        Score(key="fid", value=distances["fid"].value, n=len(numbers), std=1.0, note="few"),
        Score(key="kid", value=distances["kid"].value, n=len(numbers)),
        Score(key="is", value=2.0, n=len(numbers)),
    )
    return Scored(Scores(label, scores, samples=len(numbers)), rows, set_rows, distances)


def of(scored: Scored, numbers: range) -> np.ndarray:
    held = {row["id"]: row["clip_i"] for row in scored.rows}
    return np.array([held[f"{n:02}"] for n in numbers])


@pytest.fixture(scope="module")
def first() -> Scored:
    return editor("A", 0.0, range(40), seed=2)


@pytest.fixture(scope="module")
def later() -> Scored:
    return editor("B", 0.02, range(40), seed=3)


def found(differences, key: str) -> Score | None:
    return next((score for score in differences.scores if score.key == key), None)


def test_a_mean_s_difference_is_paired_and_its_interval_scipys(later, first):
    told = found(difference(later, first), "clip_i")
    apart = of(later, range(40)) - of(first, range(40))
    assert told.value == pytest.approx(apart.mean())
    theirs = ttest_1samp(apart, 0)
    assert told.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)), abs=5e-4)
    assert told.p == pytest.approx(theirs.pvalue, rel=0.5)  # the skew of these 40
    # unpaired, the hardness of the samples would hide it
    assert told.interval[0] > 0
    assert np.std(of(first, range(40))) / np.sqrt(40) > told.value / 2
    assert (told.name, told.n) == ("clip_i[tiny]", 40)


def test_only_samples_that_both_have_count(first):
    some = editor("B", 0.02, range(10, 50 - 15), seed=3)
    told = difference(some, first, seed=7)
    assert told.samples == 25
    shared = range(10, 35)
    apart = of(some, shared) - of(first, shared)
    assert found(told, "clip_i").value == pytest.approx(apart.mean())
    features = [
        np.stack([row.features for row in rows]) for rows in (some.set_rows, first.set_rows[10:35])
    ]
    ours, theirs = (jackknife_fid(side, TARGETS[10:35], seed=7) for side in features)
    assert found(told, "fid").value == pytest.approx(ours.value - theirs.value)
    assert found(told, "fid").interval == pytest.approx(ours.minus(theirs).interval)
    assert found(told, "fid").n == 25


def test_fid_and_kid_differ_with_their_own_spread(later, first):
    told = difference(later, first, seed=7)
    features = [np.stack([row.features for row in s.set_rows]) for s in (later, first)]
    for key, distance in (("fid", jackknife_fid), ("kid", kid_from_features)):
        ours, theirs = (distance(side, TARGETS, seed=7) for side in features)
        score = found(told, key)
        biases = [getattr(one, "bias", 0.0) for one in (ours, theirs)]
        assert score.value == pytest.approx(ours.value - biases[0] - (theirs.value - biases[1]))
        assert score.interval == pytest.approx(ours.minus(theirs).interval)
        assert (score.std, score.note) == (None, None)


def test_what_has_no_pairs_is_left_out(later, first):
    told = difference(later, first)
    assert [score.key for score in told.scores] == ["clip_i", "fid", "kid"]


@pytest.mark.parametrize("key", ["edit_success", "sticker_rate"])
@pytest.mark.parametrize(("count", "sure"), [(3, False), (30, True)])
def test_hits_of_all_samples_against_none_are_sure_of_many_alone(key, count, sure):
    def all_or_none(label: str, hit: float) -> Scored:
        rows = [{"id": f"{n:02}", key: hit} for n in range(count)]
        return Scored(Scores(label, (Score(key=key, value=hit, n=count),)), rows, [], None)

    told = difference(all_or_none("Identity", 0.0), all_or_none("B", 1.0))
    low, high = found(told, key).interval
    assert -1 == found(told, key).value == low < high < 0
    assert 0 < found(told, key).p < 0.05 or not sure
    ((_, ((text, bold),)),) = difference_rows([told])
    assert bold == sure
    assert text.startswith("-1.000 [-1.000, -0.")


def test_relative_errors_differ_by_as_much_as_their_weighted_means():
    def scored(label: str, seed: int) -> Scored:
        errors = np.random.default_rng(seed).gamma(2, 0.2, 40)
        rows = [
            {"id": f"{n:02}", "context_error": errors[n], "context_weight": 1.0 + n}
            for n in range(40)
        ]
        return Scored(Scores(label, (scene_score(rows, "context_error"),)), rows, [], None)

    first, later = scored("A", 2), scored("B", 3)
    told = found(difference(later, first), "context_error")
    means = [scored.scores["context_error"].value for scored in (later, first)]
    assert told.value == pytest.approx(means[0] - means[1])
    assert told.interval[0] < told.value < told.interval[1]
    assert (told.p < 0.05) == (told.interval[0] > 0 or told.interval[1] < 0)


def test_p_s_stand_in_json_and_come_back(later, first, tmp_path):
    told = difference(later, first)
    about = {"editors": [], "differences": [told.as_dict()]}
    (tmp_path / "scores.json").write_text(json.dumps(about))
    (back,) = read_differences(tmp_path)
    assert [score.p for score in back.scores] == [score.p for score in told.scores]
    # FID's is of ten groups, not of 40 photos
    fid = found(told, "fid")
    error = (fid.interval[1] - fid.value) / t.ppf(0.975, 9)
    assert fid.p == pytest.approx(2 * t.sf(abs(fid.value) / error, 9))


def test_editors_without_a_common_sample_have_no_difference(first):
    alone = editor("B", 0.0, range(2), seed=4)
    others = editor("A", 0.0, range(5, 9), seed=4)
    assert difference(alone, others).scores == ()
    assert difference(editor("C", 0, range(1, 5), 4), alone).scores[0].n == 1


def test_the_other_way_round_it_is_the_negative(later, first):
    there, back = difference(later, first), difference(first, later)
    for ours, theirs in zip(there.scores, back.scores, strict=True):
        assert ours.value == pytest.approx(-theirs.value)
        assert ours.interval == pytest.approx([-x for x in reversed(theirs.interval)], abs=1e-3)


def test_a_difference_is_json(later, first):
    told = json.loads(json.dumps(difference(later, first).as_dict()))
    assert (told["label"], told["against"], told["samples"]) == ("B", "A", 40)
    assert told["scores"]["clip_i[tiny]"]["low"] > 0
    assert replace(difference(later, first), label="x").heading == "x - A"


def test_fd_dinov2_and_cmmd_differ_over_the_samples_that_both_have():
    def scored(label: str, numbers: range, seed: int) -> Scored:
        moved = np.random.default_rng(seed).normal(0, 0.4, (40, 6))
        features = TARGETS + moved
        rows = [{"id": f"{n:02}"} for n in numbers]
        set_rows = [
            SetRow(
                None,
                None,
                None,
                None,
                {"fd_dinov2": (features[n], TARGETS[n]), "cmmd": (moved[n], TARGETS[n])},
            )
            for n in numbers
        ]
        distances = set_distances(set_rows, [row["id"] for row in rows])
        scores = [
            Score(key=key, value=distances[key].value, n=len(numbers), ranks=False)
            for key in ("fd_dinov2", "cmmd")
        ]
        return Scored(Scores(label, tuple(scores)), rows, set_rows, distances)

    later, first = scored("B", range(0, 35), 3), scored("A", range(5, 40), 2)
    apart = difference(later, first)
    shared = [
        [one for row, one in zip(kept.rows, kept.set_rows, strict=True) if "05" <= row["id"] < "35"]
        for kept in (later, first)
    ]
    sides = [
        [np.stack([one.compared(key)[side] for one in rows]) for side in (0, 1)]
        for key in ("fd_dinov2", "cmmd")
        for rows in shared
    ]
    ours, theirs = (jackknife_fid(*both) for both in sides[:2])
    told = found(apart, "fd_dinov2")
    assert told.value == pytest.approx(ours.value - theirs.value)
    assert told.interval == pytest.approx(ours.minus(theirs).interval)
    assert (told.n, told.ranks) == (30, False)
    ours, theirs = (cmmd_from_features(*both) for both in sides[2:])
    told = found(apart, "cmmd")
    unbiased = (ours.value - ours.bias) - (theirs.value - theirs.bias)
    assert told.value == pytest.approx(unbiased)
    assert told.ranks  # without the biases it may tell which is better
    assert found(apart, "fid") is None

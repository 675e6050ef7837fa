"""Strengths against the closed form, against scipy's own maximum, and against known truths."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from ric.metrics.bradley_terry import PRIOR, strengths

FIVE = np.array([0.35, 0.25, 0.2, 0.15, 0.05])


def cast(truth: np.ndarray, votes: int, seed: int = 0) -> np.ndarray:
    """Draw `votes` votes between each two editors of known strengths."""
    generator = np.random.default_rng(seed)
    wins = np.zeros((len(truth), len(truth)))
    for one in range(len(truth)):
        for other in range(one):
            share = truth[one] / (truth[one] + truth[other])
            wins[one, other] = generator.binomial(votes, share)
            wins[other, one] = votes - wins[one, other]
    return wins


def most_likely(wins: np.ndarray) -> np.ndarray:
    """Maximise the log-likelihood, written out vote by vote, over log strengths."""

    def loss(logs: np.ndarray) -> float:
        apart = logs[:, None] - logs[None, :]
        return float((wins * np.log1p(np.exp(-apart))).sum() + np.square(logs.sum()))

    found = scipy.optimize.minimize(loss, np.zeros(len(wins)), tol=1e-12)
    return np.exp(found.x) / np.exp(found.x).sum()


@pytest.mark.parametrize(("wins", "losses"), [(7, 3), (1, 60), (20, 20)])
def test_of_two_editors_the_strengths_are_the_shares_of_wins(wins, losses):
    counted = np.array([[0.0, wins], [losses, 0.0]])
    share = wins / (wins + losses)
    assert strengths(counted, prior=0) == pytest.approx([share, 1 - share])
    share = (wins + PRIOR) / (wins + losses + 2 * PRIOR)
    assert strengths(counted) == pytest.approx([share, 1 - share])


@pytest.mark.parametrize("seed", range(3))
def test_of_five_they_are_where_scipy_finds_the_greatest_likelihood(seed):
    wins = cast(FIVE, 30, seed)
    assert strengths(wins, prior=0) == pytest.approx(most_likely(wins), abs=1e-5)
    with_prior = wins + PRIOR * (1 - np.eye(5))
    assert strengths(wins) == pytest.approx(most_likely(with_prior), abs=1e-5)


def test_known_strengths_are_recovered_from_many_votes():
    assert strengths(cast(FIVE, 20_000)) == pytest.approx(FIVE, abs=0.005)


def test_not_all_pairs_of_editors_need_to_have_met():
    # i against i + 1 alone, as often as the truth says
    wins = np.zeros((5, 5))
    for one in range(4):
        both = FIVE[one] + FIVE[one + 1]
        wins[one, one + 1] = 1000 * FIVE[one] / both
        wins[one + 1, one] = 1000 * FIVE[one + 1] / both
    assert strengths(wins, prior=0) == pytest.approx(FIVE, abs=1e-4)


def test_who_won_every_vote_or_none_has_a_finite_strength_and_more_votes_show_more():
    always = np.array([[0.0, 9, 9], [0, 0, 5], [0, 4, 0]])
    nine, ninety = strengths(always), strengths(10 * always)
    assert nine[0] < ninety[0] < 1
    assert np.isfinite(nine).all()
    assert (nine > 0).all()
    assert strengths(np.zeros((3, 3))) == pytest.approx([1 / 3] * 3)


def test_draws_are_fitted_apart_and_the_diagonal_says_nothing():
    some = np.stack([cast(FIVE, 30, seed) for seed in range(4)])
    alone = [strengths(wins + 7 * np.eye(5)) for wins in some]
    assert strengths(some) == pytest.approx(np.stack(alone), abs=1e-8)

"""Win rates: counted by hand, Wilson's by scipy, and bootstraps that hold what they promise."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import scipy.stats

from ric.metrics.intervals import wilson_interval
from ric.scoring.votes import Vote, Votes
from ric.scoring.win_rates import WinRates, count_votes

# the mean over endless photos of which the log odds of winning are drawn from N(0.5, 1)
SHARE_OF_ALL_PHOTOS = float(
    (1 / (1 + np.exp(-np.random.default_rng(9).normal(0.5, 1.0, 1_000_000)))).mean()
)
TWO, THREE = ["Ours", "Theirs"], ["Ours", "Theirs", "None"]


def told(votes: list[Vote], voters: int = 1) -> Votes:
    return Votes(votes, voters, 0, [])


def votes_of_two(wins: int, losses: int, ties: int) -> list[Vote]:
    winners = ["Ours"] * wins + ["Theirs"] * losses + [None] * ties
    return [
        # on which side it stood says nothing
        Vote("v", f"p{at}", ("Ours", "Theirs") if at % 2 else ("Theirs", "Ours"), winner)
        for at, winner in enumerate(winners)
    ]


@pytest.mark.parametrize(("wins", "losses", "ties"), [(12, 8, 5), (0, 9, 0), (1, 0, 3)])
def test_of_two_editors_the_share_of_decided_votes_has_wilsons_interval(wins, losses, ties):
    counted = count_votes("5", TWO, told(votes_of_two(wins, losses, ties)))
    (rate,) = counted.rates
    assert (rate.wins, rate.losses, rate.ties) == (wins, losses, ties)
    assert rate.share == wins / (wins + losses)
    expected = scipy.stats.binomtest(wins, wins + losses).proportion_ci(method="wilson")
    assert rate.interval == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert counted.strengths == []
    assert counted.votes == wins + losses + ties


def test_votes_without_a_winner_alone_have_no_share():
    (rate,) = count_votes("5", TWO, told(votes_of_two(0, 0, 4))).rates
    assert (rate.share, rate.interval, rate.ties) == (None, None, 4)
    assert rate.in_words == "Ours against Theirs: 4 votes, none of them decided"


def simulated(
    generator: np.random.Generator, voters: int, photos: int, spread: tuple[float, float]
) -> list[Vote]:
    """Draw votes on three editors of log strengths 0.8, 0.3, 0 and effects of photo and voter."""
    logs = np.array([0.8, 0.3, 0.0])
    of_photo = generator.normal(0, spread[0], (photos, 3))
    of_voter = generator.normal(0, spread[1], (voters, 3))
    votes = []
    for photo in range(photos):
        both = [(0, 1), (0, 2), (1, 2)][photo % 3]
        for voter in range(voters):
            all_of_it = logs + of_photo[photo] + of_voter[voter]
            share = 1 / (1 + np.exp(all_of_it[both[1]] - all_of_it[both[0]]))
            winner = both[0] if generator.uniform() < share else both[1]
            editors = (THREE[both[0]], THREE[both[1]])
            votes.append(Vote(f"v{voter}", f"p{photo}", editors, THREE[winner]))
    return votes


@pytest.mark.parametrize(("voters", "photos"), [(1, 40), (5, 40), (10, 40), (5, 20)])
def test_a_share_s_interval_covers_it_about_19_times_in_20_also_where_voters_agree(voters, photos):
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        shares = 1 / (1 + np.exp(-generator.normal(0.5, 1.0, photos)))
        winners = generator.uniform(size=(voters, photos)) < shares
        votes = [
            Vote(f"v{voter}", f"p{photo}", ("Ours", "Theirs"), TWO[not winners[voter, photo]])
            for voter in range(voters)
            for photo in range(photos)
        ]
        (rate,) = count_votes("5", TWO, told(votes, voters)).rates
        assert rate.interval
        hits += rate.interval[0] <= SHARE_OF_ALL_PHOTOS <= rate.interval[1]
    print(hits / 200)
    assert hits / 200 >= 0.88  # of 0.94 to 0.96 in 1,500 simulations


@pytest.mark.parametrize(("photos", "lost"), [(40, 0), (11, 3), (2, 1)])
def test_a_share_of_two_voters_stays_within_0_and_1_and_is_never_certain(photos, lost):
    votes = [
        Vote(voter, f"p{at}", ("Ours", "Theirs"), TWO[voter == "b" and at < lost])
        for at in range(photos)
        for voter in "ab"
    ]
    (rate,) = count_votes("5", TWO, told(votes, 2)).rates
    assert 0 < rate.interval[0] < rate.share <= rate.interval[1] <= 1
    # no surer than of as many photos as there are votes, and no less sure than of the photos
    most, least = (
        scipy.stats.binomtest(2 * photos - lost, 2 * photos).proportion_ci(method="wilson"),
        wilson_interval(rate.share, photos),
    )
    assert least[0] - 1e-6 <= rate.interval[0] <= most.low + 1e-6


def strengths_of(votes: list[Vote], seed: int = 0) -> WinRates:
    return count_votes("5", THREE, told(votes), seed=seed)


def test_of_more_than_two_the_strengths_are_those_of_all_votes_and_sum_to_1():
    votes = simulated(np.random.default_rng(0), 1, 6000, (0, 0))
    counted = strengths_of(votes)
    truth = np.exp([0.8, 0.3, 0.0]) / np.exp([0.8, 0.3, 0.0]).sum()
    assert [one.value for one in counted.strengths] == pytest.approx(list(truth), abs=0.02)
    assert sum(one.value for one in counted.strengths) == pytest.approx(1)
    for one in counted.strengths:
        assert one.interval
        assert one.interval[0] < one.value < one.interval[1]
    pairs = [(rate.label, rate.against) for rate in counted.rates]
    assert pairs == list(combinations(THREE, 2))


@pytest.mark.parametrize(
    ("voters", "photos", "spread"),
    [(1, 60, (0, 0)), (8, 30, (1.0, 0)), (8, 60, (0.5, 0.5))],
    ids=["one voter", "photos differ", "photos and voters differ"],
)
def test_the_interval_of_a_strength_covers_it_19_times_in_20(voters, photos, spread):
    generator = np.random.default_rng(1)
    # what endless votes would give: with effects, it is not that of the mean editor
    many = simulated(np.random.default_rng(2), 60, 600, spread)
    truth = [one.value for one in strengths_of(many).strengths]
    hits = np.array(
        [
            [
                one.interval is not None and one.interval[0] <= true <= one.interval[1]
                for one, true in zip(strengths_of(votes, seed).strengths, truth, strict=True)
            ]
            for seed in range(60)
            if (votes := simulated(generator, voters, photos, spread))
        ]
    )
    print(hits.mean(axis=0))
    assert hits.mean() >= 0.9


def test_one_voter_on_one_photo_has_no_interval_and_the_seed_decides_the_rest():
    once = [Vote("v", "p", ("Ours", "Theirs"), "Ours"), Vote("v", "p", ("None", "Ours"), None)]
    assert [one.interval for one in strengths_of(once).strengths] == [None] * 3
    votes = simulated(np.random.default_rng(0), 3, 20, (0, 0))
    assert strengths_of(votes) == strengths_of(votes)
    assert strengths_of(votes, seed=1).strengths != strengths_of(votes).strengths
    # the order of the files does not say who is better
    ours = {one.label: one.value for one in strengths_of(votes[::-1]).strengths}
    assert ours == pytest.approx({one.label: one.value for one in strengths_of(votes).strengths})


def test_an_editor_without_votes_is_not_shown():
    counted = strengths_of(votes_of_two(3, 2, 0))
    assert counted.editors == TWO
    assert counted.strengths == []

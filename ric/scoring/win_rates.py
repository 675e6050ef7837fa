"""Win rates of editors by votes: shares of wins, and Bradley-Terry strengths of more than two.

A share is of decided votes, those that name a winner: with Wilson's interval, of fewer trials than
there are votes where voters agree about some photos. Strengths have percentile intervals by the
pigeonhole bootstrap (Owen 2007): voters are drawn with replacement, and photos are, and a vote
counts as often as its voter was drawn times as often as its photo was. Both make votes alike; where
neither does, the intervals are wider than they need to be.
"""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ric.metrics.bradley_terry import strengths
from ric.metrics.intervals import mean_interval, photo_numbers, wilson_interval

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ric.scoring.votes import Votes

    Array = NDArray[np.float64]
    Numbers = NDArray[np.int64]
    Interval = tuple[float, float]

RESAMPLES = 1000


class WinRate(NamedTuple):
    """One editor's votes against another.

    Attributes:
        label: The editor.
        against: The other.
        wins: Votes for `label`.
        losses: Votes for `against`.
        ties: Votes for neither.
        interval: The 95 % interval of the share; None without a decided vote, or for several votes
            on one photo.
    """

    label: str
    against: str
    wins: int
    losses: int
    ties: int
    interval: Interval | None

    @property
    def share(self) -> float | None:
        """The share of wins among decided votes; None where no vote is decided."""
        decided = self.wins + self.losses
        return self.wins / decided if decided else None

    @property
    def in_words(self) -> str:
        """Share, interval and ties in a line."""
        if self.share is None:
            return f"{self.label} against {self.against}: {self.ties} votes, none of them decided"
        spread = "" if self.interval is None else " ({:.0%} to {:.0%})".format(*self.interval)
        return (
            f"{self.label} against {self.against}: wins {self.share:.0%}{spread}"
            f" of {self.wins + self.losses} decided votes, {self.ties} without"
            " difference"
        )


class Strength(NamedTuple):
    """An editor's Bradley-Terry strength; None for the interval of one voter and one photo."""

    label: str
    value: float
    interval: Interval | None

    @property
    def in_words(self) -> str:
        """Strength and interval in a line."""
        spread = "" if self.interval is None else " ({:.3f} to {:.3f})".format(*self.interval)
        return f"{self.label}: strength {self.value:.3f}{spread}"


class WinRates(NamedTuple):
    """The outcome of a study.

    Attributes:
        study: The hash that names it.
        editors: Those that were compared.
        voters: How many voted.
        votes: How many votes there are, ties among them.
        unanswered: How many pairs voters have passed over.
        rates: Each two editors that were compared, once.
        strengths: Of more than two editors; empty for two.
        notes: A line for each file that does not count, or not again.
    """

    study: str
    editors: list[str]
    voters: int
    votes: int
    unanswered: int
    rates: list[WinRate]
    strengths: list[Strength]
    notes: list[str]

    @property
    def in_words(self) -> list[str]:
        """All strengths and shares, a line each."""
        return [
            *(one.in_words for one in self.strengths),
            *(rate.in_words for rate in self.rates),
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return all as JSON-ready values."""
        return {
            **{name: getattr(self, name) for name in ("study", "voters", "votes", "unanswered")},
            "rates": [
                {**rate._asdict(), "share": rate.share, **_ends(rate.interval)}
                for rate in self.rates
            ],
            "strengths": [
                {"label": one.label, "value": one.value, **_ends(one.interval)}
                for one in self.strengths
            ],
        }


def count_votes(study: str, editors: Sequence[str], told: Votes, *, seed: int = 0) -> WinRates:
    """Count the votes of a study.

    Args:
        study: The hash that names it.
        editors: Their labels, in the order in which they are shown.
        told: The answers.
        seed: Seeds the bootstrap.
    """
    rates = []
    for label, against in combinations(editors, 2):
        votes = [one for one in told.votes if set(one.editors) == {label, against}]
        decided = [one for one in votes if one.winner is not None]
        wins = [float(one.winner == label) for one in decided]
        if votes:
            spread = _share_interval(wins, [one.photo for one in decided])
            lost, tied = wins.count(0), len(votes) - len(wins)
            rates.append(WinRate(label, against, wins.count(1), lost, tied, spread))
    compared = [
        label for label in editors if any(label in (rate.label, rate.against) for rate in rates)
    ]
    return WinRates(
        study,
        compared,
        told.voters,
        len(told.votes),
        told.unanswered,
        rates,
        _strengths(compared, told, seed) if len(compared) > 2 else [],
        told.notes,
    )


def _share_interval(wins: Sequence[float], photos: Sequence[str]) -> Interval | None:
    """Return the 95 % interval of the share of wins among decided votes."""
    if len(wins) == 1:
        return wilson_interval(wins[0], 1)
    return mean_interval(wins, photos=photos, share=True) if wins else None


def _strengths(editors: Sequence[str], told: Votes, seed: int) -> list[Strength]:
    """Return each editor's strength with its interval."""
    places = {label: place for place, label in enumerate(editors)}
    # ties decide nothing, but their voters and photos are among those that are drawn
    voter_V = photo_numbers([one.voter for one in told.votes], len(told.votes))
    photo_V = photo_numbers([one.photo for one in told.votes], len(told.votes))
    cell_V = np.full(len(told.votes), -1)  # winner and loser, as a place among E x E
    for at, one in enumerate(told.votes):
        if one.winner is not None:
            loser = one.editors[one.winner == one.editors[0]]
            cell_V[at] = places[one.winner] * len(editors) + places[loser]
    decided = cell_V >= 0

    def wins(weight_V: Array) -> Array:
        counts = np.bincount(cell_V[decided], weight_V[decided], len(editors) ** 2)
        return counts.astype(np.float64).reshape(len(editors), len(editors))

    values_E = strengths(wins(np.ones(len(cell_V))))
    draws = [wins(weight_V) for weight_V in _drawn_weights(voter_V, photo_V, seed)]
    if not draws:
        return [Strength(label, float(values_E[at]), None) for label, at in places.items()]
    ends_2E = np.quantile(strengths(np.stack(draws)), (0.025, 0.975), axis=0)
    return [
        Strength(label, float(values_E[at]), (float(ends_2E[0, at]), float(ends_2E[1, at])))
        for label, at in places.items()
    ]


def _drawn_weights(voter_V: Numbers, photo_V: Numbers, seed: int) -> Iterator[Array]:
    """Yield how often each vote counts in each draw (V,); nothing of one voter and one photo."""
    voters, photos = int(voter_V.max()) + 1, int(photo_V.max()) + 1
    if voters == photos == 1:
        return
    generator = np.random.default_rng(seed)
    for _ in range(RESAMPLES):
        of_voter, of_photo = (
            generator.multinomial(count, np.full(count, 1 / count)) for count in (voters, photos)
        )
        yield (of_voter[voter_V] * of_photo[photo_V]).astype(np.float64)


def _ends(interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {"low": interval[0], "high": interval[1]}

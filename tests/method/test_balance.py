"""Alignments balanced against the noise term."""

from __future__ import annotations

import pytest

from ric.method.balance import DECAY, Balance


def test_a_factor_brings_an_alignments_gradient_to_the_ratio_of_the_noise_terms():
    balance = Balance(0.5, {})
    assert balance.factors() == {"region": 0, "global": 0}  # nothing was measured
    balance.update({"noise": 2.0, "region": 40.0, "global": 0.0})
    factors = balance.factors()
    assert factors["region"] * 40 == pytest.approx(0.5 * 2)
    assert factors["global"] == 0  # no sample was aligned
    balance.update({"noise": 1.0, "region": float("nan"), "global": 8.0})
    noise = DECAY * 2 + (1 - DECAY) * 1
    assert balance.factors() == pytest.approx(
        {"region": 0.5 * noise / 40, "global": 0.5 * noise / 8}
    )


def test_clipping_shortens_the_longer_gradients_and_leaves_the_shorter():
    clip = Balance(0.5, {}, clips=True)
    assert clip.factors() == {"region": 0, "global": 0}  # nothing was measured
    clip.update({"noise": 2.0, "region": 40.0, "global": 0.25})
    assert clip.factors() == {"region": pytest.approx(0.5 * 2 / 40), "global": 1}


def test_averages_are_kept_where_a_checkpoint_finds_them():
    norms: dict[str, float] = {}
    Balance(1.0, norms).update({"noise": 2.0, "region": 4.0})
    assert Balance(1.0, dict(norms)).factors() == {"region": 0.5, "global": 0}

"""Every command killed and signalled at random moments, and cut as by a loss of power, ends whole.

The moments are calls of the system that touch DATA or the run (tests/ric_child.py), drawn by a
seed.
"""

from __future__ import annotations

import pytest
from disturbed_runs import COMMANDS, disturb

# the fits of judges go through the loop of train-unet
SHORT = {"describe": 2, "edit": 2, "eval": 2, "train-unet": 1}


@pytest.mark.parametrize("command", SHORT)
def test_killed_and_signalled_a_few_times_it_ends_as_the_undisturbed_run(
    command, undisturbed, disturbed
):
    disturb(disturbed(command), undisturbed(command), SHORT[command], "short")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_and_signalled_again_and_again_it_ends_as_the_undisturbed_run(
    command, seed, undisturbed, disturbed
):
    disturb(disturbed(command), undisturbed(command), 12, f"long {seed}")

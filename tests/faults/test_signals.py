"""Every command killed and signalled at random moments, and cut as by a loss of power, ends whole.

The moments are calls of the system that touch DATA or the run (tests/ric_child.py), drawn by a
seed.
"""

from __future__ import annotations

import pytest
from disturbed_runs import COMMANDS, disturb

# a fit of BLIP goes through the same loop
SHORT = {"describe": 3, "edit": 3, "eval": 3, "fit-clip": 2, "train-unet": 2}


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

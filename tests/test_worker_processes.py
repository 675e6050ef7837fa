"""Processes that work for a command, and what is said when one of them is ended."""

from __future__ import annotations

import os

import pytest

from ric.errors import RicError
from ric.worker_processes import worker_processes


def test_a_worker_that_is_ended_from_outside_is_one_line_and_a_hint():
    with (
        pytest.raises(RicError, match=r"One of 1 worker processes was killed") as raised,
        worker_processes(1) as pool,
    ):
        pool.submit(os._exit, 9).result()
    assert raised.value.hint == "Free some memory, and repeat the command."

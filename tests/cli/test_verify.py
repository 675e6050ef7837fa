"""`ric verify` as it is typed."""

from __future__ import annotations

import json

import pytest

import ric.recipes.verify as recipe
from ric.recipes.verify import CHECKS, Compared, Verified


@pytest.fixture
def outcomes(monkeypatch):
    """Choose what the checks find."""

    def choose(*found: Verified) -> None:
        monkeypatch.setattr(recipe, "verify", lambda *_: list(found))

    return choose


EQUAL = Verified(CHECKS[0], [Compared("1", "1", 0.0, 1e-4)])
DIFFERS = Verified(CHECKS[4], [Compared("1", "2", 0.5, 1e-4)])
SKIPPED = Verified(CHECKS[2], [], skipped="not here")


@pytest.mark.parametrize(
    ("found", "code"),
    [((EQUAL, SKIPPED), 0), ((EQUAL, DIFFERS), 1), ((SKIPPED,), 3)],
)
def test_the_exit_code_tells_whether_a_check_failed_or_none_could_be_made(
    ric, outcomes, found, code
):
    outcomes(*found)
    assert ric("verify", "--quiet").code == code
    told = json.loads(ric("verify", "--json").out)
    assert [one["result"] for one in told["checks"]] == [one.result for one in found]


def test_the_table_is_markdown_with_versions_below(ric, outcomes):
    outcomes(EQUAL, DIFFERS, SKIPPED)
    *table, blank, versions = ric("verify", "--quiet").out.splitlines()
    assert {line.count("|") for line in table} == {7}
    assert [line.split(" | ")[-1] for line in table[2:]] == [
        "equal |", "DIFFERS |", "skipped: not here |",
    ]  # fmt: skip
    assert blank == ""
    assert versions.startswith("torch ")

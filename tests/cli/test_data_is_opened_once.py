"""A command opens DATA once: its checks do, and the recipe reads what they have opened."""

from __future__ import annotations

import pytest

from ric.data import opened


@pytest.fixture
def openings(monkeypatch) -> list[str]:
    """Count what is opened, by the names of the functions that open it."""
    found: list[str] = []

    def counting(name):
        real = getattr(opened, name)

        def counted(*given, **named):
            found.append(name)
            return real(*given, **named)

        monkeypatch.setattr(opened, name, counted)

    counting("samples_of")
    counting("find_photos")
    return found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("describe", "{data}", "--show", 1), ["samples_of"]),
        (("edit", "{data}", "--editor", "none", "--split", "all"), ["find_photos", "samples_of"]),
        (("describe", "{data}", "--dry-run"), ["samples_of"]),
        (("edit", "{data}", "--editor", "none", "--dry-run"), ["find_photos", "samples_of"]),
        (("edit", "{data}/0.png", "--editor", "none"), ["find_photos"]),
        (
            ("eval", "Mine={data}", "--data", "{data}", "--metrics", "l1", "--split", "all"),
            ["samples_of"],
        ),
    ],
    ids=["describe", "edit", "describe's dry run", "edit's dry run", "edit a photo", "eval"],
)
def test_a_command_opens_its_data_once(words, expected, ric, data, openings):
    words = [str(word).format(data=data) for word in words]
    said = ric(*words, "--preset", "tiny", "--limit", "1")
    assert said.code == 0, said.err
    assert openings == expected

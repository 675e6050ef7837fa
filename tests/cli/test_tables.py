"""Tables on stdout: nothing in them is cut, whatever the width."""

from __future__ import annotations

import pytest
from rich.table import Table

from ric_cli.tables import print_table

IDS = ["openai/clip-vit-base-patch16", "vinesmsuic/magicbrush-jul7"]
TERMS = "Some words on what may be done with it, and what may not."
NUMBER = "-0.0130 [-0.0318, +0.0058]"


def weights() -> Table:
    table = Table("id", "size", "terms", title="Weights")
    for name in IDS:
        table.add_row(name, "about 602 MB", TERMS)
    return table


def scores() -> tuple[Table, Table]:
    """Two editors' scores, with a column for each metric, and with one for each editor."""
    metrics = ["CLIP-I[tiny]", "LPIPS[scene-net]", "FID[scene-net]"]
    rows = [["Ours", "0.9778", "0.7140", "51.33"], ["Theirs", "0.9743", "0.7229", "-13.6538"]]
    wide, high = Table("", *metrics), Table("", *(row[0] for row in rows))
    for row in rows:
        wide.add_row(*row)
    for cells in zip(metrics, *(row[1:] for row in rows), strict=True):
        high.add_row(*cells)
    return wide, high


@pytest.fixture
def printed(monkeypatch, capsys):
    def show(width: int | None, *tables: Table, **named: object) -> tuple[str, str]:
        monkeypatch.delenv("COLUMNS", raising=False)
        if width is not None:
            monkeypatch.setenv("COLUMNS", str(width))
        print_table(*tables, **named)
        return capsys.readouterr()

    return show


def longest(text: str) -> int:
    return max(map(len, text.splitlines()))


def test_in_a_pipe_a_table_is_as_wide_as_it_needs(printed):
    table = Table("what", "is")
    table.add_row("[red]", "x" * 500)
    out, _ = printed(None, table)
    assert "x" * 500 in out
    assert "[red]" in out


@pytest.mark.parametrize("width", [20, 34, 48, 60, 80, 120])
def test_no_id_is_cut_at_any_width_and_lines_are_as_long_as_asked_where_words_allow(printed, width):
    out, _ = printed(width, weights())
    assert all(name in out for name in IDS)
    assert "\u2026" not in out
    assert set(TERMS.split()) <= set(out.replace("\u2502", " ").split())
    if width >= 60:
        assert longest(out) <= width


def test_columns_that_may_go_are_named_where_there_is_no_room(printed):
    out, err = printed(45, weights(), may_go=("terms", "size"))
    assert all(name in out for name in IDS)
    assert "602" in out
    assert "terms" not in out
    assert err == "No room for terms: --json shows all.\n"
    out, err = printed(36, weights(), may_go=("terms", "size"))
    assert "602" not in out
    assert err == "No room for terms and size: --json shows all.\n"


def test_a_table_that_is_too_wide_is_shown_in_its_other_layout(printed):
    out, _ = printed(80, *scores())
    assert "Theirs \u2502 0.9743" in " ".join(out.split())
    out, _ = printed(46, *scores())
    assert "LPIPS[scene-net] \u2502 0.7140 \u2502 0.7229" in " ".join(out.split())
    assert longest(out) <= 46


def test_where_no_layout_fits_each_row_is_a_block_of_lines(printed):
    out, _ = printed(20, *scores())
    assert out == (
        "Ours\n  CLIP-I[tiny]: 0.9778\n  LPIPS[scene-net]: 0.7140\n  FID[scene-net]: 51.33\n"
        "Theirs\n  CLIP-I[tiny]: 0.9743\n  LPIPS[scene-net]: 0.7229\n  FID[scene-net]: -13.6538\n"
    )


def test_a_list_of_settings_keeps_its_long_values_whole(printed):
    table = Table(show_header=False, box=None)
    table.add_row("config.data", "/a/long/path/" + "x" * 90)
    out, _ = printed(40, table)
    assert out == f"config.data /a/long/path/{'x' * 90}\n"

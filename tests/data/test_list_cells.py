"""Columns whose cells are lists: which item each sample gets, and what a bad cell costs."""

from __future__ import annotations

import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ric.config import DescribeConfig
from ric.data.sample import load_samples, samples_of
from ric.errors import RicError, SampleError

PLAIN = "source=src,instruction=prompts"
WORDINGS = ["Add a bird.", "A bird, please.", "Put a bird there."]


@pytest.fixture
def table(tmp_path, noise, encoded):
    """Write a parquet file of the given lists, one a row, and of captions in step with them."""

    def write(*lists: list[str] | None, **others: list) -> str:
        rows = {
            "src": [encoded(noise(seed=n)) for n in range(len(lists))],
            "prompts": pa.array(lists, pa.list_(pa.string())),
        }
        pq.write_table(pa.table({**rows, **others}), tmp_path / "rows.parquet")
        return str(tmp_path / "rows.parquet")

    return write


def read(place: str, columns: str, seed: int = 0) -> tuple[list, list[SampleError]]:
    lost: list[SampleError] = []
    samples = load_samples(place, columns=columns, seed=seed).narrowed("all", None, lost.append)
    return list(samples), lost


def test_an_index_takes_that_item_of_each_list(table):
    place = table(WORDINGS, ["Snow.", "Rain."])
    for index in (0, 1):
        samples, lost = read(place, f"{PLAIN}[{index}]")
        assert [s.instruction for s in samples] == [WORDINGS[index], ["Snow.", "Rain."][index]]
        assert [s.id for s in samples] == ["0000000", "0000001"]
        assert lost == []


def test_a_star_makes_a_sample_of_every_item_with_an_id_of_its_own(table):
    place = table(WORDINGS, ["Snow."])
    samples, lost = read(place, f"{PLAIN}[*]")
    assert [(s.id, s.instruction) for s in samples] == [
        ("0000000-0", WORDINGS[0]),
        ("0000000-1", WORDINGS[1]),
        ("0000000-2", WORDINGS[2]),
        ("0000001-0", "Snow."),
    ]
    assert lost == []
    assert len({s.group() for s in samples[:3]}) == 1  # one photo, so one side of every split
    assert samples[0].group() != samples[3].group()
    assert load_samples(place, columns=f"{PLAIN}[*]").row_count is None


def test_random_is_drawn_by_the_seed_and_the_id_alone(table):
    place = table(*[WORDINGS] * 300, name=pa.array([f"photo-{n}" for n in range(300)]))
    drawn = {
        seed: {s.id: s.instruction for s in read(place, f"{PLAIN}[random],id=name", seed)[0]}
        for seed in (0, 1)
    }
    counted = Counter(drawn[0].values())
    assert set(counted) == set(WORDINGS)
    # 100 expected of each; five standard deviations of a binomial with 300 and 1/3
    assert all(abs(count - 100) < 5 * (300 * 1 / 3 * 2 / 3) ** 0.5 for count in counted.values())
    assert drawn[0] != drawn[1]
    few = table(*[WORDINGS] * 20, name=pa.array([f"photo-{n}" for n in reversed(range(20))]))
    again = {s.id: s.instruction for s in read(few, f"{PLAIN}[random],id=name")[0]}
    assert again == {name: drawn[0][name] for name in again}


def test_the_seed_of_random_is_the_runs_and_changes_the_fingerprint(table):
    place, columns = table(*[WORDINGS] * 20), f"{PLAIN}[random]"
    one, other = (
        samples_of(DescribeConfig(data=place, columns=columns, seed=seed)) for seed in (3, 4)
    )
    assert [s.instruction for s in one] == [s.instruction for s in read(place, columns, 3)[0]]
    assert [s.instruction for s in one] != [s.instruction for s in other]
    assert one.fingerprint != other.fingerprint
    plain = [load_samples(place, columns=f"{PLAIN}[0]", seed=seed).fingerprint for seed in (3, 4)]
    assert plain[0] == plain[1]


@pytest.mark.parametrize("pick", ["[random]", "[*]"])
def test_two_lists_are_read_in_step(table, pick):
    captions = [[f"caption {n}" for n in range(3)]] * 30
    place = table(*[["0", "1", "2"]] * 30, captions=captions)
    samples, _ = read(place, f"{PLAIN}{pick},target_text=captions{pick}")
    assert samples
    assert all(s.target_text == f"caption {s.instruction}" for s in samples)


@pytest.mark.parametrize(
    ("pick", "bad", "reason"),
    [
        ("[1]", ["Snow."], "There is no prompts[1]: its prompts has length 1."),
        ("[2]", ["Snow."], "There is no prompts[2]: its prompts has length 1."),
        ("[0]", [], "Its prompts is an empty list or none."),
        ("[*]", [], "Its prompts is an empty list or none."),
        ("[random]", None, "Its prompts is an empty list or none."),
    ],
)
def test_a_list_without_the_item_is_a_failure_row_and_the_rest_goes_on(table, pick, bad, reason):
    samples, lost = read(table(WORDINGS, bad, WORDINGS), f"{PLAIN}{pick}")
    assert {s.id[:7] for s in samples} == {"0000000", "0000002"}
    ((name, place, told),) = [(error.sample_id, error.row, error.reason) for error in lost]
    assert (name, place, told) == ("0000001", "rows.parquet:2", reason)


def test_an_item_that_is_blank_costs_its_own_sample_alone(table):
    samples, lost = read(table(["Snow.", "", "Rain."]), f"{PLAIN}[*]")
    assert [s.id for s in samples] == ["0000000-0", "0000000-2"]
    assert [error.sample_id for error in lost] == ["0000000-1"]
    assert "no instruction" in lost[0].reason


def test_lists_of_two_lengths_are_a_failure_row_under_a_star(table):
    place = table(WORDINGS, captions=[["a", "b"]])
    samples, lost = read(place, f"{PLAIN}[*],target_text=captions[*]")
    assert samples == []
    assert lost[0].reason == "Its lists differ in length: prompts 3, captions 2."


def test_a_cell_that_is_no_list_is_a_failure_row(table):
    samples, lost = read(table(WORDINGS, words=["Snow."]), "source=src,instruction=words[0]")
    assert samples == []
    assert lost[0].reason == "Its words is a str, not a list."


def test_a_column_that_is_itself_called_so_is_meant(table):
    place = table(WORDINGS, **{"prompts[0]": ["Snow."]})
    samples, _ = read(place, f"{PLAIN}[0]")
    assert [s.instruction for s in samples] == ["Snow."]


def test_a_missing_column_is_named_without_the_pick(table):
    with pytest.raises(RicError, match=r"has no column 'words'\."):
        read(table(WORDINGS), "source=src,instruction=words[0]")


def test_an_id_from_a_list_is_refused(table):
    with pytest.raises(RicError, match="cannot take the id from a list"):
        read(table(WORDINGS), f"{PLAIN}[0],id=prompts[1]")


def test_the_rows_of_our_own_folder_may_hold_lists_too(tmp_path, noise):
    rows = []
    for name in ("a", "b"):
        noise().save(tmp_path / f"{name}.png")
        rows.append({"source_file_name": f"{name}.png", "prompts": WORDINGS})
    del rows[1]["prompts"]
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "metadata.jsonl").write_text(text)
    samples, lost = read(str(tmp_path), "instruction=prompts[*]")
    assert [(s.id, s.instruction) for s in samples] == [
        (f"a-{n}", words) for n, words in enumerate(WORDINGS)
    ]
    assert [(error.sample_id, error.row) for error in lost] == [("b", "metadata.jsonl:2")]
    assert load_samples(tmp_path, columns="instruction=prompts[*]").row_count == 4
    with pytest.raises(RicError, match="has no column 'words'"):
        read(str(tmp_path), "instruction=words[*]")

"""The memory in which `ric edit` reads a table of any length: rows, ids, and what is done already.

    python benchmarks/rows.py [--rows N] [--kind jsonl|csv|parquet] [--done]

By default 5,000,000 rows of a metadata.jsonl (1.5 GB in a temporary folder), read as `ric edit`
reads them: counted for the bar, then in batches, in the order of the table, with a check that no id
comes twice. No picture is opened. With `--done` the run has a row for each sample already, as one
that is repeated, and those are read as well. The peak of the resident memory is printed at the
start, after the count and after every tenth of the rows, and the result is appended to
benchmarks/results/rows-<machine>.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
from _results import append_result, measured_here

from ric.config import EditConfig
from ric.data.sample import samples_of
from ric.recipes.edit import _batches, _counts
from ric.runs.rows import read_rows
from ric.settings import resolve_config

if TYPE_CHECKING:
    from collections.abc import Iterator

TENTHS = 10


def row(number: int) -> dict[str, str]:
    """Make a row of a usual width."""
    return {
        "id": f"sample-{number:08d}",
        "source_file_name": f"source/{number % 1000:03d}/{number:08d}.jpg",
        "target_file_name": f"target/{number % 1000:03d}/{number:08d}.jpg",
        "instruction": f"make the {number % 97}th thing on the left red, and its shadow longer",
        "region_text": f"a red thing, the {number % 97}th from the left",
        "split": "train",
    }


def write_table(folder: Path, kind: str, count: int) -> None:
    """Write a metadata table, a part at a time."""
    rows = map(row, range(count))
    if kind == "parquet":
        schema = pa.schema([(name, pa.string()) for name in row(0)])
        with pq.ParquetWriter(folder / "metadata.parquet", schema) as table:
            while part := [one for _, one in zip(range(100_000), rows, strict=False)]:
                table.write_table(pa.Table.from_pylist(part, schema))
        return
    with (folder / f"metadata.{kind}").open("w") as stream:
        if kind == "csv":
            table = csv.DictWriter(stream, list(row(0)))
            table.writeheader()
            table.writerows(rows)
        else:
            stream.writelines(json.dumps(one) + "\n" for one in rows)


def write_done(run: Path, count: int) -> None:
    """Write the row of an edit for each sample, as wide as `ric edit` writes it."""
    about = {"editor": "ip2p", "model": "timbrooks/instruct-pix2pix", "steps": 100, "seed": 0,
             "guidance": 7.5, "image_guidance": 1.5, "scheduler": "EulerAncestralDiscrete",
             "source_sha256": "0" * 64, "inputs": "0" * 32, "size": [512, 512]}  # fmt: skip
    with (run / "edits.jsonl").open("w") as stream:
        for number in range(count):
            name = row(number)["id"]
            stream.write(
                json.dumps({"id": name, "file_name": f"images/{name}.png", **about}) + "\n"
            )


def peak_mib() -> float:
    """Return the most memory that this process has had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_table(config: EditConfig, run: Path, count: int) -> Iterator[float]:
    """Read all rows as `ric edit` does; yield the peak before, once counted, after every tenth."""
    done = {row["id"] for kind in ("edits", "failures") for row in read_rows(run, kind)}
    yield peak_mib()
    samples = samples_of(config)
    assert _counts(samples, config, done) == (count, len(done))
    yield peak_mib()
    read = 0
    for batch in _batches(iter(samples), config):
        assert not done or done.issuperset(sample.id for sample in batch)
        before, read = read, read + len(batch)
        if read * TENTHS // count > before * TENTHS // count:
            yield peak_mib()
    assert read == count


def main() -> None:
    """Write the table, read it, print, append the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--kind", choices=("jsonl", "csv", "parquet"), default="jsonl")
    parser.add_argument("--done", action="store_true")
    asked = parser.parse_args()
    result: dict[str, Any] = measured_here(rows=asked.rows, kind=asked.kind, done=asked.done)
    with tempfile.TemporaryDirectory() as name:
        data, run = Path(name) / "data", Path(name) / "run"
        data.mkdir()
        run.mkdir()
        write_table(data, asked.kind, asked.rows)
        if asked.done:
            write_done(run, asked.rows)
        config = resolve_config(EditConfig, {"data": str(data), "preset": "tiny", "split": "all"})
        result["mib_before"], began = round(peak_mib()), time.process_time()
        peaks = []
        for peak in read_table(config, run, asked.rows):
            peaks.append(round(peak))
            place = ("before", "counted", *(f"{tenth}0 %" for tenth in range(1, TENTHS + 1)))
            print(f"{place[len(peaks) - 1]}: {peak:.0f} MiB", file=sys.stderr)
        result |= {"peaks_mib": peaks, "seconds": round(time.process_time() - began, 1)}
    print(json.dumps(result, indent=2))
    print(f"appended to {append_result('rows', result)}", file=sys.stderr)


if __name__ == "__main__":
    main()

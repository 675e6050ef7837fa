from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ric.data.sample import load_samples
from ric.errors import RicError, SampleError

COLUMNS = "source=source,instruction=instruction,id=id"

# A damaged table may end the process that reads it, so another one does.
READ_DAMAGED = """
import io, random, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from ric.data.sample import load_samples
from ric.errors import RicError

whole, columns, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
EXTREME = [0, 127, 128, 255]
for seed in range(count):
    draw = random.Random(seed)
    data = bytearray(whole.read_bytes())
    if seed % 4 == 0:
        data = data[: draw.randrange(len(data))]
    for _ in range(min(len(data), draw.choice([1, 1, 2, 5, 20]))):
        at = draw.randrange(len(data))
        data[at] = draw.choice([*EXTREME, data[at] ^ 1 << draw.randrange(8), draw.randrange(256)])
    damaged = whole.with_name(f"damaged-{seed}{whole.suffix}")
    damaged.write_bytes(data)
    failures = []
    try:
        samples = load_samples(damaged, columns=columns).reporting(failures.append)
        (samples.fingerprint, samples.row_count)
        for sample in samples:
            (sample.pictures.source[:1], sample.instruction.encode())
        print("failures" if failures else "read")
    except RicError as error:
        assert "\\n" not in error.message, error.message
        print("refused")
    damaged.unlink()
"""


@pytest.fixture
def rows():
    return [
        {
            "id": f"row-{n}",
            "instruction": f"edit {n} é",
            "source": {"bytes": b"x" * 50 * (1 + n % 3), "path": None},
        }
        for n in range(20)
    ]


def write(path, table: pa.Table):
    if path.suffix == ".parquet":
        pq.write_table(table, path, use_dictionary=False, compression="none")
        return path
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_damaged_tables_are_refused_or_read_and_never_end_the_process(tmp_path, rows, suffix):
    whole = write(tmp_path / f"whole{suffix}", pa.Table.from_pylist(rows))
    command = [sys.executable, "-c", READ_DAMAGED, str(whole), COLUMNS, "150"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    told = Counter(ran.stdout.split())
    assert sum(told.values()) == 150
    assert min(told[word] for word in ("read", "refused", "failures")) > 0, told


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_text_that_is_not_utf8_is_the_failure_of_its_row_alone(tmp_path, rows, suffix):
    table = pa.Table.from_pylist(rows[:3])
    words = pa.array([b"edit", b"pi\xf1a", "piña".encode()])
    table = table.set_column(1, "instruction", words.view(pa.string()))
    path = write(tmp_path / f"rows{suffix}", table)
    failures: list[SampleError] = []
    samples = list(load_samples(path, columns=COLUMNS).reporting(failures.append))
    assert [(s.id, s.instruction) for s in samples] == [("row-0", "edit"), ("row-2", "piña")]
    (failed,) = failures
    assert (failed.sample_id, failed.stage) == (f"rows{suffix}:2", "metadata")
    assert failed.reason == r"It holds text that is not UTF-8: b'pi\xf1a'."


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string())])
def test_texts_of_every_arrow_type_are_read(tmp_path, rows, kind):
    table = pa.Table.from_pylist(rows)
    table = table.set_column(1, "instruction", table["instruction"].cast(kind))
    samples = load_samples(write(tmp_path / "rows.arrow", table), columns=COLUMNS)
    assert [s.instruction for s in samples] == [row["instruction"] for row in rows]


def test_bad_rows_of_files_with_one_name_stand_under_ids_of_their_own(tmp_path, rows):
    bad = [{**row, "instruction": "", "id": None} for row in rows[:2]]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "rows.parquet", pa.Table.from_pylist([*bad, *rows[2:3]]))
    failures: list[SampleError] = []
    samples = load_samples(tmp_path, columns=COLUMNS).reporting(failures.append)
    assert [s.id for s in samples] == ["row-2"]
    assert [f.sample_id for f in failures] == [
        "0000000", "0000001", "0000003", "0000004", "b/rows.parquet:3",
    ]  # fmt: skip


def test_a_damaged_table_is_one_line_wherever_it_is_opened(tmp_path, rows):
    path = write(tmp_path / "rows.parquet", pa.Table.from_pylist(rows))
    samples = load_samples(path, columns=COLUMNS)
    path.write_bytes(path.read_bytes()[:200])
    for ask in (lambda: list(samples), lambda: samples.row_count):
        with pytest.raises(RicError, match=r"rows.parquet' cannot be read as a table"):
            ask()

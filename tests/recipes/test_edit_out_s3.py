"""Data in and edits out of an S3-compatible server, over the network of this machine.

They need `pip install s3fs 'moto[server]'`, which no other test does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import fsspec
import pytest

from ric.config import DescribeConfig, EditConfig, EvalConfig
from ric.data.sample import load_samples
from ric.errors import RicError
from ric.recipes.describe import describe
from ric.recipes.edit import edit
from ric.recipes.evaluate import evaluate
from ric.runs.uploads import MOST_IN_A_ROW

pytestmark = pytest.mark.slow

SECRET = "s3cret-key-of-a-test"
INVERTS = """
from PIL import ImageOps
class Inverts:
    def __init__(self, model, config, device): pass
    def edit(self, requests, between_steps=lambda: None):
        return [ImageOps.invert(request.image) for request in requests]
    def describe(self): return {}
"""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start a server with one bucket, and have `s3://` name it; it can be stopped."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    started = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    # what servers before it held, all servers of a process hold
    urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    type(files).clear_instance_cache()  # of servers before
    files.mkdir("bucket")
    yield started
    started.stop()
    type(files).clear_instance_cache()


@pytest.fixture
def into(tiny, edits, server, tmp_path):
    """Put a dataset into the bucket; return what makes the settings of its edits' way back."""
    (tmp_path / "inverts.py").write_text(INVERTS)
    fsspec.filesystem("s3").put(f"{edits}/", "bucket/data", recursive=True)
    usual = {"editor": f"{tmp_path}/inverts.py:Inverts", "split": "all", "batch_size": 1}

    def make(data: Path | str = "s3://bucket/data", **changes: Any) -> EditConfig:
        return tiny(EditConfig, data, **{**usual, "out": "s3://bucket/out", **changes})

    return make


def held() -> dict[str, bytes]:
    files = fsspec.filesystem("s3")
    files.invalidate_cache()
    paths = files.find("bucket/out")
    return {path.removeprefix("bucket/out/"): files.cat_file(path) for path in paths}


def forbid(*actions: str) -> None:
    """Forbid everyone to do something with the bucket."""
    files = fsspec.filesystem("s3")
    whole = ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"]
    rule = {"Effect": "Deny", "Principal": "*", "Action": [*actions], "Resource": whole}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    files.call_s3("put_bucket_policy", Bucket="bucket", Policy=policy)
    type(files).clear_instance_cache()


def pictures(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "images").glob("*.png")}


def rows(run: Path, kind: str) -> list[dict[str, Any]]:
    file = run / f"{kind}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_a_bucket_is_described_edited_into_itself_and_scored(into, tiny, follow, tmp_path):
    data = "s3://bucket/data"
    told = {"describer": "dataset", "split": "val"}
    described = follow(describe, tiny(DescribeConfig, data, **told), tmp_path / "described")
    assert len(rows(described, "descriptions")) >= 3
    run = follow(edit, into(), tmp_path / "run")
    assert held() == pictures(run)
    assert len(held()) == len(rows(run, "uploads")) == 11
    assert rows(run, "uploads")[0]["address"] == "s3://bucket/out/00.png"
    scored = tiny(EvalConfig, data, split="val", edits=(f"Mine={run}",), metrics="l1")
    follow(evaluate, scored, tmp_path / "scored")
    assert "Mine" in (tmp_path / "scored/table.md").read_text()
    for folder in (described, run, tmp_path / "scored"):
        assert not any(SECRET in file.read_text() for file in folder.glob("*.json*"))
    # another run refuses what is there
    with pytest.raises(RicError, match="11 of the results' files are in s3://bucket/out already"):
        follow(edit, into(), tmp_path / "second")
    assert held() == pictures(run)


def test_a_server_that_goes_away_costs_no_edit_and_gets_them_when_it_is_back(
    into, edits, server, follow, tmp_path, monkeypatch
):
    kind = fsspec.get_filesystem_class("s3")
    write, count = kind._pipe_file, iter(range(99))

    async def pipe_file(self: Any, path: str, data: bytes, **how: Any) -> Any:
        if next(count) == 4:
            server.stop()
        return await write(self, path, data, **how)

    monkeypatch.setattr(kind, "_pipe_file", pipe_file)
    kind.clear_instance_cache()  # those made before have the method as it was
    run = follow(edit, into(edits), tmp_path / "run")
    assert (len(rows(run, "uploads")), len(rows(run, "failures"))) == (4, 7)
    assert next(count) == 4 + MOST_IN_A_ROW  # then nothing is tried any more
    assert "Could not connect to the endpoint" in rows(run, "failures")[-1]["reason"]
    again = type(server)(ip_address="127.0.0.1", port=server._server.port, verbose=False)
    again.start()
    try:
        follow(edit, into(edits), run)
        assert held() == pictures(run)
    finally:
        again.stop()
    assert rows(run, "failures") == []


def test_buckets_that_are_not_there_or_are_gone_or_refuse_are_one_line(
    into, server, follow, tmp_path
):
    with pytest.raises(RicError, match="cannot be listed: The specified bucket does not exist"):
        follow(edit, into(out="s3://nobucket/out"), tmp_path / "run")
    with pytest.raises(RicError, match="No data at 's3://nobucket/data'"):
        load_samples("s3://nobucket/data")
    forbid("s3:PutObject")
    with pytest.raises(
        RicError, match=r"All 11 samples failed\. .* was not written .*(Forbidden|Denied)"
    ):
        follow(edit, into(), tmp_path / "refused")
    assert len(pictures(tmp_path / "refused")) == 11
    forbid("s3:ListBucket", "s3:GetObject")
    with pytest.raises(RicError, match=r"(looked up|read on): .*(Forbidden|Denied)"):
        load_samples("s3://bucket/data")
    server.stop()
    with pytest.raises(RicError, match=r"s3://bucket/data.*Could not connect to the endpoint"):
        load_samples("s3://bucket/data")

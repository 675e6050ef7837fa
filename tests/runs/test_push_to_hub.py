"""`--push-to-hub`, against a small hub on this machine that speaks the routes its client calls.

Large files go by git's LFS protocol: HF_HUB_DISABLE_XET turns the hub's newer storage off, whose
client talks to servers of its own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from ric.errors import RicError
from ric.runs.push_to_hub import push_to_hub, refuse_without_token

REPO = "someone/my-editor"
TOKEN = "hf_of_a_test"


class SmallHub(ThreadingHTTPServer):
    """Makes repositories, takes small files inside a commit and large ones by LFS."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.objects: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.refuses: dict[str, tuple[int, str]] = {}
        self.address = f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    server: SmallHub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._note()
        self._say(404, {"error": "Repository not found"})

    def do_PUT(self) -> None:
        self._note()
        body = self._body()
        self.server.objects[hashlib.sha256(body).hexdigest()] = body
        self._say(200, {})

    def do_POST(self) -> None:
        self._note()
        path, body = self.path.partition("?")[0], self._body()
        for route, (status, why) in self.server.refuses.items():
            if path.endswith(route):
                self._say(status, {"error": why, "url": f"{self.server.address}/{REPO}"})
                return
        if path == "/api/repos/create":
            self._say(200, {"url": f"{self.server.address}/{REPO}"})
        elif path == "/api/validate-yaml":
            self._say(200, {"errors": [], "warnings": []})
        elif path == f"/api/models/{REPO}/preupload/main":
            asked = json.loads(body)["files"]
            self._say(200, {"files": [self._mode(file) for file in asked]})
        elif path == f"/{REPO}.git/info/lfs/objects/batch":
            wanted = json.loads(body)["objects"]
            self._say(200, {"transfer": "basic", "objects": [self._place(one) for one in wanted]})
        elif path == f"/api/models/{REPO}/commit/main":
            self._commit([json.loads(line) for line in body.splitlines()])
        else:
            self._say(404, {"error": f"no route {path}"})

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".safetensors")
        return {**file, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        href = f"{self.server.address}/store/{one['oid']}"
        return {**one, "actions": {"upload": {"href": href}}}

    def _commit(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            value = row["value"]
            if row["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.objects[value["oid"]]
        url = f"{self.server.address}/{REPO}/commit/abc"
        self._say(200, {"commitUrl": url, "commitOid": "abc", "success": True})

    def _note(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        if not self.path.startswith("/store/"):
            self.server.tokens.add(self.headers.get("authorization"))

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _say(self, status: int, answer: dict[str, Any]) -> None:
        words = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(words)))
        self.end_headers()
        self.wfile.write(words)


@pytest.fixture
def hub() -> Iterator[SmallHub]:
    with SmallHub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    # the library reads these once, when it is imported
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "none"))


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """Write what a pipeline has of every kind of file, and a pickle that it should not have."""
    folder = tmp_path / "run 1/pipeline"
    (folder / "unet").mkdir(parents=True)
    (folder / "README.md").write_text("---\nlicense: other\n---\n# a pipeline\n")
    (folder / "model_index.json").write_text('{"_class_name": "X"}')
    (folder / "unet/config.json").write_text("{}")
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(bytes(range(256)) * 999)
    (folder / "unet/old.bin").write_bytes(b"a pickle")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_every_file_arrives_byte_for_byte_and_no_pickle(hub, pipeline):
    url = push_to_hub(pipeline, REPO, endpoint=hub.address)
    expected = contents(pipeline)
    del expected["unet/old.bin"]
    assert hub.files == expected
    assert len(hub.objects) == 1  # the weights took the way of large files
    assert hub.tokens == {f"Bearer {TOKEN}"}
    assert url == f"{hub.address}/{REPO}/commit/abc"


def test_a_repository_that_is_there_gets_another_commit(hub, pipeline):
    hub.refuses["/api/repos/create"] = (409, "You already created this model repo")
    push_to_hub(pipeline, REPO, endpoint=hub.address)
    assert "model_index.json" in hub.files


@pytest.mark.parametrize("route", ["/api/repos/create", "/commit/main"])
def test_a_refusal_says_that_the_pipeline_is_whole_and_how_to_upload_it_later(hub, pipeline, route):
    before = contents(pipeline)
    hub.refuses[route] = (403, "Forbidden")
    with pytest.raises(RicError) as error:
        push_to_hub(pipeline, REPO, endpoint=hub.address)
    assert error.value.message == (
        f"The result is complete in {pipeline}, but was not uploaded to {REPO}: this login"
        " has no write access."
    )
    assert error.value.hint == f"Upload it later: hf upload {REPO} '{pipeline}'"
    assert contents(pipeline) == before


def test_a_hub_that_is_broken_or_gone_says_so_in_one_line(hub, pipeline):
    hub.refuses["/info/lfs/objects/batch"] = (418, "I am a teapot")
    with pytest.raises(RicError, match=r"was not uploaded to someone/my-editor: .*418"):
        push_to_hub(pipeline, REPO, endpoint=hub.address)
    gone = "http://127.0.0.1:9"  # the port of discard, where nobody listens
    with pytest.raises(RicError, match=r"complete in .* was not uploaded") as error:
        push_to_hub(pipeline, REPO, endpoint=gone)
    assert "\n" not in error.value.message


def test_without_a_login_nothing_is_asked(hub, pipeline, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RicError, match="needs a login to the hub, and there is none") as error:
        push_to_hub(pipeline, REPO, endpoint=hub.address)
    assert error.value.hint == (
        "Set HF_TOKEN to a token with write access, or log in: hf auth login"
    )
    assert hub.asked == []


def test_a_stored_login_is_taken(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "stored").write_text(TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "stored"))
    refuse_without_token(REPO)


def test_offline_nothing_is_asked(hub, pipeline, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(RicError, match="needs a connection, but HF_HUB_OFFLINE is set") as error:
        push_to_hub(pipeline, REPO, endpoint=hub.address)
    assert f"hf upload {REPO} RUN/pipeline" in error.value.hint
    assert hub.asked == []


@pytest.mark.parametrize("name", ["a/b/c", "no spaces/here", ""])
def test_what_is_no_id_is_told_before_anything_else(name, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(RicError, match="is not a repository id"):
        refuse_without_token(name)

"""What is fetched from the hub and from elsewhere, and what may go wrong on the way."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import http.server
import re
import shutil
import threading
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from ric.progress import Silent
from ric.weights import (
    Weight,
    check_weights,
    fetch,
    find_weight,
    get_weights,
    resolve_weights,
    revision_of,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IP2P = "timbrooks/instruct-pix2pix"
CLIP = "openai/clip-vit-base-patch16"


@pytest.fixture
def open_network(monkeypatch):
    monkeypatch.setattr(fetch, "require_connection", lambda *_, **__: None)


class FakeHub:
    """Stands where the hub's client meets the network: fills a snapshot as it would."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[dict] = []

    def __call__(self, name, *, revision, allow_patterns, ignore_patterns, cache_dir):
        self.asked.append({"revision": revision, "allow": allow_patterns})
        folder = Path(cache_dir) / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT
        for file, content in self.files.items():
            allowed = any(fnmatch(file, pattern) for pattern in allow_patterns)
            if allowed and not any(fnmatch(file, pattern) for pattern in ignore_patterns):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
        return str(folder)


def test_a_model_is_fetched_at_its_pinned_revision_without_pickles(
    open_network, monkeypatch, safetensors_bytes
):
    fake = FakeHub(
        {
            "config.json": b"{}",
            "model.safetensors": safetensors_bytes(),
            "pytorch_model.bin": b"x",
            "tf_model.h5": b"x",
        }
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    folder = resolve_weights(CLIP)
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert fake.asked[0]["revision"] == find_weight(CLIP).revision
    assert revision_of(folder) == COMMIT


def test_what_a_user_should_know_is_said_before_the_download(
    open_network, monkeypatch, safetensors_bytes
):
    said = []
    fake = FakeHub({"model.safetensors": safetensors_bytes()})
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    get_weights(find_weight("deepseek-ai/deepseek-vl2-tiny"), SimpleNamespace(note=said.append))
    noted = dataclasses.replace(find_weight(CLIP), note="Read its card.")
    get_weights(noted, SimpleNamespace(note=said.append))
    assert said == [
        "Fetching deepseek-ai/deepseek-vl2-tiny (6.75 GB), DeepSeek License (the code: MIT).",
        f"Fetching {CLIP} (about 602 MB), MIT (of the CLIP code). Read its card.",
    ]


def test_a_pipeline_is_fetched_without_its_root_checkpoint_and_safety_checker(
    open_network, monkeypatch, tmp_path, safetensors_bytes, model_folder, pipeline_folder
):
    source = pipeline_folder(tmp_path / "source")
    (source / "instruct-pix2pix-00-22000.safetensors").write_bytes(safetensors_bytes())
    model_folder(source / "safety_checker")
    files = {
        str(file.relative_to(source)): file.read_bytes()
        for file in source.rglob("*")
        if file.is_file()
    }
    monkeypatch.setattr("huggingface_hub.snapshot_download", FakeHub(files))
    folder = resolve_weights(IP2P)
    assert sorted(part.name for part in folder.iterdir()) == [
        "model_index.json",
        "text_encoder",
        "unet",
    ]


@pytest.fixture
def pickled_pipeline(tmp_path, pipeline_folder) -> dict[str, bytes]:
    """The files of a pipeline whose models are pickles alone."""
    import torch

    folder = pipeline_folder(tmp_path / "source")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "text_encoder" / "model.safetensors").unlink()
    torch.save({"w": torch.arange(3.0)}, folder / "unet" / "diffusion_pytorch_model.bin")
    torch.save({"v": torch.ones(2)}, folder / "text_encoder" / "pytorch_model.bin")
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_known_repository_of_pickles_is_converted_once(
    open_network, monkeypatch, tmp_path, pickled_pipeline
):
    from safetensors.torch import load_file

    fake = FakeHub(pickled_pipeline)
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    folder = resolve_weights("vinesmsuic/magicbrush-jul7")
    assert folder == tmp_path / "cache/ric/weights/vinesmsuic--magicbrush-jul7"
    assert load_file(folder / "unet/diffusion_pytorch_model.safetensors")["w"].tolist() == [0, 1, 2]
    assert load_file(folder / "text_encoder/model.safetensors")["v"].tolist() == [1, 1]
    assert not list(folder.rglob("*.bin"))
    assert revision_of(folder) == COMMIT
    asked = len(fake.asked)
    assert resolve_weights("vinesmsuic/magicbrush-jul7") == folder
    assert len(fake.asked) == asked


def test_cached_pickles_of_a_known_repository_need_no_network(hub, pickled_pipeline):
    for name, content in pickled_pipeline.items():
        file = hub / f"models--vinesmsuic--magicbrush-jul7/snapshots/{COMMIT}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    said = []
    progress = Noting(said)
    folder = get_weights(find_weight("vinesmsuic/magicbrush-jul7"), progress)
    assert check_weights(folder) == []
    assert "only its tensors, running no code" in said[0]
    sizes = sorted(len(data) for name, data in pickled_pipeline.items() if name.endswith(".bin"))
    assert said[1] == ("converting", sum(sizes))
    assert sorted(said[2:]) == sizes


class Noting(Silent):
    """Keeps what it is told."""

    def __init__(self, said: list) -> None:
        self.said = said

    def note(self, message: str) -> None:
        self.said.append(message)

    def stage(self, name, total=None, done=0, unit="steps"):
        self.said.append((name, total))
        return super().stage(name, total, done, unit)

    def advance(self, count: int = 1, **values: float) -> None:
        self.said.append(count)


def half_precision(folder: Path) -> dict[str, bytes]:
    """The files of a pipeline whose models are half-precision copies alone."""
    for file in folder.rglob("*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safe", ".fp16.safe")))
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_half_precision_copies_alone_get_their_plain_names_whoever_publishes_them(
    open_network, monkeypatch, tmp_path, pipeline_folder
):
    files = half_precision(pipeline_folder(tmp_path / "source"))
    fake = FakeHub(files | {"unet/diffusion_pytorch_model.bin": b"x"})
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    folder = resolve_weights("someone/half")
    assert folder == tmp_path / "cache/ric/weights/someone--half"
    name = "diffusion_pytorch_model{}.safetensors"
    written = (folder / "unet" / name.format("")).read_bytes()
    assert written == files["unet/" + name.format(".fp16")]
    assert not list(folder.rglob("*.bin"))
    asked = len(fake.asked)
    assert resolve_weights("someone/half") == folder
    assert len(fake.asked) == asked


def test_cached_half_precision_copies_need_no_network(hub, tmp_path, pipeline_folder):
    place = hub / f"models--someone--half/snapshots/{COMMIT}"
    half_precision(pipeline_folder(place))
    before = sorted(place.rglob("*"))
    folder = resolve_weights("someone/half")
    assert check_weights(folder) == []
    assert sorted(place.rglob("*")) == before


def test_an_unknown_repository_of_pickles_is_refused(open_network, monkeypatch, refusal):
    fake = FakeHub({"config.json": b"{}", "pytorch_model.bin": b"x"})
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    error = refusal(resolve_weights, "someone/model")
    assert "someone/model publishes no complete set of safetensors" in error.message
    assert "ric weights convert FOLDER NEW_FOLDER" in error.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RepositoryNotFoundError", "The hub has no public repository"),
        ("GatedRepoError", "asks you to accept its licence first"),
        ("HfHubHTTPError", "failed: 503 from the hub"),
    ],
)
def test_what_the_hub_answers_is_said_in_words(open_network, monkeypatch, name, words, refusal):
    import huggingface_hub.errors

    answer = SimpleNamespace(headers={}, request=None, status_code=503)
    failure = getattr(huggingface_hub.errors, name)("503 from the hub", response=answer)

    def fail(*_, **__):
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert words in refusal(resolve_weights, "someone/model").message


def test_a_disk_that_is_too_small_is_told_before_the_download(open_network, monkeypatch, refusal):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**9))
    error = refusal(resolve_weights, IP2P)
    assert re.search(r"needs about 4.27 GB, and .* has 1 GB left", error.message)
    assert "HF_HOME" in error.hint


@pytest.fixture
def file_server(tmp_path):
    """Serve a folder on this machine."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield tmp_path / "served", f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def single_file(url: str, digest: str) -> Weight:
    return Weight(
        id="net",
        kind="file",
        revision=digest,
        size_bytes=5,
        licence="MIT",
        conditions="none",
        purpose="a test",
        file_name=f"net-{digest}.pth",
        url=f"{url}/net-{digest}.pth",
    )


def test_a_single_file_is_fetched_into_torchs_cache_and_checked(file_server, tmp_path):
    served, url = file_server
    digest = hashlib.sha256(b"hello").hexdigest()[:8]
    (served / f"net-{digest}.pth").write_bytes(b"hello")
    file = get_weights(single_file(url, digest))
    assert file == tmp_path / f"cache/torch/hub/checkpoints/net-{digest}.pth"
    assert file.read_bytes() == b"hello"
    assert check_weights(file) == []


def test_a_file_that_arrives_broken_is_not_kept(file_server, tmp_path, refusal):
    served, url = file_server
    (served / "net-00000000.pth").write_bytes(b"hello")
    error = refusal(get_weights, single_file(url, "00000000"))
    assert "net arrived broken: its SHA-256 begins with 2cf24dba" in error.message
    assert not list((tmp_path / "cache/torch/hub/checkpoints").iterdir())


def test_a_file_that_is_not_published_any_more_is_told(file_server, refusal):
    _, url = file_server
    error = refusal(get_weights, single_file(url, "00000000"))
    assert "Fetching net failed: HTTP Error 404" in error.message
    assert "ric weights get net" in error.hint

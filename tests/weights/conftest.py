"""Empty caches, no proxy, a hub that refuses at once, and small files in every layout."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from ric.errors import RicError


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("RIC_CACHE_DIR", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed_port = probe.getsockname()[1]
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port}")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache, empty."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def refusal() -> Callable[..., RicError]:
    """Call something that must end in a RicError, and give the error."""

    def refused(call: Callable[..., object], *args: object, **kwargs: object) -> RicError:
        with pytest.raises(RicError) as raised:
            call(*args, **kwargs)
        return raised.value

    return refused


@pytest.fixture
def safetensors_bytes() -> Callable[..., bytes]:
    """Write the format out by hand: 8 bytes of length, JSON, data."""

    def write(values: bytes = bytes(8), shape: tuple[int, ...] = (2,)) -> bytes:
        header = {"w": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, len(values)]}}
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + values

    return write


@pytest.fixture
def model_folder(safetensors_bytes: Callable[..., bytes]) -> Callable[..., Path]:
    """Fill a folder with a model of one tensor."""

    def fill(folder: Path, name: str = "model.safetensors") -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text("{}")
        (folder / name).write_bytes(safetensors_bytes())
        return folder

    return fill


@pytest.fixture
def pipeline_folder(model_folder: Callable[..., Path]) -> Callable[..., Path]:
    """Fill a folder with a pipeline of two models; its safety checker is not there."""

    def fill(folder: Path, unet: str = "diffusion_pytorch_model.safetensors") -> Path:
        model_folder(folder / "text_encoder")
        model_folder(folder / "unet", unet)
        index = {
            "_class_name": "StableDiffusionInstructPix2PixPipeline",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "scheduler": ["diffusers", "EulerAncestralDiscreteScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
        }
        (folder / "model_index.json").write_text(json.dumps(index))
        return folder

    return fill


@pytest.fixture
def snapshot() -> Callable[..., Path]:
    """Make a snapshot's folder in the hub's own layout; the test fills it."""

    def make(cache: Path, name: str, commit: str, branch: str | None = "main") -> Path:
        repository = cache / f"models--{name.replace('/', '--')}"
        if branch:
            ref = repository / "refs" / branch
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit)
        folder = repository / "snapshots" / commit
        folder.mkdir(parents=True)
        return folder

    return make

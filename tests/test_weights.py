"""Where pretrained weights are found, what is refused, and how fast a missing network is told."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from ric import weights
from ric.config import (
    DescribeConfig,
    EditConfig,
    EvalConfig,
    FitBlipConfig,
    FitClipConfig,
    TrainUnetConfig,
)
from ric.errors import RicError
from ric.weights import (
    WEIGHTS,
    Weight,
    check_weights,
    find_weight,
    get_weights,
    is_present,
    require_network,
    resolve_weights,
    revision_of,
    size_in_words,
    weights_for,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"
IP2P = "timbrooks/instruct-pix2pix"
CLIP = "openai/clip-vit-base-patch16"


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Give every test empty caches, no proxy, and a hub that refuses at once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def safetensors_bytes(values: bytes = bytes(8), shape: tuple[int, ...] = (2,)) -> bytes:
    """Write the format out by hand: 8 bytes of length, JSON, data."""
    header = {"w": {"dtype": "F32", "shape": list(shape), "data_offsets": [0, len(values)]}}
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + values


def model_folder(folder: Path, name: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / name).write_bytes(safetensors_bytes())
    return folder


def pipeline_folder(folder: Path, unet: str = "diffusion_pytorch_model.safetensors") -> Path:
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


def snapshot(cache: Path, name: str, commit: str, branch: str | None = "main") -> Path:
    """Give a snapshot's folder in the hub's own layout; the caller fills it."""
    repository = cache / f"models--{name.replace('/', '--')}"
    if branch:
        ref = repository / "refs" / branch
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(commit)
    folder = repository / "snapshots" / commit
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


# --- the table -----------------------------------------------------------------------------------


def test_every_weight_a_paper_preset_names_is_in_the_table():
    named = (
        DescribeConfig.model,
        FitClipConfig.clip,
        FitBlipConfig.blip,
        TrainUnetConfig.base,
        EditConfig.unet,
        EvalConfig.clip,
        EvalConfig.dino,
    )
    assert [name for name in named if find_weight(name) is None] == []


def test_ids_are_unique_and_every_row_is_filled_in():
    assert len({weight.id for weight in WEIGHTS}) == len(WEIGHTS)
    for weight in WEIGHTS:
        assert weight.licence
        assert weight.conditions
        assert weight.purpose
        assert weight.commands
        assert (weight.kind == "file") == bool(weight.file_name and weight.url)


def test_a_files_revision_is_the_hash_in_its_name():
    for weight in WEIGHTS:
        if weight.kind == "file":
            assert f"-{weight.revision}." in weight.file_name
            assert weight.url.endswith(weight.file_name)


def test_weights_for_a_command_lists_what_it_may_need():
    assert [w.id for w in weights_for("fit-blip")] == ["Salesforce/blip-itm-base-coco", "tiny"]
    assert [w.id for w in weights_for("train-unet")] == [IP2P, "vinesmsuic/magicbrush-jul7", "tiny"]


def test_sizes_are_written_with_three_digits():
    assert size_in_words(86_700_000) == "86.7 MB"
    assert size_in_words(6_750_000_000) == "6.75 GB"
    assert size_in_words(12) == "12 bytes"
    assert find_weight(IP2P).size == "about 4.27 GB"
    assert find_weight("tiny").size == "part of ric"


def test_importing_the_table_loads_neither_torch_nor_the_hub():
    code = (
        "import sys, ric.weights\n"
        "print([m for m in ('torch', 'transformers', 'huggingface_hub') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- finding -------------------------------------------------------------------------------------


def test_a_local_folder_is_taken_as_it_is(tmp_path):
    folder = model_folder(tmp_path / "mine")
    assert resolve_weights(str(folder)) == folder


@pytest.mark.parametrize("layout", ["openai--clip-vit-base-patch16", CLIP, CLIP.split("/")[1]])
def test_the_weights_folder_is_read_in_three_layouts(tmp_path, layout):
    folder = model_folder(tmp_path / "w" / layout)
    assert resolve_weights(CLIP, weights_dir=tmp_path / "w") == folder


def test_the_weights_folder_comes_before_the_hubs_cache(tmp_path, hub):
    model_folder(snapshot(hub, CLIP, COMMIT))
    folder = model_folder(tmp_path / "w" / CLIP)
    assert resolve_weights(CLIP, weights_dir=str(tmp_path / "w")) == folder


def test_the_hubs_cache_is_found_through_its_main_branch(hub):
    folder = model_folder(snapshot(hub, "someone/model", COMMIT))
    assert resolve_weights("someone/model") == folder
    assert is_present(find_weight(CLIP)) is None


def test_the_pinned_revision_comes_before_main(hub):
    model_folder(snapshot(hub, CLIP, COMMIT))
    pinned = model_folder(snapshot(hub, CLIP, find_weight(CLIP).revision, branch=None))
    assert resolve_weights(CLIP) == pinned


def test_a_pull_request_branch_is_found_where_the_hub_keeps_its_ref(hub):
    blip = find_weight("Salesforce/blip-itm-base-coco")
    folder = model_folder(snapshot(hub, blip.id, COMMIT, branch=blip.revision))
    assert resolve_weights(blip.id) == folder


def test_any_whole_snapshot_is_better_than_a_broken_main(hub):
    broken = snapshot(hub, CLIP, COMMIT)
    (broken / "config.json").write_text("{}")
    whole = model_folder(snapshot(hub, CLIP, OTHER, branch=None))
    assert resolve_weights(CLIP) == whole
    assert is_present(find_weight(CLIP)) == whole


def test_hf_home_moves_the_hubs_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    folder = model_folder(snapshot(tmp_path / "home" / "hub", CLIP, COMMIT))
    assert resolve_weights(CLIP) == folder


def test_a_single_file_is_found_in_torchs_cache_by_id_and_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = tmp_path / "torch/hub/checkpoints/weights-inception-2015-12-05-6726825d.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert resolve_weights("inception-2015-12-05") == file
    assert resolve_weights(file.name) == file
    assert resolve_weights(str(file)) == file


def test_a_pipeline_needs_its_models_but_not_the_safety_checker(hub):
    folder = pipeline_folder(snapshot(hub, IP2P, COMMIT))
    assert resolve_weights(IP2P) == folder
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert is_present(find_weight(IP2P)) is None


def test_half_precision_copies_do_not_make_a_pipeline_whole(hub):
    pipeline_folder(snapshot(hub, IP2P, COMMIT), "diffusion_pytorch_model.fp16.safetensors")
    assert is_present(find_weight(IP2P)) is None


def test_a_sharded_model_needs_every_shard(hub):
    folder = model_folder(snapshot(hub, CLIP, COMMIT), "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert is_present(find_weight(CLIP)) is None
    assert check_weights(folder) == [f"{folder / shards['b']}: is missing"]
    (folder / shards["b"]).write_bytes(safetensors_bytes())
    assert is_present(find_weight(CLIP)) == folder
    assert check_weights(folder) == []


def test_a_blob_that_was_deleted_does_not_count(hub):
    folder = snapshot(hub, CLIP, COMMIT)
    (folder / "model.safetensors").symlink_to("../../blobs/gone")
    assert is_present(find_weight(CLIP)) is None


def test_the_revision_of_a_snapshot_is_its_commit(hub, tmp_path):
    folder = pipeline_folder(snapshot(hub, IP2P, COMMIT))
    assert revision_of(folder) == COMMIT
    assert revision_of(folder / "unet") == COMMIT
    assert revision_of(tmp_path / "snapshots" / "mine") is None


# --- refusing ------------------------------------------------------------------------------------


def refusal(call, *args, **kwargs) -> RicError:
    with pytest.raises(RicError) as raised:
        call(*args, **kwargs)
    return raised.value


def test_a_folder_of_pickles_is_refused_with_the_command_that_converts_it(tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"x")
    error = refusal(resolve_weights, str(folder))
    assert "holds its weights as a pickle (pytorch_model.bin)" in error.message
    assert "could run any code" in error.message
    assert error.hint == (
        f"Keep its tensors alone: ric weights convert {folder / 'pytorch_model.bin'} "
        f"{folder / 'model.safetensors'}"
    )


def test_a_cached_repository_of_pickles_is_refused_when_ric_does_not_know_it(hub):
    folder = snapshot(hub, "someone/model", COMMIT)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "ric weights convert" in refusal(resolve_weights, "someone/model").hint


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth"])
def test_a_pickle_file_is_refused_whether_it_exists_or_not(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    error = refusal(resolve_weights, str(file))
    assert "does not exist, and a pickle would not be loaded" in error.message
    assert "ric weights convert FILE OUT" in error.hint
    file.write_bytes(b"x")
    error = refusal(resolve_weights, str(file))
    assert "could run any code" in error.message
    assert f"ric weights convert {file} {tmp_path / 'model.safetensors'}" in error.hint


def test_a_folder_without_weights_is_called_incomplete(tmp_path):
    pipeline_folder(tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "unet")
    error = refusal(resolve_weights, str(tmp_path / "half"))
    assert f"is incomplete: no whole safetensors in {tmp_path / 'half' / 'unet'}" in error.message


def test_a_path_that_does_not_exist_is_not_looked_up_on_the_hub():
    error = refusal(resolve_weights, "./runs/00004-train-unet/pipeline")
    assert "There is no folder ./runs/00004-train-unet/pipeline" in error.message
    assert "a hub id such as" in error.hint


def test_a_missing_weights_folder_is_named(tmp_path):
    error = refusal(resolve_weights, CLIP, weights_dir=tmp_path / "nowhere")
    assert f"The weights folder {tmp_path / 'nowhere'} does not exist." in error.message
    assert "org--name" in error.hint


def test_the_embedded_family_is_no_folder_of_weights():
    error = refusal(resolve_weights, "tiny")
    assert "'tiny' is the embedded family" in error.message
    assert "--preset tiny" in error.hint


def test_missing_embedded_weights_ask_for_a_new_installation(monkeypatch):
    monkeypatch.setattr(weights, "is_present", lambda *_: None)
    error = refusal(get_weights, find_weight("tiny"))
    assert "not in this installation of ric" in error.message


# --- the network ---------------------------------------------------------------------------------


def test_an_unreachable_hub_is_told_with_the_size_and_three_ways_out():
    error = refusal(resolve_weights, IP2P, needs="ric edit")
    assert error.message.startswith(
        f"{IP2P} (about 4.27 GB), which ric edit needs, is not on this machine, and 127.0.0.1 "
        "cannot be reached: Connection refused"
    )
    assert f"ric weights get {IP2P}" in error.hint
    assert "--weights" in error.hint
    assert error.hint.endswith("--preset tiny needs no download.")


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_mode_does_not_even_try(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it tried"))
    error = refusal(require_network, "a model (1 GB)", "Fetch it.")
    assert error.message == f"a model (1 GB) is not on this machine, and {variable} is set."
    assert error.hint == "Fetch it. --preset tiny needs no download."


def test_a_name_look_up_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(weights, "CONNECT_SECONDS", 0.2)
    enough = threading.Event()

    def hang(*_, **__):
        enough.wait(10)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    start = time.monotonic()
    error = refusal(require_network, "a model", "Fetch it.")
    assert time.monotonic() - start < 2
    enough.set()
    assert "no answer in 0.2 s" in error.message


def test_a_hub_that_answers_is_enough():
    with socket.create_server(("127.0.0.1", 0)) as server:
        require_network("a model", "", url=f"http://127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_is_asked_in_the_hubs_place(monkeypatch, variable):
    monkeypatch.setenv("HF_ENDPOINT", "https://no-such-host.invalid")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{server.getsockname()[1]}")
        require_network("a model", "")
    assert "127.0.0.1 cannot be reached" in refusal(require_network, "a model", "").message


def test_no_proxy_reaches_around_the_proxy(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        require_network("a model", "")


def test_without_any_network_it_takes_seconds_and_no_torch(tmp_path, monkeypatch):
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode != 0:
        pytest.skip("unshare -rn is not permitted here")
    monkeypatch.delenv("HF_ENDPOINT")
    code = (
        "import sys, time\n"
        "start = time.monotonic()\n"
        "from ric.errors import RicError\n"
        "from ric.weights import resolve_weights\n"
        "try: resolve_weights('timbrooks/instruct-pix2pix')\n"
        "except RicError as error: print(error.message, '|', error.hint)\n"
        "print(time.monotonic() - start, 'torch' in sys.modules)\n"
    )
    command = ["unshare", "-rn", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    said, measured = done.stdout.strip().splitlines()
    assert "timbrooks/instruct-pix2pix (about 4.27 GB) is not on this machine" in said
    assert "huggingface.co cannot be reached" in said
    assert "--preset tiny needs no download" in said
    seconds, torch_loaded = measured.split()
    assert float(seconds) < 6
    assert torch_loaded == "False"


# --- fetching ------------------------------------------------------------------------------------


@pytest.fixture
def open_network(monkeypatch):
    monkeypatch.setattr(weights, "require_network", lambda *_, **__: None)


class FakeHub:
    """Stands where the hub's client meets the network: fills a snapshot as it would."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.asked: list[dict] = []

    def __call__(self, name, *, revision, allow_patterns, ignore_patterns, cache_dir):
        self.asked.append({"revision": revision, "allow": allow_patterns})
        folder = Path(cache_dir) / f"models--{name.replace('/', '--')}" / "snapshots" / COMMIT
        for file, content in self.files.items():
            allowed = any(weights.fnmatch(file, pattern) for pattern in allow_patterns)
            if allowed and not any(weights.fnmatch(file, pattern) for pattern in ignore_patterns):
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).write_bytes(content)
        return str(folder)


def test_a_model_is_fetched_at_its_pinned_revision_without_pickles(open_network, monkeypatch):
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


def test_a_pipeline_is_fetched_without_its_root_checkpoint_and_safety_checker(
    open_network, monkeypatch, tmp_path
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


def pickled_pipeline(folder: Path) -> dict[str, bytes]:
    import torch

    pipeline_folder(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (folder / "text_encoder" / "model.safetensors").unlink()
    torch.save({"w": torch.arange(3.0)}, folder / "unet" / "diffusion_pytorch_model.bin")
    torch.save({"v": torch.ones(2)}, folder / "text_encoder" / "pytorch_model.bin")
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_known_repository_of_pickles_is_converted_once(open_network, monkeypatch, tmp_path):
    from safetensors.torch import load_file

    fake = FakeHub(pickled_pipeline(tmp_path / "source"))
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


def test_cached_pickles_of_a_known_repository_need_no_network(hub, tmp_path):
    for name, content in pickled_pipeline(tmp_path / "source").items():
        file = hub / f"models--vinesmsuic--magicbrush-jul7/snapshots/{COMMIT}" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    said = []
    progress = SimpleNamespace(note=said.append)
    folder = get_weights(find_weight("vinesmsuic/magicbrush-jul7"), progress)
    assert check_weights(folder) == []
    assert "its tensors alone, nothing is run" in said[0]


def test_an_unknown_repository_of_pickles_is_refused(open_network, monkeypatch):
    fake = FakeHub({"config.json": b"{}", "pytorch_model.bin": b"x"})
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake)
    error = refusal(resolve_weights, "someone/model")
    assert "someone/model publishes no whole set of safetensors" in error.message
    assert "ric weights convert FILE OUT" in error.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RepositoryNotFoundError", "The hub has no public repository"),
        ("GatedRepoError", "asks you to accept its licence first"),
        ("HfHubHTTPError", "failed: 503 from the hub"),
    ],
)
def test_what_the_hub_answers_is_said_in_words(open_network, monkeypatch, name, words):
    import huggingface_hub.errors

    answer = SimpleNamespace(headers={}, request=None, status_code=503)
    failure = getattr(huggingface_hub.errors, name)("503 from the hub", response=answer)

    def fail(*_, **__):
        raise failure

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    assert words in refusal(resolve_weights, "someone/model").message


def test_a_disk_that_is_too_small_is_told_before_the_download(open_network, monkeypatch):
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
        commands=("eval",),
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


def test_a_file_that_arrives_broken_is_not_kept(file_server, tmp_path):
    served, url = file_server
    (served / "net-00000000.pth").write_bytes(b"hello")
    error = refusal(get_weights, single_file(url, "00000000"))
    assert "net arrived broken: its SHA-256 begins with 2cf24dba" in error.message
    assert not list((tmp_path / "cache/torch/hub/checkpoints").iterdir())


def test_a_file_that_is_not_published_any_more_is_told(file_server):
    _, url = file_server
    error = refusal(get_weights, single_file(url, "00000000"))
    assert "Fetching net failed: HTTP Error 404" in error.message
    assert "ric weights get net" in error.hint


# --- checking ------------------------------------------------------------------------------------


def problem_of(tmp_path: Path, content: bytes) -> list[str]:
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    return [line.removeprefix(f"{file}: ") for line in check_weights(file)]


def test_a_file_that_safetensors_itself_wrote_is_whole(tmp_path):
    import torch
    from safetensors.torch import save_file

    tensors = {"a": torch.ones(3, 2), "b": torch.zeros(5, dtype=torch.bfloat16), "c": torch.ones(0)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert check_weights(tmp_path) == []


def test_broken_safetensors_are_named_with_what_is_wrong(tmp_path):
    whole = safetensors_bytes()
    assert problem_of(tmp_path, whole) == []
    assert problem_of(tmp_path, whole[:-3]) == [
        f"truncated: {len(whole) - 3} of {len(whole)} bytes"
    ]
    assert problem_of(tmp_path, whole[:20]) == ["truncated: its header is not all there (20 bytes)"]
    assert problem_of(tmp_path, b"") == ["truncated: its header is not all there (0 bytes)"]
    assert problem_of(tmp_path, whole + b"!") == ["1 bytes too long"]
    assert problem_of(tmp_path, (2).to_bytes(8, "little") + b"[]") == [
        "its header is not that of a safetensors file"
    ]
    assert problem_of(tmp_path, safetensors_bytes(shape=(3,))) == [
        "the tensor w has another size than its shape says"
    ]


def test_a_hole_between_tensors_is_found(tmp_path):
    header = {"w": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + bytes(3)
    assert problem_of(tmp_path, content) == [
        "the tensor w does not begin where the one before it ends"
    ]


def test_an_index_that_cannot_be_read_is_a_problem(tmp_path):
    model_folder(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{")
    assert "no index of shards can be read from it" in check_weights(tmp_path)[0]


def test_an_empty_or_missing_folder_is_a_problem(tmp_path):
    assert check_weights(tmp_path) == [f"{tmp_path}: holds no safetensors"]
    assert check_weights(tmp_path / "gone") == [f"{tmp_path / 'gone'}: does not exist"]


def test_a_file_is_checked_against_the_hash_in_its_name(tmp_path):
    file = tmp_path / "net-01234567.pth"
    file.write_bytes(b"hello")
    assert check_weights(file) == [
        f"{file}: its SHA-256 begins with 2cf24dba, its name says 01234567"
    ]
    plain = tmp_path / "net.pth"
    plain.write_bytes(b"hello")
    assert "its name holds no hash to check it against" in check_weights(plain)[0]

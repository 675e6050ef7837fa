"""Every pretrained weight `ric` may need: what it is, where it lies, and how it gets here.

One table, `WEIGHTS`, and one way in, `resolve_weights`: a local path, then the folder given with
`--weights`, then what `ric` converted itself, then the hub's cache and torch's, and only then the
network, after one connection attempt of three seconds. Nothing heavy is imported on the way, so a
machine without a network hears within seconds what is missing.

Revisions are pinned where the commit is known; "main" and "refs/pr/N" name a branch whose commit
is not, and a run records the commit that was found (`revision_of`). Sizes are those of the files
that are fetched; one that was computed from a parameter count, not read off the hub, says "about".
Only safetensors are loaded. A repository in the table that holds pickles alone is fetched once and
converted (`ric.convert` runs nothing that is in them) into `converted_home()`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from ric.errors import RicError
from ric.progress import Silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ric.progress import Progress

CONNECT_SECONDS = 3.0  # for the name look-up and the connection together
PICKLE_SUFFIXES = (".bin", ".ckpt", ".pt", ".pth")
NO_DOWNLOAD_HINT = "--preset tiny needs no download."

# A root checkpoint beside a pipeline's folders is the same model twice: take the folders alone.
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
PIPELINE_FILES = ("model_index.json", "*/*.safetensors", "*/*.json", "*/*.txt")
# The safety checker is 1.2 GB that no recipe loads; fp16 and non-EMA copies are the model again.
NEVER_FETCHED = ("safety_checker/*", "*.fp16.*", "*non_ema*")

Kind = Literal["hub", "file", "embedded"]


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One pretrained weight.

    Attributes:
        id: The hub's `org/name`, or a short name for a single file.
        kind: A hub repository, one file in torch's cache, or part of `ric` itself.
        revision: Commit, or branch where the commit is not known; of a file, its name's hash.
        size_bytes: What is fetched, in bytes.
        size_is_about: The size was computed or rounded, not read.
        licence: The licence's name.
        conditions: What it asks of whoever uses the weight.
        commands: The `ric` commands that may need it.
        purpose: What it does there.
        file_name: Of kind "file": its name in torch's hub cache (`hub/checkpoints`).
        url: Of kind "file": where it is published.
        allow_patterns: Of kind "hub": the files that are fetched.
        note: What else a user should know before fetching it.
    """

    id: str
    kind: Kind
    revision: str
    size_bytes: int
    licence: str
    conditions: str
    commands: tuple[str, ...]
    purpose: str
    size_is_about: bool = False
    file_name: str | None = None
    url: str | None = None
    allow_patterns: tuple[str, ...] = MODEL_FILES
    note: str = ""

    @property
    def size(self) -> str:
        """The size in words: `599 MB`, `about 4.3 GB`; what `ric` carries has none."""
        if self.kind == "embedded":
            return "part of ric"
        return ("about " if self.size_is_about else "") + size_in_words(self.size_bytes)


WEIGHTS: tuple[Weight, ...] = (
    Weight(
        id="openai/clip-vit-base-patch16",
        kind="hub",
        revision="57c216476eefef5ab752ec549e440a49ae4ae5f3",
        size_bytes=602_000_000,
        size_is_about=True,
        licence="MIT (of the CLIP code)",
        conditions="The model card asks that it is not deployed untested.",
        commands=("fit-clip",),
        purpose="region judge's backbone (CLIP ViT-B/16)",
    ),
    Weight(
        id="Salesforce/blip-itm-base-coco",
        kind="hub",
        revision="refs/pr/5",
        size_bytes=896_000_000,
        licence="BSD-3-Clause",
        conditions="Keep the copyright notice.",
        commands=("fit-blip",),
        purpose="scene judge's backbone (BLIP, image-text matching)",
        note="The main branch was seen with a pickle alone; this branch adds the safetensors.",
    ),
    Weight(
        id="timbrooks/instruct-pix2pix",
        kind="hub",
        revision="31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
        size_bytes=4_270_000_000,
        size_is_about=True,
        licence="MIT; its Stable Diffusion 1.5 parts CreativeML OpenRAIL-M",
        conditions="OpenRAIL-M's use restrictions pass on to whatever is fine-tuned from it.",
        commands=("train-unet", "edit"),
        purpose="InstructPix2Pix: the base of training and an editor",
        allow_patterns=PIPELINE_FILES,
    ),
    Weight(
        id="vinesmsuic/magicbrush-jul7",
        kind="hub",
        revision="main",
        size_bytes=4_270_000_000,
        size_is_about=True,
        licence="CreativeML OpenRAIL-M",
        conditions="Its use restrictions pass on to whatever is fine-tuned from it.",
        commands=("train-unet", "edit"),
        purpose="MagicBrush: InstructPix2Pix fine-tuned on hand-made edits",
        allow_patterns=PIPELINE_FILES,
        note="The hub holds pickles alone: they are converted once, which needs the space twice.",
    ),
    Weight(
        id="deepseek-ai/deepseek-vl2-tiny",
        kind="hub",
        revision="66c54660eae7e90c9ba259bfdf92d07d6e3ce8aa",
        size_bytes=6_750_000_000,
        licence="DeepSeek License (the code: MIT)",
        conditions="Use restrictions that pass on to derived models.",
        commands=("describe",),
        purpose="the paper's describer (DeepSeek-VL2-Tiny)",
        note="transformers cannot load it yet: a later version of ric brings a port.",
    ),
    Weight(
        id="deepseek-community/deepseek-vl-1.3b-chat",
        kind="hub",
        revision="main",
        size_bytes=3_960_000_000,
        size_is_about=True,
        licence="DeepSeek License (the code: MIT)",
        conditions="Use restrictions that pass on to derived models.",
        commands=("describe",),
        purpose="a describer of the same family that transformers loads as it is",
    ),
    Weight(
        id="openai/clip-vit-base-patch32",
        kind="hub",
        revision="refs/pr/32",
        size_bytes=609_000_000,
        licence="MIT (of the CLIP code)",
        conditions="The model card asks that it is not deployed untested.",
        commands=("eval",),
        purpose="CLIP-I and CLIP-T (CLIP ViT-B/32)",
        note="The main branch was seen with a pickle alone; this branch adds the safetensors.",
    ),
    Weight(
        id="facebook/dino-vits16",
        kind="hub",
        revision="a7a4d161f5c0bd70478c05ca5777ec7cd8848021",
        size_bytes=86_700_000,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        commands=("eval",),
        purpose="DINO similarity (ViT-S/16)",
        note="The main branch was seen with a pickle alone; this commit adds the safetensors.",
    ),
    Weight(
        id="inception-2015-12-05",
        kind="file",
        revision="6726825d",
        size_bytes=95_600_000,
        size_is_about=True,
        licence="Apache-2.0",
        conditions="Keep the notice.",
        commands=("eval",),
        purpose="FID, KID and Inception Score (Inception v3 as torch-fidelity loads it)",
        file_name="weights-inception-2015-12-05-6726825d.pth",
        url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
        "weights-inception-2015-12-05-6726825d.pth",
    ),
    Weight(
        id="lpips-alex",
        kind="file",
        revision="7be5be79",
        size_bytes=244_400_000,
        licence="BSD-3-Clause (torchvision)",
        conditions="Keep the copyright notice; trained on ImageNet.",
        commands=("eval",),
        purpose="LPIPS's backbone (AlexNet); its linear heads ship inside the lpips package",
        file_name="alexnet-owt-7be5be79.pth",
        url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    ),
    Weight(
        id="lpips-vgg",
        kind="file",
        revision="397923af",
        size_bytes=553_400_000,
        licence="BSD-3-Clause (torchvision)",
        conditions="Keep the copyright notice; trained on ImageNet.",
        commands=("eval",),
        purpose="LPIPS with --lpips-net vgg (VGG16)",
        file_name="vgg16-397923af.pth",
        url="https://download.pytorch.org/models/vgg16-397923af.pth",
    ),
    Weight(
        id="lpips-squeeze",
        kind="file",
        revision="b8a52dc0",
        size_bytes=4_960_000,
        licence="BSD-3-Clause (torchvision)",
        conditions="Keep the copyright notice; trained on ImageNet.",
        commands=("eval",),
        purpose="LPIPS outside the mask (SqueezeNet)",
        file_name="squeezenet1_1-b8a52dc0.pth",
        url="https://download.pytorch.org/models/squeezenet1_1-b8a52dc0.pth",
    ),
    Weight(
        id="tiny",
        kind="embedded",
        revision="",
        size_bytes=0,
        licence="Apache-2.0 (as ric)",
        conditions="none",
        commands=("describe", "fit-clip", "fit-blip", "train-unet", "edit", "eval"),
        purpose="--preset tiny: a family of small real models that needs no download",
    ),
)


def weights_for(command: str) -> list[Weight]:
    """List the weights that `ric COMMAND` may need, in the table's order."""
    return [weight for weight in WEIGHTS if command in weight.commands]


def find_weight(name: str) -> Weight | None:
    """Look a row up by its id or its file name."""
    return next((weight for weight in WEIGHTS if name in (weight.id, weight.file_name)), None)


def size_in_words(size_bytes: int) -> str:
    """Write a size with three digits: `86.7 MB`, `6.75 GB`."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= scale:
            return f"{size_bytes / scale:.3g} {unit}"
    return f"{size_bytes} bytes"


# --- finding -------------------------------------------------------------------------------------


def resolve_weights(
    name: str,
    *,
    weights_dir: str | Path | None = None,
    needs: str = "",
    progress: Progress | None = None,
) -> Path:
    """Find pretrained weights on this machine, or fetch them.

    Looks at a local path, then in `weights_dir` (`org--name`, `org/name`, `name`), in what `ric`
    converted, in the hub's cache (HF_HUB_CACHE, HF_HOME) or torch's (TORCH_HOME), and then asks
    the network.

    Args:
        name: A path, a hub id, or an id or file name of the table.
        weights_dir: The folder given with `--weights`.
        needs: Who asks, for the message: `ric fit-clip`, `the DINO metric`.
        progress: Who is told of a download.

    Returns:
        A folder that holds safetensors, or the file.

    Raises:
        RicError: It is not here and cannot be fetched, or it holds pickles alone.
    """
    weight = find_weight(name)
    if weight is not None and weight.kind == "embedded":
        raise RicError(
            f"{name!r} is the embedded family, which is no folder of weights.",
            "Use --preset tiny, which loads its members.",
        )
    local = Path(name)
    if local.exists():
        return _accept(local)
    if weights_dir is not None and not Path(weights_dir).is_dir():
        raise RicError(
            f"The weights folder {weights_dir} does not exist.",
            "Give --weights the folder that holds org--name folders, or leave it out.",
        )
    if weight is not None:
        return get_weights(weight, progress, weights_dir=weights_dir, needs=needs)
    found = _find(name, None, weights_dir)
    if found is not None:
        return _accept(found)
    _refuse_what_is_no_hub_id(name)
    unknown = Weight(
        id=name,
        kind="hub",
        revision="main",
        size_bytes=0,
        licence="licence: see its model card",
        conditions="",
        commands=(),
        purpose="",
    )
    return get_weights(unknown, progress, weights_dir=weights_dir, needs=needs)


def is_present(weight: Weight, weights_dir: str | Path | None = None) -> Path | None:
    """Give the weight's place on this machine, or None where it would have to be fetched."""
    if weight.kind == "embedded":
        folder = Path(__file__).parent / "assets" / "tiny"
        return folder if folder.is_dir() else None
    found = _find(weight.id, weight, weights_dir)
    return found if found is not None and _loadable(found) else None


def revision_of(path: Path) -> str | None:
    """Give the commit of a hub snapshot, of one `ric` converted, or None.

    Args:
        path: A folder `…/models--org--name/snapshots/COMMIT`, anything below it, or a folder of
            `converted_home()`.
    """
    for folder in (path, *path.parents):
        if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
            return folder.name
        note = folder / "converted.json"
        if note.is_file():
            return json.loads(note.read_text(encoding="utf-8")).get("revision")
    return None


def hub_cache() -> Path:
    """The hub's cache as its own variables name it: HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.path.expandvars(os.environ[variable])).expanduser()
    home = os.environ.get("HF_HOME") or str(_user_cache() / "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def torch_cache() -> Path:
    """The folder torch.hub keeps single files in, without importing torch."""
    home = os.environ.get("TORCH_HOME") or str(_user_cache() / "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def converted_home() -> Path:
    """Where `ric` keeps the safetensors it made of a repository's pickles."""
    return _user_cache() / "ric" / "weights"


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _find(name: str, weight: Weight | None, weights_dir: str | Path | None) -> Path | None:
    """Give the first loadable place; failing that, the first that pickles alone keep from it."""
    present = [place for place in _places(name, weight, weights_dir) if place.exists()]
    for place in present:
        if _loadable(place):
            return place
    return next((place for place in present if _only_pickled(place)), None)


def _places(name: str, weight: Weight | None, weights_dir: str | Path | None) -> Iterator[Path]:
    if weight is not None and weight.file_name is not None:
        if weights_dir is not None:
            yield Path(weights_dir) / weight.file_name
        yield torch_cache() / weight.file_name
        return
    if weights_dir is not None:
        root = Path(weights_dir)
        yield from (root / name.replace("/", "--"), root / name, root / name.rpartition("/")[2])
    yield converted_home() / name.replace("/", "--")
    yield from _snapshots(name, weight.revision if weight else "main")


def _snapshots(name: str, revision: str) -> Iterator[Path]:
    """List a repository's cached snapshots: the wanted revision, main, then any other."""
    repository = hub_cache() / f"models--{name.replace('/', '--')}"
    folders = repository / "snapshots"
    seen = set()
    for branch in (revision, "main"):
        ref = repository / "refs" / branch
        commit = ref.read_text(encoding="utf-8").strip() if ref.is_file() else branch
        seen.add(commit)
        yield folders / commit
    if folders.is_dir():
        yield from (folder for folder in sorted(folders.iterdir()) if folder.name not in seen)


def _accept(path: Path) -> Path:
    """Hand a place on, or say why it cannot be loaded."""
    if _loadable(path):
        return path
    pickles = _pickles_in(path)
    if pickles:
        target = pickles[0].with_name(_safetensors_name(pickles[0].name))
        raise RicError(
            f"{path} holds its weights as a pickle ({pickles[0].name}), which could run any code "
            "when it is loaded.",
            f"Keep its tensors alone: ric weights convert {pickles[0]} {target}",
        )
    missing = ", ".join(str(folder) for folder in _folders_without_weights(path))
    raise RicError(
        f"{path} is incomplete: no whole safetensors in {missing}.",
        "Copy or download it again; ric weights check names broken files.",
    )


def _loadable(path: Path) -> bool:
    """A folder whose every model has whole safetensors, or a file that is no unknown pickle."""
    if path.is_dir():
        return not _folders_without_weights(path)
    # the table's own .pth files are read with weights_only, by the packages that publish them
    return find_weight(path.name) is not None or path.suffix not in PICKLE_SUFFIXES


def _folders_without_weights(path: Path) -> list[Path]:
    return [folder for folder in _model_folders(path) if not _has_safetensors(folder)]


def _model_folders(path: Path) -> list[Path]:
    """The folders that must hold weights: the models of a pipeline, or the folder itself."""
    index = path / "model_index.json"
    if not index.is_file():
        return [path]
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
    except ValueError:
        return [path]
    weightless = ("*Scheduler", "*Tokenizer", "*TokenizerFast", "*Processor", "*Extractor")
    return [
        path / part
        for part, value in parts.items()
        if isinstance(value, list)
        and isinstance(value[-1], str)
        and part != "safety_checker"
        and not any(fnmatch(value[-1], pattern) for pattern in weightless)
    ]


def _has_safetensors(folder: Path) -> bool:
    for index in folder.glob("*.safetensors.index.json"):
        shards = _shards(index)
        if not shards or not all((folder / shard).exists() for shard in shards):
            return False
    return any(
        file.exists() and not any(fnmatch(file.name, pattern) for pattern in NEVER_FETCHED)
        for file in folder.glob("*.safetensors")
    )


def _shards(index: Path) -> set[str] | None:
    """The files a sharded model's index names; None when it cannot be read."""
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _pickles_in(path: Path) -> list[Path]:
    """The pickles that stand where safetensors should."""
    if path.is_file():
        return [path] if path.suffix in PICKLE_SUFFIXES else []
    return [
        file
        for folder in _folders_without_weights(path)
        for file in sorted(folder.glob("*"))
        if file.suffix in PICKLE_SUFFIXES and file.name != "training_args.bin"
    ]


def _only_pickled(path: Path) -> bool:
    """Every model that lacks safetensors has a pickle to make them from."""
    return set(_folders_without_weights(path)) <= {file.parent for file in _pickles_in(path)}


def _refuse_what_is_no_hub_id(name: str) -> None:
    if Path(name).suffix in PICKLE_SUFFIXES:
        raise RicError(
            f"{name} does not exist, and a pickle would not be loaded: it could run any code.",
            "Convert one with: ric weights convert FILE OUT",
        )
    # two parts at most, as the hub allows them; anything else was meant as a path
    if not re.fullmatch(r"[\w][\w.-]*(/[\w][\w.-]*)?", name):
        raise RicError(
            f"There is no folder {name}, and it is no hub id either.",
            "Give an existing folder, or a hub id such as timbrooks/instruct-pix2pix.",
        )


# --- the network ---------------------------------------------------------------------------------


def require_network(what: str, hint: str, *, url: str | None = None) -> None:
    """Make sure the hub answers before anything waits for it: one attempt, three seconds in all.

    Args:
        what: What is missing, with its size: `openai/clip-vit-base-patch16 (599 MB)`.
        hint: How to get it; that `--preset tiny` needs no download is added.
        url: The host to reach; the hub's (HF_ENDPOINT) when left out.

    Raises:
        RicError: HF_HUB_OFFLINE is set, or the host (or the proxy before it) cannot be reached.
    """
    hint = f"{hint.rstrip()} {NO_DOWNLOAD_HINT}"
    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(variable, "").upper() in {"1", "ON", "YES", "TRUE"}:
            raise RicError(f"{what} is not on this machine, and {variable} is set.", hint)
    endpoint = url or os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    host, port = _host_to_reach(endpoint)
    reason = _why_unreachable(host, port)
    if reason is not None:
        raise RicError(
            f"{what} is not on this machine, and {host} cannot be reached: {reason}.", hint
        )


def _host_to_reach(endpoint: str) -> tuple[str, int]:
    """The endpoint's host and port, or those of the proxy the environment puts before it."""
    target = urlsplit(endpoint)
    scheme, host = target.scheme or "https", target.hostname or endpoint
    proxy = _proxy_for(scheme, host)
    if proxy:
        before = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        ports = {"https": 443, "http": 80, "socks5": 1080, "socks5h": 1080}
        return before.hostname or proxy, before.port or ports.get(before.scheme, 80)
    return host, target.port or (80 if scheme == "http" else 443)


def _proxy_for(scheme: str, host: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(host):
        return None
    proxies = getproxies()
    return proxies.get(scheme) or proxies.get("all")


def _why_unreachable(host: str, port: int) -> str | None:
    """Try one connection; None says it stands."""
    outcome: list[str | None] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
            outcome.append(None)
        except TimeoutError:
            outcome.append(f"no answer in {CONNECT_SECONDS:g} s")
        except OSError as error:
            outcome.append(error.strerror or str(error))

    # getaddrinfo knows no timeout: a thread that may be left behind does
    attempt = threading.Thread(target=connect, daemon=True)
    attempt.start()
    attempt.join(CONNECT_SECONDS)
    return outcome[0] if outcome else f"no answer in {CONNECT_SECONDS:g} s"


# --- fetching ------------------------------------------------------------------------------------


def get_weights(
    weight: Weight,
    progress: Progress | None = None,
    *,
    weights_dir: str | Path | None = None,
    needs: str = "",
) -> Path:
    """Give the weight's place, after fetching it if it is not here.

    A repository of the table that holds pickles alone is converted into `converted_home()`; the
    pickles may come from the cache, which then needs no network.

    Args:
        weight: A row of `WEIGHTS`, or one made for another hub id.
        progress: Who is told; the hub draws its own bars on stderr.
        weights_dir: The folder given with `--weights`.
        needs: Who asks, for the message.

    Raises:
        RicError: No network, no such repository, no room, or pickles alone in an unknown one.
    """
    progress = progress or Silent()
    present = is_present(weight, weights_dir)
    if present is not None:
        return present
    if weight.kind == "embedded":
        raise RicError(
            f"The embedded weights {weight.id!r} are not in this installation of ric.",
            "Install ric again.",
        )
    found = _find(weight.id, weight, weights_dir)
    known = weight in WEIGHTS
    if found is not None:
        return _convert(weight, found, progress) if known else _accept(found)
    size = f" ({weight.size})" if weight.size_bytes else ""
    require_network(
        f"{weight.id}{size}" + (f", which {needs} needs," if needs else ""),
        f"With a network: ric weights get {weight.id}. Or give --weights a folder that holds it.",
        url=weight.url,
    )
    progress.note(f"Fetching {weight.id}{size}, {weight.licence}.")
    if weight.kind == "file":
        return _fetch_file(weight, progress)
    folder = _fetch_snapshot(weight, weight.allow_patterns)
    if _loadable(folder):
        return folder
    if not known:
        raise RicError(
            f"{weight.id} publishes no whole set of safetensors; its pickles are not loaded, "
            "they could run any code.",
            "Download it, ric weights convert FILE OUT each pickle, and name the folder instead.",
        )
    pickled = tuple(pattern.replace(".safetensors", ".bin") for pattern in weight.allow_patterns)
    return _convert(weight, _fetch_snapshot(weight, pickled), progress)


def _fetch_snapshot(weight: Weight, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    _require_room(weight, hub_cache())
    try:
        return Path(
            snapshot_download(
                weight.id,
                revision=weight.revision,
                allow_patterns=list(patterns),
                ignore_patterns=list(NEVER_FETCHED),
                cache_dir=hub_cache(),
            )
        )
    except GatedRepoError:
        raise RicError(
            f"{weight.id} asks you to accept its licence first.",
            "Accept it on its page, then set HF_TOKEN to a token of yours.",
        ) from None
    except RepositoryNotFoundError:
        raise RicError(
            f"The hub has no public repository {weight.id}.",
            "Check the spelling; for a private one set HF_TOKEN.",
        ) from None
    except Exception as error:
        # the hub, its HTTP client, its storage and the disk fail in classes of their own
        raise RicError(
            f"Fetching {weight.id} failed: {_first_line(error)}.",
            f"Repeat it to go on where it stopped: ric weights get {weight.id}",
        ) from None


def _fetch_file(weight: Weight, progress: Progress) -> Path:
    """Download one published file into torch's cache, checked against the hash in its name."""
    from http.client import HTTPException
    from urllib.request import urlopen

    assert weight.url is not None
    assert weight.file_name is not None
    target = torch_cache() / weight.file_name
    _require_room(weight, target.parent)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            urlopen(weight.url, timeout=30) as answer,
            open(partial, "wb") as file,
            progress.stage(weight.file_name, weight.size_bytes, unit="bytes") as stage,
        ):
            while block := answer.read(1 << 20):
                file.write(block)
                stage.advance(len(block))
            file.flush()
            os.fsync(file.fileno())
        problem = _wrong_hash(partial, weight.file_name)
        if problem:
            raise RicError(f"{weight.id} arrived broken: {problem}.", "Fetch it again.")
        os.replace(partial, target)
    except (OSError, HTTPException) as error:
        raise RicError(
            f"Fetching {weight.id} failed: {_first_line(error)}.",
            f"Repeat it: ric weights get {weight.id}",
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink()
    return target


def _convert(weight: Weight, snapshot: Path, progress: Progress) -> Path:
    """Turn a repository's pickles into safetensors, beside copies of its small files."""
    from ric.convert import convert_folder

    target = converted_home() / weight.id.replace("/", "--")
    progress.note(f"Converting {weight.id} into {target}: its tensors alone, nothing is run.")
    names = {pickle: _safetensors_name(pickle.name) for pickle in _pickles_in(snapshot)}
    _require_room(weight, target)
    convert_folder(snapshot, names, target, {"id": weight.id, "revision": revision_of(snapshot)})
    return _accept(target)


def _safetensors_name(pickle_name: str) -> str:
    """The name the libraries look for in a pickle's place."""
    stem = pickle_name.rpartition(".")[0]
    return ("model" if stem == "pytorch_model" else stem) + ".safetensors"


def _require_room(weight: Weight, folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < weight.size_bytes:
        raise RicError(
            f"{weight.id} needs {weight.size}, and {folder} has {size_in_words(free)} left.",
            "Make room, or set HF_HOME (TORCH_HOME for a single file) to a larger disk.",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# --- checking ------------------------------------------------------------------------------------

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "I16": 16, "U16": 16, "F16": 16,
    "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


def check_weights(path: Path) -> list[str]:
    """Look for broken files without loading them: headers against sizes, names against hashes.

    Args:
        path: A folder (all below it is checked), a safetensors file, or a file whose name ends in
            eight digits of its SHA-256, as torch's do.

    Returns:
        One line per problem; empty when everything is whole.
    """
    if path.is_file():
        problem = _problem_of(path)
        return [f"{path}: {problem}"] if problem else []
    if not path.is_dir():
        return [f"{path}: does not exist"]
    files = sorted(path.rglob("*.safetensors"))
    problems = [f"{file}: {problem}" for file in files if (problem := _problem_of(file))]
    for index in sorted(path.rglob("*.safetensors.index.json")):
        shards = _shards(index)
        if shards is None:
            problems.append(f"{index}: no index of shards can be read from it")
        missing = sorted(name for name in shards or () if not (index.parent / name).exists())
        problems += [f"{index.parent / name}: is missing" for name in missing]
    if not files and not problems:
        problems.append(f"{path}: holds no safetensors")
    return problems


def _problem_of(file: Path) -> str | None:
    if file.suffix == ".safetensors":
        return _header_problem(file)
    return _wrong_hash(file, file.name)


def _header_problem(file: Path) -> str | None:
    """Read a safetensors header: 8 bytes of length, JSON, then offsets that fill the file."""
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > size - 8:
                return f"truncated: its header is not all there ({size} bytes)"
            header = json.loads(stream.read(length))
            header.pop("__metadata__", None)
            spans = sorted((*entry["data_offsets"], name) for name, entry in header.items())
            for start, end, name in spans:
                bits = DTYPE_BITS.get(header[name]["dtype"])
                if bits is not None and math.prod(header[name]["shape"]) * bits // 8 != end - start:
                    return f"the tensor {name} has another size than its shape says"
    except OSError as error:
        return error.strerror or str(error)
    except (ValueError, KeyError, TypeError, AttributeError):
        return "its header is not that of a safetensors file"
    position = 0
    for start, end, name in spans:
        if start != position:
            return f"the tensor {name} does not begin where the one before it ends"
        position = end
    expected = 8 + length + position
    if size < expected:
        return f"truncated: {size} of {expected} bytes"
    return f"{size - expected} bytes too long" if size > expected else None


def _wrong_hash(file: Path, published_name: str) -> str | None:
    """Compare a file with the eight digits of SHA-256 that end its published name."""
    match = re.search(r"-([0-9a-f]{8})\.\w+$", published_name)
    if match is None:
        return "no safetensors file, and its name holds no hash to check it against"
    with open(file, "rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest.startswith(match[1]):
        return None
    return f"its SHA-256 begins with {digest[:8]}, its name says {match[1]}"

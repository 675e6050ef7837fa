"""Find and load the metric networks of `ric eval`, or say why one is not available."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ric.errors import RicError
from ric.metric_table import OWN_NETWORK, metrics_of
from ric.metrics.clip_similarity import PUBLISHED, ClipSimilarity
from ric.metrics.dino_similarity import DinoSimilarity
from ric.metrics.inception import InceptionFeatures
from ric.metrics.lpips_distance import LpipsDistance
from ric.metrics.networks import NOT_ASKED, MetricNetworks, Unavailable
from ric.metrics.scene_net import SceneNet
from ric.metrics.structure_distance import StructureDistance
from ric.models.locate import locate, locate_named
from ric.models.table import EVAL_NETWORKS, ModelRow, NamedModel, eval_networks
from ric.protocols import PROTOCOLS
from ric.registry import load_part
from ric.runs.artifacts import public_name, public_text
from ric.scoring.pie_bench import PieBenchNetworks
from ric.scoring.scored_batches import stamp
from ric.weights import (
    find_weight,
    is_published,
    no_download,
    resolve_weights,
    weights_digest,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from ric.config import EvalConfig
    from ric.runs.run import RunDir

T = TypeVar("T")


def load_metric_networks(
    config: EvalConfig, run: RunDir, device: torch.device
) -> MetricNetworks | PieBenchNetworks:
    """Load the metric networks; a missing one becomes `Unavailable`, and the table says why."""
    load = _load_pie_bench_networks if config.protocol == "pie-bench" else _load_metric_networks
    return load(config, run, device)


def _load_metric_networks(config: EvalConfig, run: RunDir, device: torch.device) -> MetricNetworks:
    locate, load = _finder(config, run), _loader(config, run, device)
    names = set(metrics_of(config))
    clip = load("clip", lambda: _clip(config, locate, device))
    dino = load(
        "dino", lambda: DinoSimilarity(locate("dino"), device, encoder=public_name(config.dino))
    )
    inception = load(
        "inception", lambda: InceptionFeatures(locate("inception"), device, kind=config.fid)
    )
    lpips = load("lpips", lambda: LpipsDistance(config.lpips_net, locate("lpips"), device))
    asked = eval_networks(config)

    def make_own(name: str) -> Any:
        return load_part("metric", name)(locate(name), device, encoder=asked[name])

    is_fed = inception
    if isinstance(inception, InceptionFeatures):
        is_fed = inception.fed_as("torch-fidelity")
    return MetricNetworks(
        clip=clip,
        dino=dino,
        lpips=lpips,
        fid=inception if names & {"fid", "fid_unpaired", "kid"} else NOT_ASKED,
        inception_score=is_fed if "is" in names else NOT_ASKED,
        lpips_squeeze=load("lpips-squeeze", lambda: _squeeze(locate, device)),
        own={name: load(name, partial(make_own, name)) for name in OWN_NETWORK if name in asked},
    )


def _load_pie_bench_networks(
    config: EvalConfig, run: RunDir, device: torch.device
) -> PieBenchNetworks:
    locate, load = _finder(config, run), _loader(config, run, device)
    clip = load("clip", lambda: _clip(config, locate, device))
    lpips = load("lpips-squeeze", lambda: _squeeze(locate, device))
    no_keys = Unavailable("the tiny family has no transformer whose keys could be compared")
    structure = load(
        "dino",
        lambda: StructureDistance(locate("dino"), device, encoder=public_name(config.dino)),
        embedded=lambda: no_keys,
    )
    return PieBenchNetworks(clip=clip, lpips=lpips, structure=structure)


def _clip(
    config: EvalConfig, locate: Callable[[str], Path], device: torch.device
) -> ClipSimilarity:
    published = PROTOCOLS.get(config.protocol, {}).get("clip", PUBLISHED)
    name = public_name(config.clip)
    return ClipSimilarity(locate("clip"), device, encoder=name, published=published)


def _squeeze(locate: Callable[[str], Path], device: torch.device) -> LpipsDistance:
    """Load the LPIPS of what lies outside or inside a mask."""
    return LpipsDistance("squeeze", locate("lpips-squeeze"), device, published="squeeze")


def _loader(config: EvalConfig, run: RunDir, device: torch.device) -> Callable[..., Any]:
    """Return what loads a network that a metric reads, or the embedded family's in its place."""
    asked = eval_networks(config)
    scene_net = cache(lambda: load_scene_net(config, run, device))

    def load(network: str, make: Callable[[], Any], embedded: Callable[[], Any] = scene_net) -> Any:
        if network not in asked:
            return NOT_ASKED
        if asked[network] == "tiny" and EVAL_NETWORKS[network].tiny == "scene_classifier":
            return embedded()
        made = either(make)
        if not isinstance(made, Unavailable):
            made.marker = " ".join(filter(None, (made.marker, _mark(asked[network], network, run))))
        return made

    return load


def _mark(name: str, network: str, run: RunDir) -> str:
    """Return what headings add for weights that are not those published under their name.

    Weights of other names are told by these.
    """
    about = run.record["weights"][_recorded(name, network)]
    if find_weight(name) is None or name == "tiny" or about["published"]:
        return ""
    return f"weights {about['sha256'][:8]}"


def _recorded(name: str, network: str) -> str:
    """Return what a run's record calls a network.

    CLIP, which any command may name, is recorded by its member, like the embedded family.
    """
    row = EVAL_NETWORKS[network]
    is_member = name == "tiny" or network == "clip"
    return (row.recorded or row.tiny) if is_member else str(public_name(name))


def either(load: Callable[[], T]) -> T | Unavailable:
    """Load a network, or return why it is not available, in words that hold no path."""
    try:
        return load()
    except RicError as error:
        return Unavailable(public_text(" ".join(filter(None, (error.message, error.hint)))))


def _finder(config: EvalConfig, run: RunDir) -> Callable[[str], Path]:
    """Return a function that locates a network of `EVAL_NETWORKS`; all are looked up beforehand."""
    names, missing = eval_networks(config), _look_up(config)

    def locate(network: str) -> Path:
        name = names[network]
        if name in missing:
            raise _in_short(name, missing[name])
        row = ModelRow(network, EVAL_NETWORKS[network].tiny, recorded=_recorded(name, network))
        get = partial(resolve_weights, weights_dir=config.weights, needs="eval")
        path = locate_named(NamedModel(name, row), run, get)
        _note_digest(name, row.recorded, path, run)
        return path

    return locate


def _note_digest(name: str, recorded: str, path: Path, run: RunDir) -> None:
    """Record the SHA-256 of weights, and whether they are those published under their name.

    Raises:
        RicError: a file cannot be read.
    """
    weight = find_weight(name)
    try:
        digest = weights_digest(path)
        published = weight is not None and name != "tiny" and is_published(weight, path)
    except OSError as error:
        raise RicError(f"Cannot read the weights {path}: {error.strerror}.") from None
    weights = run.record["weights"]
    about = {**weights[recorded], "sha256": digest, "published": published}
    run.note(weights={**weights, recorded: about})


def _in_short(name: str, error: RicError) -> RicError:
    """Shorten the error of missing weights to the reason and the command that gets them."""
    command = f"ric weights get {name}"
    if command not in (error.hint or ""):
        return error
    return RicError(f"{error.message.rstrip('.')}: {command}")


def load_scene_net(config: EvalConfig, run: RunDir, device: torch.device) -> SceneNet:
    """Load the embedded classifier of drawn scenes."""
    folder = locate(config, "scene_classifier", run)
    _note_digest("tiny", "scene_classifier", folder, run)
    return SceneNet(folder, device)


def networks_stamp(config: EvalConfig, run: RunDir) -> str:
    """Return a text that changes with any loaded network, or the file of a metric of your own.

    It is the same on all machines that share a run: weights of the hub and of the embedded family
    are told by their SHA-256, which was noted as they were loaded, wherever they lie.
    """
    places = [Path(name) for name in sorted(_names(config)) if Path(name).exists()]
    own = (name.rpartition(":")[0] for name in metrics_of(config))
    places += [Path(file) for file in own if file.endswith(".py")]
    weights = json.dumps(run.record.get("weights", {}), sort_keys=True)
    return repr([weights, *map(stamp, places)])


def _names(config: EvalConfig) -> set[str]:
    """List the networks that are not from the embedded family."""
    return set(eval_networks(config).values()) - {"tiny"}


def _look_up(config: EvalConfig) -> dict[str, RicError]:
    """Find or download all weights at once; return the error of each that is missing.

    In sequence, each would wait three seconds for a connection that is not there.
    """
    names = _names(config)

    def look_up(name: str) -> RicError | None:
        try:
            resolve_weights(name, weights_dir=config.weights, instead=no_download(config.preset))
        except RicError as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:
        answers = zip(names, pool.map(look_up, names), strict=True)
        return {name: error for name, error in answers if error is not None}

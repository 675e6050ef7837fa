"""The metrics of `ric eval`, by name: how each is shown, what computes it, and which are computed.

Imports nothing heavy: the command line and preflight read this, too.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from ric.protocols import OF_FEW_SCORES

if TYPE_CHECKING:
    from ric.config import EvalConfig

# what the suite does with a network: compare two pictures by their vectors or at once, a picture
# with its text, two sets of pictures by Frechet's distance or by a kernel
Measure = Literal["cosine", "distance", "text", "frechet", "kernel"]


class Metric(NamedTuple):
    """A metric: how it is shown, and what computes it.

    Attributes:
        heading: Its column's heading.
        higher_is_better: Which way is better.
        digits: Decimal places as printed.
        network: The network of `ric eval` that it uses, a key of `ric.models.table.EVAL_NETWORKS`;
            "" for none. Metrics with a network are computed by the suite, which runs each network
            once for all of them. With `measure`: the row of the table of weights.
        place: `module:name` of the `PairMetric` that computes it from a sample's pictures, or with
            `measure` of the network, called as `Name(path, device, encoder=its name)`; "" where the
            suite computes it.
        setting: The setting of `ric eval` that names a `PairMetric`'s model; "" where it has none.
        measure: Of a metric with a network of its own, what the suite does with it; else "". Such
            a metric is computed by name alone.
        tiny: The member of the embedded family that takes such a network's place.
        range: The lowest and the highest value that it can have: no interval goes beyond.
    """

    heading: str
    higher_is_better: bool
    digits: int
    network: str = ""
    place: str = ""
    setting: str = ""
    measure: Measure | Literal[""] = ""
    tiny: str = "scene_classifier"
    range: tuple[float, float] = (-inf, inf)


FROM_0, TO_1, TO_10, TO_100 = (0.0, inf), (0.0, 1.0), (0.0, 10.0), (0.0, 100.0)
SIGNED, FIVE_GRADES = (-1.0, 1.0), (1.0, 5.0)

# In the order of the columns; the first eight but FID of halves and KID are the paper's.
METRICS = {
    "clip_i": Metric("CLIP-I", True, 4, "clip", range=SIGNED),
    "dino": Metric("DINO", True, 4, "dino", range=SIGNED),
    "clip_t": Metric("CLIP-T", True, 4, "clip", range=SIGNED),
    "lpips": Metric("LPIPS", False, 4, "lpips", range=FROM_0),
    "fid": Metric("FID", False, 2, "inception", range=FROM_0),
    "fid_unpaired": Metric("FID of halves", False, 2, "inception", range=FROM_0),
    "kid": Metric("KID", False, 4, "inception"),
    "is": Metric("IS", True, 2, "inception"),
    "fd_dinov2": Metric(
        "FD-DINOv2",
        False,
        2,
        "facebook/dinov2-large",
        "ric.metrics.dinov2:Dinov2Features",
        measure="frechet",
        range=FROM_0,
    ),
    "cmmd": Metric(
        "CMMD",
        False,
        3,
        "openai/clip-vit-large-patch14-336",
        "ric.metrics.clip_features:ClipFeatures",
        measure="kernel",
        tiny="clip",
        range=FROM_0,
    ),
    "clip_fid": Metric(
        "CLIP-FID",
        False,
        2,
        "openai/clip-vit-base-patch32",
        "ric.metrics.clip_fid:ClipFidFeatures",
        measure="frechet",
        tiny="clip",
        range=FROM_0,
    ),
    "clip_i_source": Metric("CLIP-I to source", True, 4, "clip", range=SIGNED),
    "clip_i_target": Metric("CLIP-I to target", True, 4, "clip", range=SIGNED),
    "dino_source": Metric("DINO to source", True, 4, "dino", range=SIGNED),
    "dino_target": Metric("DINO to target", True, 4, "dino", range=SIGNED),
    "dinov2": Metric(
        "DINOv2",
        True,
        4,
        "facebook/dinov2-base",
        "ric.metrics.dinov2:Dinov2Similarity",
        measure="cosine",
        range=SIGNED,
    ),
    "dinov2_source": Metric("DINOv2 to source", True, 4, range=SIGNED),
    "dinov2_target": Metric("DINOv2 to target", True, 4, range=SIGNED),
    "clip_direction": Metric("CLIP direction", True, 4, "clip", range=SIGNED),
    "pick_score": Metric(
        "PickScore",
        True,
        2,
        "yuvalkirstain/PickScore_v1",
        "ric.metrics.pick_score:PickScore",
        measure="text",
        tiny="clip",
    ),
    "dists": Metric(
        "DISTS",
        False,
        4,
        "lpips-vgg",
        "ric.metrics.dists:DistsDistance",
        measure="distance",
        range=FROM_0,
    ),
    "l1": Metric("L1", False, 4, place="ric.metrics.pixel:L1", range=TO_1),
    "l2": Metric("L2", False, 4, place="ric.metrics.pixel:L2", range=TO_1),
    "psnr": Metric("PSNR, dB", True, 2, place="ric.metrics.pixel:Psnr", range=TO_100),
    "ssim": Metric("SSIM", True, 4, place="ric.metrics.pixel:Ssim", range=SIGNED),
    "psnr_outside": Metric(
        "PSNR outside the mask, dB", True, 2, place="ric.metrics.pixel:PsnrOutside", range=TO_100
    ),
    "ssim_outside": Metric(
        "SSIM outside the mask", True, 4, place="ric.metrics.pixel:SsimOutside", range=SIGNED
    ),
    "lpips_outside": Metric("LPIPS outside the mask", False, 4, "lpips-squeeze", range=FROM_0),
    "psnr_inside": Metric(
        "PSNR inside the mask, dB", True, 2, place="ric.metrics.pixel:PsnrInside", range=TO_100
    ),
    "lpips_inside": Metric("LPIPS inside the mask", False, 4, "lpips-squeeze", range=FROM_0),
    "shift": Metric("Shift, px", False, 2, place="ric.metrics.registration:Shift", range=FROM_0),
    "scale_drift": Metric(
        "Scale drift, %", False, 2, place="ric.metrics.registration:ScaleDrift", range=FROM_0
    ),
    "colour_drift": Metric(
        "Colour drift", False, 4, place="ric.metrics.registration:ColourDrift", range=TO_1
    ),
    "context_consistency": Metric(
        "Context consistency",
        True,
        4,
        place="ric.scoring.context_consistency:ContextConsistency",
        setting="region_clip",
    ),
    # by a judge, a vision-language model: scoring/vlm_judge.py
    "vie_semantics": Metric("VIE semantics", True, 2, range=TO_10),
    "vie_quality": Metric("VIE quality", True, 2, range=TO_10),
    "vie_overall": Metric("VIEScore", True, 2, range=TO_10),
    "imgedit": Metric("ImgEdit", True, 2, range=FIVE_GRADES),
    # of PIE-Bench alone: scoring/pie_bench.py
    "structure_distance": Metric("Structure distance", False, 4, "dino", range=FROM_0),
    "psnr_unedited": Metric("PSNR unedited, dB", True, 2, range=TO_100),
    "lpips_unedited": Metric("LPIPS unedited", False, 4, "lpips-squeeze", range=FROM_0),
    "mse_unedited": Metric("MSE unedited", False, 5, range=TO_1),
    "ssim_unedited": Metric("SSIM unedited", True, 4, range=SIGNED),
    "clip_source": Metric("CLIP score, source", True, 2, "clip", range=TO_100),
    "clip_edited": Metric("CLIP score, edited", True, 2, "clip", range=TO_100),
    "clip_edited_part": Metric("CLIP score, edited part", True, 2, "clip", range=TO_100),
    # of drawn scenes alone: metrics/context_error.py and edit_success.py
    "edit_success": Metric("Edit success", True, 3, range=TO_1),
    "l1_inside": Metric("L1 inside both masks", False, 4, range=TO_1),
    "l1_gain": Metric("L1 gained on doing nothing", True, 4, range=SIGNED),
    "region_error": Metric("Region error", False, 3, range=FROM_0),
    "context_error": Metric("Context error", False, 3, range=FROM_0),
    "sticker_rate": Metric("Sticker rate", False, 3, range=TO_1),
    "psnr_preserved": Metric("PSNR outside both masks, dB", True, 2, range=TO_100),
}
OF_SCENES = (
    "edit_success", "l1_inside", "l1_gain", "region_error", "context_error", "sticker_rate",
    "psnr_preserved",
)  # fmt: skip
PIE_BENCH = OF_FEW_SCORES["pie-bench"]


def measured_by(*measures: Measure) -> tuple[str, ...]:
    """List the metrics with a network of their own, of which the suite makes one of `measures`."""
    return tuple(name for name, row in METRICS.items() if row.measure in measures)


# each has a network of its own, of up to 3.9 GB
OWN_NETWORK = measured_by("cosine", "distance", "text", "frechet", "kernel")
# the edited set and the targets, or --fid-set; beside FID and KID
SET_DISTANCES = measured_by("frechet", "kernel")
# compared with the other one of source and target, too
BOTH_WAYS = ("clip_i", "dino", *measured_by("cosine"))
TO_THE_OTHER = tuple(f"{name}_{other}" for name in BOTH_WAYS for other in ("source", "target"))
OF_DRIFT = ("shift", "scale_drift", "colour_drift")
INSIDE = ("psnr_inside", "lpips_inside")
VIE = ("vie_semantics", "vie_quality", "vie_overall")
JUDGED = (*VIE, "imgedit")
# GEdit's G_SC, G_PQ and G_O are VIEScore's three of every sample
GROUPS_OF_METRICS = {"vie": VIE, "gedit": VIE}
BY_NAME_ONLY = (
    "fid_unpaired", *OF_DRIFT,  # twice FID's time; a second for each picture
    *OWN_NETWORK,
    "clip_direction",  # needs two captions, which most data lack
    "psnr", "ssim", *INSIDE,  # beside L2 and LPIPS they say little
    "context_consistency", *JUDGED,  # each needs a judge
)  # fmt: skip
# what `--metrics all` means
OF_ANY_PICTURES = tuple(
    name for name in METRICS if name not in (*PIE_BENCH, *TO_THE_OTHER, *BY_NAME_ONLY)
)


def metrics_of(config: EvalConfig) -> tuple[str, ...]:
    """List the metrics that `ric eval` computes: those of `--metrics`, else the protocol's.

    Those of drawn scenes are among them, whatever DATA is. Names are not checked here: see
    `refuse_unknown_metrics`.
    """
    of_protocol = OF_FEW_SCORES.get(config.protocol, OF_ANY_PICTURES)
    if config.metrics is None:
        return of_protocol
    names: list[str] = []
    for typed in filter(None, map(str.strip, config.metrics.split(","))):
        plain = typed.lower().replace("-", "_")
        several = of_protocol if plain == "all" else GROUPS_OF_METRICS.get(plain)
        names += several or [plain if plain in METRICS else typed]
    return tuple(dict.fromkeys(names))


def metric_key(name: str) -> str:
    """Return a metric's name in tables: `Sharpness` for `my.py:Sharpness`."""
    return name.rpartition(":")[2].partition(".")[0]

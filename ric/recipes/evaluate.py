"""`ric eval`: the six metrics over edit runs or any folders of images (Sec. 4).

Every picture is decoded and encoded once for all editors. The unedited source and the ground truth
are scored beside them: a metric on which doing nothing wins says little.

An editor is scored on every sample it has a picture of, source and ground truth on those of which
every editor has one: a row of another N than theirs stands on other samples, and carries a mark.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from ric.data.images import ImageError, open_image
from ric.data.masks import signature_box
from ric.device import pick_device
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.differences import difference
from ric.metrics.dino_similarity import DinoSimilarity
from ric.metrics.edit_success import EditChecker
from ric.metrics.encode_once import Encodings
from ric.metrics.inception import InceptionFeatures
from ric.metrics.lpips_distance import LpipsDistance
from ric.metrics.networks import Judges, Unavailable
from ric.metrics.one_pass import MetricSuite
from ric.metrics.pairs import Pair, fit_shape, fit_to, has_shape_of
from ric.metrics.pie_bench import PieBenchJudges, PieBenchSuite
from ric.metrics.protocols import by_protocol
from ric.metrics.scene_net import SceneNet
from ric.metrics.score_table import to_csv, to_latex, to_markdown, which_samples
from ric.metrics.scores import PIE_BENCH, THE_SIX
from ric.metrics.structure_distance import StructureDistance
from ric.models import locate_model
from ric.progress import Progress, Silent
from ric.recipes.examples import glance_at_samples, read_samples
from ric.recipes.outputs import Outputs, find_outputs
from ric.recipes.overlap import groups_of, refuse_overlap, trained_groups
from ric.rows import write_atomically
from ric.scenes.dataset import edit_of_sample, is_scenes
from ric.weights import resolve_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch

    from ric.config import EvalConfig
    from ric.data.sample import EditSample
    from ric.metrics.scores import Difference, Scores
    from ric.run_dir import RunDir

T = TypeVar("T")
ENOUGH = 0.95  # of the samples an editor must have pictures of, unless --partial
Suite = MetricSuite | PieBenchSuite
NEEDED = (*THE_SIX, *PIE_BENCH)  # without any of them an evaluation has failed
IDENTITY, GROUND_TRUTH = "Identity (source)", "Ground truth"


def evaluate(config: EvalConfig, run: RunDir, progress: Progress | None = None) -> list[Scores]:
    """Score editors on DATA and write scores.json, per_sample.jsonl, table.md, .csv and .tex.

    Raises:
        RicError: no outputs to score, none of them belongs to DATA, no metric could be computed,
            or the outputs come from a model trained on these samples.
        Interrupted: asked to stop.
    """
    progress = progress or Silent()
    edited = [
        find_outputs(text, run.runs_dir, run.resolve, match=config.match) for text in config.edits
    ]
    for item in edited:
        if item.run is not None:
            run.add_parent(item.run)
    _refuse_same_labels(edited)
    if not _match_all(config, edited, run, progress) and config.reference == "target":
        config = replace(config, reference="source")
        progress.note(f"{config.data} has no targets: outputs are held against the sources")
    if not config.allow_overlap:
        _refuse_trained_on(config, edited)
    device = pick_device(config.device)
    judges: Judges | PieBenchJudges
    if config.protocol == "pie-bench":
        judges = load_pie_bench_judges(config, run, device)
        new_suite: Callable[..., Suite] = partial(PieBenchSuite, judges, seed=config.seed)
    else:
        judges = load_judges(config, run, device)
        new_suite = partial(
            MetricSuite,
            judges,
            reference=config.reference,
            seed=config.seed,
            text=config.text,
            encode_fitted=config.protocol != "magicbrush",
        )
    lacking = [name for name, judge in vars(judges).items() if isinstance(judge, Unavailable)]
    run.note(unavailable=lacking)
    of_scenes = is_scenes(config.data)
    if of_scenes and isinstance(judges, Judges):
        # under --preset tiny the judges hold the same network
        net = judges.fid if isinstance(judges.fid, SceneNet) else load_scene_net(run, device)
        new_suite = partial(new_suite, checker=EditChecker(net))
    suites = {item.label: new_suite(label=item.label) for item in edited}
    anchors = [
        new_suite(label=IDENTITY, role="identity"),
        new_suite(label=GROUND_TRUTH, role="ground-truth"),
    ]

    seen, shared = 0, 0
    batch: list[tuple[Pair, dict[str, Image.Image]]] = []
    with stop_between_steps() as stop, progress.stage("scoring", unit="samples") as stage:
        for sample in read_samples(config, run, need_instruction=False):
            stop.raise_if_set()
            try:
                batch.append(_pairs(sample, edited, config, run, of_scenes=of_scenes))
            except SampleError as error:
                run.fail(error)
                continue
            seen += 1
            shared += len(batch[-1][1]) == len(edited)
            if len(batch) == config.batch_size:
                _score(batch, suites, anchors)
                stage.advance(len(batch))
                batch = []
        _score(batch, suites, anchors)
        stage.advance(len(batch))
    if seen == 0:
        raise RicError(
            f"No sample of {config.data} (split {config.split}) could be scored.",
            "See failures.jsonl in the run, or choose another split: --split all",
        )
    finished = [suite.finish() for suite in (*suites.values(), *anchors)]
    finished = [
        scored._replace(scores=by_protocol(scored.scores, config.protocol)) for scored in finished
    ]
    # data without targets has no ground truth to show
    shown = [scored for scored in finished if scored.rows or scored.scores.role == "editor"]
    rows = [
        replace(scored.scores, shared=shared) if scored.scores.role == "editor" else scored.scores
        for scored in shown
    ]
    for line in which_samples(rows):
        progress.note(line)
    editors = [scored for scored in finished if scored.scores.role == "editor"]
    differences = [difference(later, editors[0], seed=config.seed) for later in editors[1:]]
    _write(run, rows, differences, {scored.scores.label: scored.rows for scored in shown})
    if all(score.value is None for row in rows for score in row.scores if score.key in NEEDED):
        raise RicError(
            "No metric could be computed: " + _reasons(rows),
            "Get the weights with ric weights get --for eval, or use --preset tiny.",
        )
    return rows


def _refuse_same_labels(edited: Sequence[Outputs]) -> None:
    labels = [item.label for item in edited]
    if not labels:
        raise RicError(
            "Nothing to score.", 'Name what an editor made: ric eval "Mine=out/" --data DATA'
        )
    for label in labels:
        if [*labels, IDENTITY, GROUND_TRUTH].count(label) > 1:
            raise RicError(f"The label {label!r} is used twice.", 'Give each its own: "A=runs/3"')


def _refuse_trained_on(config: EvalConfig, edited: Sequence[Outputs]) -> None:
    """Compare what the editors' models were trained on with DATA, before any network is loaded."""
    groups: list[str] = []

    def asked() -> Iterable[str]:
        if not groups:
            groups.extend(groups_of(config))
        return groups

    for item in edited:
        if item.run is not None:
            refuse_overlap(trained_groups(item.run), asked, f"the model that made {item.label!r}")


def _match_all(
    config: EvalConfig, edited: Sequence[Outputs], run: RunDir, progress: Progress
) -> bool:
    """Match outputs with samples by their names, before any network is loaded.

    What goes with nothing is listed in `unmatched.jsonl`: an editor's file without a sample, or a
    sample without a file.

    Returns:
        Whether any sample has a target.

    Raises:
        RicError: an editor has pictures of too few samples.
    """
    strangers = {item.label: set(item.files) for item in edited}
    lacking: dict[str, list[str]] = {item.label: [] for item in edited}
    count = targets = 0
    for sample in glance_at_samples(config):
        count += 1
        targets += sample.has_target
        for item in edited:
            name = item.name_of(sample)
            strangers[item.label].discard(name)
            if name not in item.files and name not in item.doubles:
                lacking[item.label].append(sample.id)
    rows = [
        *({"label": item.label, "file": item.files[name].name}
          for item in edited for name in sorted(strangers[item.label])),
        *({"label": label, "sample": name} for label, names in lacking.items() for name in names),
    ]  # fmt: skip
    if rows:
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        write_atomically(run.path / "unmatched.jsonl", lines)
    for item in edited:
        _tell_of_strangers(item, strangers[item.label], config, progress)
        _refuse_unmatched(config, item, count, len(lacking[item.label]))
    return targets > 0 or not count


def _refuse_unmatched(config: EvalConfig, item: Outputs, count: int, lacking: int) -> None:
    matched = count - lacking
    where = f"{config.data} (split {config.split})"
    if count and not matched:
        raise RicError(
            f"No picture of {item.label!r} ({item.folder}) belongs to {where}.",
            "Files are matched to samples by their name without its ending, which is the id; or"
            " say otherwise: --match file, --match stem",
        )
    if matched < ENOUGH * count and not config.partial:
        raise RicError(
            f"{item.label!r} has pictures of {matched} of {count} samples of {where}, under"
            f" {ENOUGH:.0%}.".replace("%", " %"),
            "All that is lacking is listed in unmatched.jsonl in the run. Score what is there:"
            " --partial",
        )


def _tell_of_strangers(
    item: Outputs, names: set[str], config: EvalConfig, progress: Progress
) -> None:
    """Say in one line which pictures of a folder nobody asked for."""
    if names:
        first = ", ".join(item.files[name].name for name in sorted(names)[:3])
        progress.note(
            f"{len(names)} pictures in {item.folder} belong to no sample of {config.data} "
            f"(split {config.split}): {first}{', …' if len(names) > 3 else ''}"
        )


def load_judges(config: EvalConfig, run: RunDir, device: torch.device) -> Judges:
    """Load the networks; one that cannot be had is unavailable, and the table says why."""
    locate = _finder(config, run)
    clip = either(lambda: ClipSimilarity(locate(config.clip, "clip"), device, encoder=config.clip))
    net: SceneNet | None = None
    if "tiny" in (config.preset, config.dino):
        net = load_scene_net(run, device)
    dino = (
        net
        if net and config.dino == "tiny"
        else either(lambda: DinoSimilarity(locate(config.dino), device, encoder=config.dino))
    )
    if net and config.preset == "tiny":
        return Judges(
            clip=clip, dino=dino, lpips=net, fid=net, inception_score=net, lpips_outside=net
        )
    inception = either(
        lambda: InceptionFeatures(locate("inception-2015-12-05"), device, kind=config.fid)
    )
    lpips = either(
        lambda: LpipsDistance(config.lpips_net, locate(f"lpips-{config.lpips_net}"), device)
    )
    squeeze = either(
        lambda: LpipsDistance("squeeze", locate("lpips-squeeze"), device, published="squeeze")
    )
    is_fed = inception
    if isinstance(inception, InceptionFeatures):
        is_fed = inception.fed_as("torch-fidelity")
    return Judges(
        clip=clip,
        dino=dino,
        lpips=lpips,
        fid=inception,
        inception_score=is_fed,
        lpips_outside=squeeze,
    )


def load_pie_bench_judges(config: EvalConfig, run: RunDir, device: torch.device) -> PieBenchJudges:
    """Load the three networks of PIE-Bench; one that cannot be had is unavailable."""
    find = _finder(config, run)
    clip = either(lambda: ClipSimilarity(find(config.clip, "clip"), device, encoder=config.clip))
    if config.preset == "tiny":
        reason = "the tiny family has no transformer whose keys could be compared"
        net = load_scene_net(run, device)
        return PieBenchJudges(clip=clip, lpips=net, structure=Unavailable(reason))
    squeeze = either(
        lambda: LpipsDistance("squeeze", find("lpips-squeeze"), device, published="squeeze")
    )
    structure = either(lambda: StructureDistance(find(config.dino), device, encoder=config.dino))
    return PieBenchJudges(clip=clip, lpips=squeeze, structure=structure)


def either(load: Callable[[], T]) -> T | Unavailable:
    """Load a network, or say why it cannot be had."""
    try:
        return load()
    except RicError as error:
        return Unavailable(" ".join(part for part in (error.message, error.hint) if part))


def _finder(config: EvalConfig, run: RunDir) -> Callable[..., Path]:
    """Return what finds a network's weights by name; those that are missing were looked up."""
    missing = _look_up(config)

    def locate(name: str, tiny: str = "") -> Path:
        if name in missing:
            raise missing[name]
        return locate_model(name, run, tiny=tiny or name, weights_dir=config.weights, needs="eval")

    return locate


def load_scene_net(run: RunDir, device: torch.device) -> SceneNet:
    """Load the embedded classifier of drawn scenes."""
    return SceneNet(locate_model("tiny", run, tiny="scene_classifier"), device)


def _look_up(config: EvalConfig) -> dict[str, RicError]:
    """Find or fetch all weights at once; return why those that are missing are.

    One after the other, each would wait three seconds for a network that is not there.
    """
    names = {config.clip, config.dino} - {"tiny"}
    if config.preset != "tiny":
        names |= {"lpips-squeeze"}
        if config.protocol != "pie-bench":
            names |= {"inception-2015-12-05", f"lpips-{config.lpips_net}"}

    def look_up(name: str) -> RicError | None:
        try:
            resolve_weights(name, weights_dir=config.weights, needs="eval")
        except RicError as error:
            return error
        return None

    with ThreadPoolExecutor() as pool:
        answers = zip(names, pool.map(look_up, names), strict=True)
        return {name: error for name, error in answers if error is not None}


def _pairs(
    sample: EditSample,
    edited: Sequence[Outputs],
    config: EvalConfig,
    run: RunDir,
    *,
    of_scenes: bool,
) -> tuple[Pair, dict[str, Image.Image]]:
    """Decode a sample and every editor's picture of it; what an editor lacks is a failure row."""
    source = sample.load_source()
    target = sample.load_target() if sample.has_target else None
    mask = None
    try:
        array = sample.load_mask(pair=(source, target) if target else None)
        mask = Image.fromarray(array).convert("L")
    except SampleError:
        # only PSNR outside the mask needs it, and says for how many samples it speaks
        pass
    outputs, lacking = {}, []
    for item in edited:
        try:
            outputs[item.label] = _open_output(item, sample, (target or source).size, config)
        except ImageError as error:
            lacking.append(error.message)
    if lacking:
        run.fail(SampleError(sample.id, "edited", "; ".join(lacking)))
    if config.ignore_signature:
        reference = (target or source).size
        outputs = {
            label: _cover_signature(fit_to(picture, reference), source)
            for label, picture in outputs.items()
        }
        target = target and _cover_signature(target, source)
    text, kind = getattr(sample, config.text), config.text
    if not text and config.text == "region_text":
        text, kind = sample.instruction, "instruction"
    pair = Pair(sample.id, source, source, target, text, mask, kind, source_text=sample.source_text)
    if of_scenes:
        context = sample.load_context_mask()
        if context is not None:
            edit = edit_of_sample(sample.id)
            context_mask = Image.fromarray(context).convert("L")
            pair = replace(pair, context_mask=context_mask, edit=edit)
    return pair, outputs


def _open_output(
    item: Outputs, sample: EditSample, size: tuple[int, int], config: EvalConfig
) -> Image.Image:
    """Decode an editor's picture of a sample; one of another shape than `size` as `--fit` says.

    Raises:
        ImageError: there is none, or several, it cannot be read, or has another shape.
    """
    name = item.name_of(sample)
    if name in item.doubles:
        names = " and ".join(file.name for file in item.doubles[name])
        raise ImageError(f"{item.label!r} has several pictures of it: {names}")
    if name not in item.files:
        raise ImageError(f"{item.label!r} has no picture of it in {item.folder}")
    picture = open_image(item.files[name], max_pixels=config.max_pixels)
    if config.fit == "squash" or has_shape_of(picture.size, size):
        return picture  # where a score needs it at its reference's size, it is squashed to it
    if config.fit is None:
        shapes = [f"{width}x{height}" for width, height in (picture.size, size)]
        raise ImageError(
            f"{item.label!r} made it {shapes[0]}, which is not the shape of {shapes[1]}: squash,"
            " crop or pad such pictures with --fit"
        )
    return fit_shape(picture, size, config.fit)


def _cover_signature(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Show the source where DALL-E signs (choice 14), so that nobody is judged there."""
    covered = picture.copy()
    box = signature_box(*picture.size)
    covered.paste(source.resize(picture.size).crop(box), box[:2])
    return covered


def _score(
    batch: Sequence[tuple[Pair, dict[str, Image.Image]]],
    suites: dict[str, Suite],
    anchors: Sequence[Suite],
) -> None:
    encodings = Encodings()
    for label, suite in suites.items():
        suite.add(
            [replace(pair, edited=made[label]) for pair, made in batch if label in made], encodings
        )
    identity, truth = anchors
    shared = [pair for pair, made in batch if len(made) == len(suites)]
    identity.add(shared, encodings)
    truth.add([replace(pair, edited=pair.target) for pair in shared if pair.target], encodings)


def _write(
    run: RunDir,
    rows: Sequence[Scores],
    differences: Sequence[Difference],
    per_sample: dict[str, list[dict[str, Any]]],
) -> None:
    lines = [
        json.dumps({"label": label, **row}) for label, part in per_sample.items() for row in part
    ]
    scores = {
        "data": run.record["data"],
        "protocol": run.record["config"]["protocol"],
        "editors": [row.as_dict() for row in rows],
        "differences": [row.as_dict() for row in differences],
    }
    layout = run.record["config"]["layout"]
    write_atomically(run.path / "per_sample.jsonl", "\n".join(lines) + "\n")
    write_atomically(run.path / "scores.json", json.dumps(scores, indent=2) + "\n")
    write_atomically(run.path / "table.md", to_markdown(rows, differences, layout))
    write_atomically(run.path / "table.csv", to_csv(rows))
    write_atomically(run.path / "table.tex", to_latex(rows, layout))


def _reasons(rows: Sequence[Scores]) -> str:
    reasons = dict.fromkeys(
        score.unavailable for row in rows for score in row.scores if score.unavailable
    )
    return " ".join(str(reason) for reason in reasons)

"""`ric eval`: the six metrics over edit runs or any folders of images (Sec. 4).

Every picture is decoded once for all editors. The unedited source and the ground truth are scored
beside them: a metric on which doing nothing wins says little.
"""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from PIL import Image

from ric.data.images import ImageError, open_image
from ric.data.loose import PICTURE_SUFFIXES
from ric.data.masks import signature_box
from ric.device import pick_device
from ric.errors import RicError, SampleError
from ric.interrupt import stop_between_steps
from ric.metrics.clip_similarity import ClipSimilarity
from ric.metrics.dino_similarity import DinoSimilarity
from ric.metrics.inception import InceptionFeatures
from ric.metrics.lpips_distance import LpipsDistance
from ric.metrics.networks import Judges, Unavailable
from ric.metrics.one_pass import MetricSuite
from ric.metrics.pairs import Pair, fit_to
from ric.metrics.scene_net import SceneNet
from ric.metrics.score_table import to_csv, to_latex, to_markdown
from ric.metrics.scores import THE_SIX
from ric.models import locate_model
from ric.progress import Progress, Silent
from ric.recipes.examples import read_samples
from ric.recipes.overlap import groups_of, refuse_overlap, trained_groups
from ric.rows import write_atomically
from ric.run_record import find_run, read_record
from ric.weights import resolve_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch

    from ric.config import EvalConfig
    from ric.data.sample import EditSample
    from ric.metrics.scores import Scores
    from ric.run_dir import RunDir

T = TypeVar("T")
IDENTITY, GROUND_TRUTH = "Identity (source)", "Ground truth"


@dataclass(frozen=True)
class Edited:
    """One editor's outputs: where each sample's picture lies.

    Attributes:
        label: What the table calls it.
        folder: The images.
        files: Paths by sample id (an edit run) or by file stem (any folder).
        run: The edit run; None for a plain folder.
    """

    label: str
    folder: Path
    files: dict[str, Path]
    run: Path | None


def evaluate(config: EvalConfig, run: RunDir, progress: Progress | None = None) -> list[Scores]:
    """Score editors on DATA and write scores.json, per_sample.jsonl, table.md, .csv and .tex.

    Raises:
        RicError: no outputs to score, none of them belongs to DATA, no metric could be computed,
            or the outputs come from a model trained on these samples.
        Interrupted: asked to stop.
    """
    progress = progress or Silent()
    edited = [find_edited(text, run) for text in config.edits]
    _refuse_same_labels(edited)
    if not config.allow_overlap:
        _refuse_trained_on(config, edited)
    judges = load_judges(config, run, pick_device(config.device))
    lacking = [name for name, judge in vars(judges).items() if isinstance(judge, Unavailable)]
    run.note(unavailable=lacking)
    suites = {
        item.label: MetricSuite(
            judges, label=item.label, reference=config.reference, seed=config.seed
        )
        for item in edited
    }
    anchors = [
        MetricSuite(judges, label=IDENTITY, reference=config.reference, role="identity"),
        MetricSuite(judges, label=GROUND_TRUTH, reference=config.reference, role="ground-truth"),
    ]

    seen, matched = 0, Counter[str]()
    batch: list[tuple[Pair, dict[str, Image.Image]]] = []
    with stop_between_steps() as stop, progress.stage("scoring", unit="samples") as stage:
        for sample in read_samples(config, run, need_instruction=False):
            stop.raise_if_set()
            try:
                batch.append(_pairs(sample, edited, config, run))
            except SampleError as error:
                run.fail(error)
                continue
            seen += 1
            matched.update(item.label for item in edited if sample.id in item.files)
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
    for item in edited:
        if not matched[item.label]:
            raise RicError(
                f"No picture of {item.label!r} ({item.folder}) belongs to {config.data} "
                f"(split {config.split}).",
                "Files are matched to samples by their name without its ending, which is the id.",
            )
    finished = [suite.finish() for suite in (*suites.values(), *anchors)]
    # data without targets has no ground truth to show
    shown = [scored for scored in finished if scored.rows or scored.scores.role == "editor"]
    rows = [scored.scores for scored in shown]
    _write(run, rows, {scored.scores.label: scored.rows for scored in shown})
    if all(score.value is None for row in rows for score in row.scores if score.key in THE_SIX):
        raise RicError(
            "No metric could be computed: " + _reasons(rows),
            "Get the weights with ric weights get --for eval, or use --preset tiny.",
        )
    return rows


def find_edited(text: str, run: RunDir) -> Edited:
    """Read one `Label=RUN or DIR` (or just RUN or DIR) of the command line.

    Raises:
        RicError: there is nothing there, or it holds no images.
    """
    label, place = _split_label(text)
    path = find_run(place, run.runs_dir)
    if path is None and Path(place).name == "images":
        # the images of an edit run are that run, whose model is known
        path = find_run(str(Path(place).parent), run.runs_dir)
    if path is not None:
        record = read_record(path)
        if record["command"] != "edit":
            raise RicError(
                f"{path} is a run of `ric {record['command']}`; only edits are scored.",
                "Name a run of ric edit, or a folder of images.",
            )
        run.add_parent(path)
        folder = path / "images"
    else:
        folder = Path(place)
    if not folder.is_dir():
        raise RicError(f"No run and no folder of images at {place!r}.", "See: ric runs ls")
    label = label or (path or folder).resolve().name
    return Edited(label, folder, _pictures_by_id(folder), path)


def _split_label(text: str) -> tuple[str, str]:
    if Path(text).exists():  # a path may hold a "=" of its own
        return "", text
    label, _, place = text.rpartition("=")
    return label, place


def _pictures_by_id(folder: Path) -> dict[str, Path]:
    """Find a folder's pictures by their names without ending."""
    files: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        # hidden files are pictures that were being written when an edit was stopped
        if file.name.startswith(".") or file.suffix.lower() not in PICTURE_SUFFIXES:
            continue
        if file.stem in files:
            raise RicError(
                f"{folder} holds both {files[file.stem].name} and {file.name}.",
                "Keep one picture of each sample there.",
            )
        files[file.stem] = file
    if not files:
        raise RicError(f"There are no images in {folder}.")
    return files


def _refuse_same_labels(edited: Sequence[Edited]) -> None:
    labels = [item.label for item in edited]
    if not labels:
        raise RicError(
            "Nothing to score.", 'Name what an editor made: ric eval "Mine=out/" --data DATA'
        )
    for label in labels:
        if [*labels, IDENTITY, GROUND_TRUTH].count(label) > 1:
            raise RicError(f"The label {label!r} is used twice.", 'Give each its own: "A=runs/3"')


def _refuse_trained_on(config: EvalConfig, edited: Sequence[Edited]) -> None:
    """Compare what the editors' models were trained on with DATA, before any network is loaded."""
    groups: list[str] = []

    def asked() -> Iterable[str]:
        if not groups:
            groups.extend(groups_of(config))
        return groups

    for item in edited:
        if item.run is not None:
            refuse_overlap(trained_groups(item.run), asked, f"the model that made {item.label!r}")


def load_judges(config: EvalConfig, run: RunDir, device: torch.device) -> Judges:
    """Load the five networks; one that cannot be had is unavailable, and the table says why."""
    missing = _look_up(config)

    def locate(name: str, tiny: str = "") -> Path:
        if name in missing:
            raise missing[name]
        return locate_model(name, run, tiny=tiny or name, weights_dir=config.weights, needs="eval")

    def either(load: Callable[[], T]) -> T | Unavailable:
        try:
            return load()
        except RicError as error:
            return Unavailable(" ".join(part for part in (error.message, error.hint) if part))

    clip = either(
        lambda: ClipSimilarity(locate(config.clip, "region_clip"), device, encoder=config.clip)
    )
    dino = either(lambda: DinoSimilarity(locate(config.dino, "dino"), device, encoder=config.dino))
    if config.preset == "tiny":
        net = SceneNet(locate("tiny", "scene_classifier"), device)
        return Judges(clip=clip, dino=dino, lpips=net, fid=net, inception_score=net)
    inception = either(
        lambda: InceptionFeatures(locate("inception-2015-12-05"), device, kind=config.fid)
    )
    lpips = either(
        lambda: LpipsDistance(config.lpips_net, locate(f"lpips-{config.lpips_net}"), device)
    )
    is_fed = inception
    if isinstance(inception, InceptionFeatures):
        is_fed = inception.fed_as("torch-fidelity")
    return Judges(clip=clip, dino=dino, lpips=lpips, fid=inception, inception_score=is_fed)


def _look_up(config: EvalConfig) -> dict[str, RicError]:
    """Find or fetch all weights at once; return why those that are missing are.

    One after the other, each would wait three seconds for a network that is not there.
    """
    names = {config.clip, config.dino} - {"tiny"}
    if config.preset != "tiny":
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
    sample: EditSample, edited: Sequence[Edited], config: EvalConfig, run: RunDir
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
        file = item.files.get(sample.id)
        if file is None:
            lacking.append(f"{item.label!r} has no picture of it in {item.folder}")
            continue
        try:
            outputs[item.label] = open_image(file, max_pixels=config.max_pixels)
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
    text = getattr(sample, config.text) or (
        sample.instruction if config.text == "region_text" else None
    )
    pair = Pair(sample.id, source, source, target, text, mask)
    return pair, outputs


def _cover_signature(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Show the source where DALL-E signs (choice 14), so that nobody is judged there."""
    covered = picture.copy()
    box = signature_box(*picture.size)
    covered.paste(source.resize(picture.size).crop(box), box[:2])
    return covered


def _score(
    batch: Sequence[tuple[Pair, dict[str, Image.Image]]],
    suites: dict[str, MetricSuite],
    anchors: Sequence[MetricSuite],
) -> None:
    def with_edited(pair: Pair, picture: Image.Image) -> Pair:
        return Pair(pair.id, picture, pair.source, pair.target, pair.text, pair.mask)

    for label, suite in suites.items():
        suite.add([with_edited(pair, made[label]) for pair, made in batch if label in made])
    identity, truth = anchors
    identity.add([pair for pair, _ in batch])
    truth.add([with_edited(pair, pair.target) for pair, _ in batch if pair.target])


def _write(
    run: RunDir, rows: Sequence[Scores], per_sample: dict[str, list[dict[str, Any]]]
) -> None:
    lines = [
        json.dumps({"label": label, **row}) for label, part in per_sample.items() for row in part
    ]
    scores = {"data": run.record["data"], "editors": [row.as_dict() for row in rows]}
    write_atomically(run.path / "per_sample.jsonl", "\n".join(lines) + "\n")
    write_atomically(run.path / "scores.json", json.dumps(scores, indent=2) + "\n")
    write_atomically(run.path / "table.md", to_markdown(rows))
    write_atomically(run.path / "table.csv", to_csv(rows))
    write_atomically(run.path / "table.tex", to_latex(rows))


def _reasons(rows: Sequence[Scores]) -> str:
    reasons = dict.fromkeys(
        score.unavailable for row in rows for score in row.scores if score.unavailable
    )
    return " ".join(str(reason) for reason in reasons)

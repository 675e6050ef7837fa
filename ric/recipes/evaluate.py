"""`ric eval`: the six metrics over edit runs or any folders of images (Sec. 4).

Every picture is decoded and encoded once for all editors. The unedited source and the ground truth
are scored beside them: a metric on which the unedited source scores best says little.

An editor is scored on every sample it has a picture for; source and ground truth on the samples for
which every editor has one. A row with another N than theirs covers other samples, and is marked.

Several processes may share one run, batch by batch; one of them makes the tables.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from ric.config import compares_two
from ric.data.file_state import tables_state
from ric.device import usable_cores
from ric.errors import RicError
from ric.metric_table import OF_SCENES, SET_DISTANCES, metrics_of
from ric.metrics.edit_success import EditChecker
from ric.metrics.networks import NOT_ASKED, MetricNetworks, Unavailable
from ric.metrics.scene_net import SceneNet
from ric.models.table import uses
from ric.protocols import OF_FEW_SCORES
from ric.registry import refuse_unknown_metrics
from ric.runs.artifacts import public_name
from ric.runs.trained_on import groups_of, refuse_overlap, trained_groups
from ric.scoring.fid_set import read_fid_set
from ric.scoring.judge_prompts import questions_of
from ric.scoring.judge_summary import note_judge
from ric.scoring.load_metrics import load_pair_metrics
from ric.scoring.load_networks import load_metric_networks, load_scene_net, networks_stamp
from ric.scoring.matching import match_outputs
from ric.scoring.outputs import Outputs, find_outputs, turns_of
from ric.scoring.pie_bench import PieBenchNetworks, PieBenchSuite
from ric.scoring.read_scores import read_judge, read_scores
from ric.scoring.rules import Rules
from ric.scoring.score_batches import GROUND_TRUTH, IDENTITY, Scoring
from ric.scoring.score_table import not_available, which_samples
from ric.scoring.scored_batches import ScoredBatches, stamp
from ric.scoring.suite import MetricSuite
from ric.scoring.vlm_judge import open_judge
from ric.scoring.write_tables import Suite, make_tables, write_tables
from ric.work import open_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import torch

    from ric.config import EvalConfig
    from ric.data.sample import Samples
    from ric.progress import Progress
    from ric.runs.run import RunDir
    from ric.scoring.scores import Scores
    from ric.scoring.set_distances import FidSet
    from ric.work import Work

MOST_THREADS = 16


def evaluate(config: EvalConfig, run: RunDir, progress: Progress | None = None) -> list[Scores]:
    """Score editors on DATA and write scores.json, per_sample.jsonl, table.md, .csv and .tex.

    Raises:
        RicError: there are no outputs to score, none of them belongs to DATA, no metric could be
            computed, `--metrics` names an unknown one, or the outputs come from a model trained on
            these samples.
        Interrupted: a stop was requested; finished batches are kept.
    """
    refuse_unknown_metrics(config)
    edited = _find_edited(config, run)
    work = open_work(config, run, progress, need_instruction=False)
    matched = match_outputs(config, work.samples, edited, work)
    if not matched.any_target and config.reference == "target":
        config = replace(config, reference="source")
        work.progress.note(f"{config.data} has no targets: outputs are compared with the sources")
    if not config.allow_overlap:
        _refuse_trained_on(work.samples, edited)
    networks = _load_noted(config, work)
    judge = open_judge(config, run, work.device)
    suites = _open_suites(config, run, networks, edited, work.device)
    tables_are = tables_state(work.samples)
    if tables_are is None and work.ranks.count == 1 and not run.claims.others_at_work():
        tables_are = [uuid4().hex]  # of unknown versions: no batch is taken from an earlier attempt
    content = f"{matched.content}{tables_are}{judge.digest if judge else ''}"
    key = _key(config, run, content, edited)
    run.remove_when_done("scored")
    stored = ScoredBatches(run.path / "scored" / key)
    if work.ranks.is_main and not run.claims.others_at_work():
        stored.drop_those_with_failures()
    work.ranks.barrier()
    scoring = Scoring(config, work, edited, suites, stored, judge, _threads(), matched.ids)
    scoring.score_mine()
    if not run.shared:
        work.ranks.barrier()
        if work.ranks.is_main:
            _make_tables(scoring, networks)
            return read_scores(run.path)
        return []

    def make_tables_of_all() -> None:
        if not run.claims.was_led(tables):
            scoring.score_the_rest()
            _make_tables(scoring, networks)

    # the first to have nothing left waits for the batches of the others, and they for it
    tables = f"tables-{key}"
    run.claims.led(tables, make_tables_of_all)
    run.claims.left_to_others.clear()  # batches, of which a run has no rows
    if judge:  # what the process that made the tables found
        run.note(judge=read_judge(run.path))
    return read_scores(run.path)


def _make_tables(scoring: Scoring, networks: MetricNetworks | PieBenchNetworks) -> None:
    """Make the tables of what all processes have scored."""
    config, work, run = scoring.config, scoring.work, scoring.work.run
    fid_set = _fid_set(config, networks, work)
    scoring.gather()
    if not any(scoring.suites[item.label].ids for item in scoring.edited):
        raise RicError(
            f"No sample of {config.data} (split {config.split}) could be scored."
            f"{_failures_of(run)}",
            "Fix these files, or choose another split: --split all",
        )
    tables = make_tables(config, scoring.suites, scoring.edited, fid_set)
    rows = tables.whole.rows
    for line in which_samples(rows):
        work.progress.note(line)
    if scoring.judge:
        note_judge(config, run, tables.whole)
    write_tables(run, tables)
    _refuse_without_metrics(rows)


def _find_edited(config: EvalConfig, run: RunDir) -> list[Outputs]:
    """Find the outputs to score, and record the runs that made them."""
    edited = [
        find_outputs(text, run.runs_dir, run.resolve, match=config.match, turns=turns_of(config))
        for text in config.edits
    ]
    for item in edited:
        if item.run is not None:
            run.add_parent(item.run)
    _refuse_same_labels(edited)
    return edited


def _load_noted(config: EvalConfig, work: Work) -> MetricNetworks | PieBenchNetworks:
    """Load the metric networks, and note in the run which are not available."""
    networks = load_metric_networks(config, work.run, work.device)
    lacking = [
        name
        for name, network in {**vars(networks), **getattr(networks, "own", {})}.items()
        if isinstance(network, Unavailable) and network is not NOT_ASKED
    ]
    work.run.note(unavailable=lacking, processes=work.ranks.count)
    return networks


def _fid_set(
    config: EvalConfig, networks: MetricNetworks | PieBenchNetworks, work: Work
) -> FidSet | None:
    """Read the pictures of `--fid-set`; None where no network asks for them."""
    if not config.fid_set or not isinstance(networks, MetricNetworks):
        return None
    asked = networks.present(SET_DISTANCES)
    if not isinstance(networks.fid, Unavailable):
        asked["fid"] = networks.fid
    if not asked:
        return None
    return read_fid_set(config.fid_set, asked, config, work, threads=_threads())


def _refuse_without_metrics(rows: Sequence[Scores]) -> None:
    if all(score.value is None for row in rows for score in row.scores):
        raise RicError(
            " ".join(["No metric could be computed.", *not_available(rows)]),
            "Get the weights with ric weights get --for eval, or use --preset tiny.",
        )


def _refuse_same_labels(edited: Sequence[Outputs]) -> None:
    labels = [item.label for item in edited]
    if not labels:
        raise RicError(
            "Nothing to score.", 'Name what an editor made: ric eval "Mine=out/" --data DATA'
        )
    for label in labels:
        if [*labels, IDENTITY, GROUND_TRUTH].count(label) > 1:
            raise RicError(f"The label {label!r} is used twice.", 'Give each its own: "A=runs/3"')


def _refuse_trained_on(samples: Samples, edited: Sequence[Outputs]) -> None:
    """Refuse editors whose model was trained on samples of DATA, before loading any network."""
    groups: list[str] = []

    def asked() -> Iterable[str]:
        if not groups:
            groups.extend(groups_of(samples))
        return groups

    for item in edited:
        if item.run is not None:
            refuse_overlap(trained_groups(item.run), asked, f"the model that made {item.label!r}")


def _open_suites(
    config: EvalConfig,
    run: RunDir,
    networks: MetricNetworks | PieBenchNetworks,
    edited: Sequence[Outputs],
    device: torch.device,
) -> dict[str, Suite]:
    """Make a metric suite for each editor, the source and the ground truth, by label."""
    names = metrics_of(config)
    if isinstance(networks, PieBenchNetworks):
        new_suite: Callable[..., Suite] = partial(PieBenchSuite, networks, metrics=names)
    else:
        checker = None
        if uses(config, "scene_classifier"):
            # under --preset tiny the metric networks include the same network
            net = networks.fid
            if not isinstance(net, SceneNet):
                net = load_scene_net(config, run, device)
            checker = EditChecker(net)
        elif config.metrics is None:
            names = tuple(name for name in names if name not in OF_SCENES)
        rules = Rules(
            metrics=names,
            pair_metrics=load_pair_metrics(config, device, run),
            reference=config.reference,
            text=config.text,
            with_other=config.protocol not in OF_FEW_SCORES and not compares_two(config),
            judge=public_name(config.judge_model or config.judge) if questions_of(config) else "",
            encode_fitted=config.protocol != "magicbrush",
            seed=config.seed,
        )
        new_suite = partial(MetricSuite, networks, rules, checker=checker)
    suites: dict[str, Suite] = {item.label: new_suite(label=item.label) for item in edited}
    if not compares_two(config):
        suites[IDENTITY] = new_suite(label=IDENTITY, role="identity")
        suites[GROUND_TRUTH] = new_suite(label=GROUND_TRUTH, role="ground-truth")
    return suites


def _threads() -> int:
    """Return the number of decoding threads: this process's share of the cores, at most 16.

    Each holds full-size pictures, two of them ahead of the networks. As many more threads prepare
    pictures for the networks and compute on their pixels.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(usable_cores() // here, MOST_THREADS))


def _failures_of(run: RunDir) -> str:
    """Name the first failures of a run in a sentence; "" if there are none."""
    told = [f"{row['id']}: {row['reason']}" for row in run.rows("failures")]
    return f" {len(told)} failed: {'; '.join(told[:3])}" if told else ""


def _key(config: EvalConfig, run: RunDir, content: str, edited: Sequence[Outputs]) -> str:
    """Hash what scores depend on: outputs and samples' pictures by each file's state, networks."""
    digest = hashlib.sha256(f"{content}{networks_stamp(config, run)}".encode())
    for item in edited:
        for name, file in item.files.items():
            digest.update(repr((item.label, name, stamp(file))).encode())
    return digest.hexdigest()[:16]

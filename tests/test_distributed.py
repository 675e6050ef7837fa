"""Two processes that train together, started by torchrun as a user would."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from gradient_distance import first_moments, relative_distances
from safetensors.torch import load_file

from ric.config import FitClipConfig, TrainUnetConfig, as_dict
from ric.distributed import Ranks, start_accelerator
from ric.inputs.examples import Needs, load_examples
from ric.interrupt import StopRequest
from ric.method.region_encoder import RegionEncoder
from ric.recipes.fit_clip import embed, fit_clip
from ric.recipes.train_unet import train_unet
from ric.runs.open_run import open_run
from ric.training.contrastive_pairs import Pairs
from ric.weights.tiny_family import tiny_family
from ric.work import open_work

CPU = torch.device("cpu")
# leaves the loss, the gradients and the ids of its own share in a folder
ONE_BATCH = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from test_distributed import gradients_of_a_batch
from safetensors.torch import save_file
folder = Path(sys.argv[2])
loss, gradients, ids, ranks = gradients_of_a_batch(sys.argv[3], folder)
save_file(gradients, folder / f"{ranks.number}.safetensors")
(folder / f"{ranks.number}.json").write_text(json.dumps({"loss": loss, "ids": ids}))
"""


SLOW_SAVES = """
import time
from ric.training import loop
from ric_cli.main import main
save = loop.save_checkpoint
def slowly(*given, **named):
    time.sleep(2)
    save(*given, **named)
loop.save_checkpoint = slowly
main()
"""
TWO_HERE = ["--nproc-per-node", "2"]

# leaves which samples of which step a process has drawn in a folder
WATCHED_STEPS = """
import json, os, sys
from pathlib import Path
from ric.training import unet_step
from ric_cli.main import main
from ric.work import open_work
folder = Path(sys.argv.pop(1))
draw, drawn = unet_step.draw_batch, []
def watched(data, config, step, which):
    drawn.extend([step, k] for k in which)
    return draw(data, config, step, which)
unet_step.draw_batch = watched
try:
    main()
finally:
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(drawn))
"""


def torchrun(*words: object, by: list[str] = TWO_HERE, **environment: str) -> subprocess.Popen[str]:
    start = [sys.executable, "-m", "torch.distributed.run", *by]
    return subprocess.Popen(
        [*start, *map(str, words)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def a_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gradients_of_a_batch(data: str, folder: Path):
    """Embed the region judge's whole batch, as many processes as there are; nothing is updated."""
    config = FitClipConfig(data=data, preset="tiny", dtype="fp32", split="all")
    ranks, shown = Ranks(CPU), []
    with open_run("fit-clip", {}, runs_dir=folder / f"runs-{ranks.number}") as run:
        examples = load_examples(
            config, open_work(config, run), "all", Needs(64, region_text="region_text")
        )
    judge = RegionEncoder.from_clip(tiny_family() / "clip")

    def watched(judge, items):
        shown.extend(item.id for item in items)
        return embed(judge, items)

    pairs = Pairs(judge, watched, lambda item: item.region_text, CPU, torch.float32, 99, ranks)
    loss = pairs.backward(examples).item()
    named = judge.named_parameters()
    return loss, {name: w.grad for name, w in named if w.grad is not None}, shown, ranks


def test_two_processes_with_half_a_batch_each_give_one_s_loss_and_gradients_to_1e_6(
    make_edits, tmp_path
):
    # an odd number: the halves differ in size
    data = str(make_edits(7))
    loss, whole, ids, _ = gradients_of_a_batch(data, tmp_path)
    (tmp_path / "one_batch.py").write_text(ONE_BATCH)
    started = torchrun(tmp_path / "one_batch.py", Path(__file__).parent, tmp_path, data)
    _, talk = started.communicate(timeout=300)
    assert started.returncode == 0, talk
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert all(rank["ids"] for rank in told)
    assert not set(told[0]["ids"]) & set(told[1]["ids"])
    assert told[0]["ids"] + told[1]["ids"] == ids
    for rank in (0, 1):
        assert told[rank]["loss"] == pytest.approx(loss, abs=1e-6)
        halves = load_file(tmp_path / f"{rank}.safetensors")
        assert max(relative_distances(halves, whole).values()) < 1e-6


def fit_by_two(config: FitClipConfig, run: Path, **how: Any) -> subprocess.Popen[str]:
    settings = run.parent / f"{run.name}.yaml"
    settings.write_text(json.dumps({k: v for k, v in as_dict(config).items() if v is not None}))
    # -- : torchrun would take --run for an option of its own
    return torchrun("-m", "--", "ric_cli", "fit-clip", config.data, "--config", settings,
                    "--run", run, **how)  # fmt: skip


def test_a_fit_by_two_machines_is_one_run_with_the_losses_of_a_fit_by_one_and_a_cache_on_each(
    tiny, edits, follow, tmp_path, metrics_of, record_of
):
    config = tiny(FitClipConfig, edits, batch_size=4, fusion_epochs=1, joint_epochs=1)
    port = a_free_port()
    meet = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1",
            "--master-port", str(port)]  # fmt: skip
    caches = [tmp_path / "disk-0", tmp_path / "disk-1"]
    started = [
        fit_by_two(config, tmp_path / "two", by=[*meet, "--node-rank", str(place)],
                   RIC_CACHE_DIR=str(disk))
        for place, disk in enumerate(caches)
    ]  # fmt: skip
    told = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0], told
    assert [out for out, _ in told] == [f"{tmp_path / 'two' / 'region_encoder'}\n", ""]
    assert record_of(tmp_path / "two")["processes"] == 2
    assert record_of(tmp_path / "two")["status"] == "done"
    alone = metrics_of(follow(fit_clip, config, tmp_path / "one"))
    together = metrics_of(tmp_path / "two")
    assert [row["step"] for row in together] == [row["step"] for row in alone]
    for ours, theirs in zip(together[1:], alone[1:], strict=True):
        for name in ("loss", "grad_norm", "temperature"):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3)
    assert RegionEncoder.from_pretrained(tmp_path / "two").gated
    for kind in ("squares", "tokens"):
        fitted = [{folder.name for folder in (disk / kind).iterdir()} for disk in caches]
        assert fitted[1]
        assert fitted[1] <= fitted[0]  # the first measures other splits too


def test_two_processes_train_the_unet_as_one_does_with_the_whole_batch_to_1e_5(
    tiny, edits, follow, tmp_path, metrics_of, record_of
):
    # one process has one sample of a batch in one piece, the other two in two
    config = tiny(TrainUnetConfig, edits, steps=3, batch_size=3, accumulate=2,
                  checkpoint_every=1, keep_checkpoints=3, balance=0.5)  # fmt: skip
    (tmp_path / "settings.yaml").write_text(json.dumps(as_dict(config)))
    (tmp_path / "watched.py").write_text(WATCHED_STEPS)
    started = torchrun("--", tmp_path / "watched.py", tmp_path, "train-unet", edits, "--config",
                       tmp_path / "settings.yaml", "--run", tmp_path / "two")  # fmt: skip
    _, talk = started.communicate(timeout=300)
    assert started.returncode == 0, talk
    assert record_of(tmp_path / "two")["processes"] == 2
    drawn = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1)]
    assert [len(some) for some in drawn] == [3, 6]
    assert sorted(drawn[0] + drawn[1]) == [[step, k] for step in range(3) for k in range(3)]

    alone = follow(train_unet, config, tmp_path / "one")
    for ours, theirs in zip(metrics_of(tmp_path / "two"), metrics_of(alone), strict=True):
        for name in theirs.keys() - {"images_per_second", "step"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    # after one step a moment is a tenth of the clipped gradient
    apart = relative_distances(*(first_moments(run, step=1) for run in (tmp_path / "two", alone)))
    assert len(apart) > 100
    assert max(apart.values()) < 1e-5
    assert (tmp_path / "two" / "pipeline" / "unet").is_dir()


FITTING = {"fusion_epochs": 9999, "joint_epochs": 0, "controls": False, "batch_size": 4}
TRAINING = {"steps": 24, "batch_size": 3, "region_loss": False}


@pytest.mark.parametrize(
    ("kind", "command", "settings"),
    [
        pytest.param(FitClipConfig, "fit-clip", FITTING, id="fit-clip"),
        # the same loop hears it; it takes a minute and a half on one core
        pytest.param(
            TrainUnetConfig, "train-unet", TRAINING, id="train-unet", marks=pytest.mark.slow
        ),
    ],
)
def test_a_signal_to_one_of_two_processes_stops_both_after_a_checkpoint_and_both_go_on(
    kind, command, settings, tiny, edits, follow, tmp_path, metrics_of, record_of
):
    config, run = tiny(kind, edits, **settings), tmp_path / "run"
    (tmp_path / "settings.yaml").write_text(json.dumps(as_dict(config)))
    # a checkpoint that takes longer than the launcher takes to see that a process has ended
    (tmp_path / "slow.py").write_text(SLOW_SAVES)
    words = ["--", tmp_path / "slow.py", command, edits, "--config", tmp_path / "settings.yaml",
             "--run", run]  # fmt: skip
    started = torchrun(*words)
    try:
        until = time.monotonic() + 300
        while not (run / "metrics.jsonl").exists() or len(metrics_of(run)) < 4:
            assert time.monotonic() < until
            assert started.poll() is None
            time.sleep(0.05)
        listed = subprocess.run(
            ["pgrep", "-P", str(started.pid)], capture_output=True, text=True, check=True
        ).stdout.split()
        leader = record_of(run)["process"]["pid"]
        follower = next(int(pid) for pid in listed if int(pid) != leader)
        os.kill(follower, signal.SIGTERM)
        started.communicate(timeout=300)
    finally:
        started.kill()
    assert record_of(run)["status"] == "interrupted"
    kept = max((run / "checkpoints").iterdir())
    stopped_at = int(kept.name.removeprefix("step-"))
    assert stopped_at == metrics_of(run)[-1]["step"]
    if command == "train-unet":
        assert stopped_at < 24
        started = torchrun(*words)
        _, talk = started.communicate(timeout=300)
        assert started.returncode == 0, talk
        assert record_of(run)["status"] == "done"
        alone = metrics_of(follow(train_unet, config, tmp_path / "one"))
        ours = metrics_of(run)
        assert [row["step"] for row in ours] == list(range(1, 25))
        for row, other in zip(ours, alone, strict=True):
            assert row["loss_noise"] == pytest.approx(other["loss_noise"], rel=1e-3)


def test_shares_follow_one_another_and_differ_by_one_at_most(monkeypatch):
    ranks = Ranks(CPU)
    ranks.count = 3
    for count in (0, 1, 2, 3, 7, 64):
        shares = []
        for ranks.number in range(3):
            shares.append(list(range(count))[ranks.share(count)])
        assert list(chain(*shares)) == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_a_process_hears_only_itself():
    ranks, stop = Ranks(CPU), StopRequest()
    assert ranks.is_main
    assert ranks.any_stop(stop) is None
    stop.signal_number = signal.SIGTERM
    assert ranks.any_stop(stop) == signal.SIGTERM
    assert ranks.broadcast("word") == "word"


def test_a_signal_that_comes_while_the_others_are_asked_is_not_lost(monkeypatch):
    ranks, stop = Ranks(CPU), StopRequest()
    ranks.count = 2

    def reduce_while_signalled(tensor, op, group):
        stop.signal_number = signal.SIGINT

    monkeypatch.setattr(torch.distributed, "all_reduce", reduce_while_signalled)
    assert ranks.any_stop(stop) is None  # all agree on what was said before
    assert ranks.any_stop(stop) == signal.SIGINT


ALONE_OF_TWO = """
import sys
import ric.distributed
from ric_cli.main import main
ric.distributed.TELL_AFTER, ric.distributed.MEETING = 0.0, float(sys.argv.pop(1))
main()
"""


@pytest.fixture
def alone_of_two(make_edits, tmp_path):
    """Start a fit that a launcher's variables say has a partner, which never comes."""
    data = make_edits(7)

    def start(seconds: float) -> subprocess.Popen[str]:
        told = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(a_free_port())}  # fmt: skip
        words = ["fit-blip", data, "--preset", "tiny", "--device", "cpu", "--run", tmp_path / "run"]
        return subprocess.Popen(
            [sys.executable, "-c", ALONE_OF_TWO, str(seconds), *map(str, words)],
            env=os.environ | told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    return start


def test_who_waits_for_others_says_for_whom_and_can_be_stopped(alone_of_two, tmp_path):
    with alone_of_two(600) as process:
        line = process.stderr.readline()
        if line.startswith("Loading the libraries"):  # on a busy machine
            line = process.stderr.readline()
        assert line.startswith("Waiting at 127.0.0.1:")
        assert line.endswith("for the other 1 of the 2 processes of WORLD_SIZE.\n")
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 143
    assert said.endswith("Stopped: interrupted by SIGTERM.\n")
    assert not (tmp_path / "run").exists()


def test_others_who_do_not_come_are_an_error_of_a_line_and_a_hint(alone_of_two, tmp_path):
    with alone_of_two(1) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 1
    error, hint = said.splitlines()[-2:]
    assert error.startswith("Error: Could not connect to the other 1 of the 2 processes")
    assert error.endswith("no connection within 1 s.")
    assert hint.startswith("Hint: Start all of them with torchrun")
    assert not (tmp_path / "run").exists()


def test_accelerate_s_variables_change_nothing_of_what_it_is_told(monkeypatch):
    for name, value in {
        "GRADIENT_ACCUMULATION_STEPS": "4", "DYNAMO_BACKEND": "EAGER", "MIXED_PRECISION": "bf16",
    }.items():  # fmt: skip
        monkeypatch.setenv(f"ACCELERATE_{name}", value)
    told = start_accelerator(CPU, torch.float32, Ranks(CPU))
    assert told.gradient_accumulation_steps == 1
    assert told.mixed_precision == "no"
    assert told.state.dynamo_plugin.backend.value == "NO"


# --- two nodes that meet by torchrun's rendezvous ------------------------------------------------


class Node:
    """A node of a training: torchrun's agent and its one process, on the loopback.

    Args:
        port: Of the rendezvous, which the first node to come holds.
        nodes: How many nodes there are, such as `2`, or `1:2` for a training that goes on with one.
        words: Of the command.
    """

    def __init__(self, port: int, nodes: str, *words: object) -> None:
        meeting = [
            "--nnodes", nodes, "--nproc-per-node", "1", "--max-restarts", "2", "--rdzv-id", "ric",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}",
            "--local-addr", "127.0.0.1", "--rdzv-conf", "last_call_timeout=3",
        ]  # fmt: skip
        self.agent = torchrun("-m", "--", "ric_cli", *words, by=meeting)

    def die(self) -> None:
        """End at once, as by a loss of power."""
        found = subprocess.run(
            ["pgrep", "-P", str(self.agent.pid)], capture_output=True, text=True, check=True
        )
        for pid in (self.agent.pid, *map(int, found.stdout.split())):
            os.kill(pid, signal.SIGKILL)
        self.agent.communicate()

    def end(self) -> str:
        """Wait for its end; return what it said."""
        try:
            said = "".join(self.agent.communicate(timeout=600))
        finally:
            self.agent.kill()
        assert self.agent.returncode == 0, said
        return said


def settings_of(config: TrainUnetConfig, folder: Path) -> Path:
    file = folder / "settings.yaml"
    file.write_text(json.dumps({k: v for k, v in as_dict(config).items() if v is not None}))
    return file


@pytest.mark.slow
def test_two_nodes_train_the_unet_as_one_process_does_to_1e_5(
    tiny, edits, follow, tmp_path, metrics_of, record_of
):
    config = tiny(TrainUnetConfig, edits, steps=3, batch_size=4, checkpoint_every=1,
                  keep_checkpoints=3, balance=0.5)  # fmt: skip
    words = ["train-unet", edits, "--config", settings_of(config, tmp_path)]
    port = a_free_port()
    nodes = [Node(port, "2", *words, "--run", tmp_path / "two") for _ in range(2)]
    for node in nodes:
        node.end()
    assert record_of(tmp_path / "two")["processes"] == 2
    alone = follow(train_unet, config, tmp_path / "one")
    assert len(metrics_of(alone)) == 3
    for ours, theirs in zip(metrics_of(tmp_path / "two"), metrics_of(alone), strict=True):
        for name in theirs.keys() - {"images_per_second", "step"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-4), name
    apart = relative_distances(*(first_moments(run, step=1) for run in (tmp_path / "two", alone)))
    assert len(apart) > 100
    assert max(apart.values()) < 1e-5


@pytest.mark.slow
def test_a_node_that_dies_is_done_without_and_the_training_goes_on_from_the_last_checkpoint(
    tiny, edits, follow, tmp_path, metrics_of, record_of
):
    config = tiny(TrainUnetConfig, edits, steps=40, batch_size=2, checkpoint_every=4,
                  region_loss=False)  # fmt: skip
    run = tmp_path / "run"
    words = ["train-unet", edits, "--config", settings_of(config, tmp_path), "--run", run]
    port = a_free_port()
    first = Node(port, "1:2", *words)
    time.sleep(1)  # it holds the rendezvous
    second = Node(port, "1:2", *words)
    try:
        until = time.monotonic() + 300
        while not (run / "checkpoints").is_dir() or not list(run.glob("checkpoints/step-*")):
            assert time.monotonic() < until
            assert first.agent.poll() is None
            time.sleep(0.02)
        assert record_of(run)["processes"] == 2
    finally:
        second.die()
    said = first.end()
    resumed = re.search(r"resuming after step (\d+) of 40", said)
    assert resumed, said
    assert int(resumed[1]) % 4 == 0
    assert "Traceback" not in said, said
    assert record_of(run)["status"] == "done"
    assert record_of(run)["processes"] == 1
    rows = metrics_of(run)
    assert [row["step"] for row in rows] == list(range(1, 41))
    for row, other in zip(
        rows, metrics_of(follow(train_unet, config, tmp_path / "one")), strict=True
    ):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-3)

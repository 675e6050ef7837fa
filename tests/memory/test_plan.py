"""`--memory GB`: plans by hand, of a step whose storages are watched, and at the paper's size."""

from __future__ import annotations

import json
import shutil
import sys
import weakref
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_step import shapes_of
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ric.config import TrainUnetConfig
from ric.errors import RicError
from ric.memory import plan as module
from ric.memory.activations import Bytes, SavedActivations
from ric.memory.meta_networks import StepNetworks, pipeline_shapes
from ric.memory.plan import (
    ALLOWANCE,
    GIB,
    _plans,
    next_plan,
    out_of_memory,
    plan_as_set,
    plan_for,
    plan_memory,
    within_memory,
)
from ric.memory.step import NotHereError, Step, count_step
from ric.method.denoising import predict_noise
from ric.method.noised_batch import NoisedBatch
from ric.method.objective import RegionInContextObjective
from ric.preflight.dry_run import plan as dry_run
from ric.progress import Silent
from ric.runs.open_run import open_run
from ric.settings import resolve_config
from ric.work import open_work


@dataclass(frozen=True, kw_only=True)
class Config(TrainUnetConfig):
    """The settings that a plan sets, whatever else the command has."""

    memory: float | None = None
    lora_rank: int | None = None
    adam_8bit: bool = False
    ema_on_cpu: bool = False


def tiny(data: object = "x", **changes: Any) -> Config:
    kept = {"base": "tiny", "region_clip": "tiny", "scene_blip": "tiny", "image_size": 64}
    kept |= {"dtype": "bf16"}
    return Config(data=str(data), **(kept | changes))


def noise_alone(data: object = "x", **changes: Any) -> Config:
    """Without judges a step is counted in a second."""
    without = {"region_loss": False, "global_loss": False, "device": "cpu"}
    return tiny(data, **(without | changes))


# --- by hand: a UNet of 1 GiB and samples of 1 GiB -----------------------------------------------

LARGEST = (Bytes(GIB // 32, 0), Bytes(0, GIB // 16))
PLAIN = SavedActivations(
    by_unet=Bytes(GIB, GIB // 4),
    by_all=Bytes(2 * GIB, GIB),
    largest=LARGEST,
)
CHECKPOINTED = SavedActivations(
    by_unet=Bytes(0, 0),
    by_all=Bytes(GIB, GIB // 4),
    largest=LARGEST,
    blocks=(Bytes(GIB // 8, 0), Bytes(0, GIB // 8)),
    of_unet=1,
)
STEP = Step(
    batch=8,
    weights=4 * GIB,
    gradients=GIB,
    moments=8 * GIB,
    moments_8bit=2 * GIB,
    ema=4 * GIB,
    frozen=2 * GIB,
    copies=GIB,
    buckets=0,
    activations=lambda checkpointing: CHECKPOINTED if checkpointing else PLAIN,
)
CONFIG = Config(data="x", base="tiny")


def counted(plan) -> float:
    """Take the allowance off."""
    return (plan.total - ALLOWANCE.context) / (1 + ALLOWANCE.fragments)


def test_a_whole_batch_has_no_gradients_yet_when_it_is_fullest():
    # weights, moments, average, frozen; 2 and 8 kept; 3 in passing of 8 / 16
    assert counted(plan_as_set(STEP, CONFIG)) == pytest.approx(4 + 8 + 4 + 1 + 1 + 10 + 1.5)


def test_a_batch_in_pieces_has_them():
    plan = plan_as_set(STEP, replace(CONFIG, accumulate=2))
    assert counted(plan) == pytest.approx(18 + 1 + 2 + 4 + 0.75)


def test_checkpointing_holds_one_block_or_the_copies_of_weights_whichever_is_more():
    config = replace(CONFIG, gradient_checkpointing=True)
    assert counted(plan_as_set(STEP, config)) == pytest.approx(18 + 1 + 2 + 1 + 1.5)
    config = replace(config, accumulate=4)
    assert counted(plan_as_set(STEP, config)) == pytest.approx(18 + 1 + 1 + 0.5 + 1)


def test_the_gradients_count_where_they_outweigh_what_the_judges_kept():
    config = replace(CONFIG, gradient_checkpointing=True, batch_size=1)
    plan = plan_as_set(replace(STEP, batch=1, gradients=4 * GIB, copies=0), config)
    # 4 of gradients and an eighth of a block are more than 1.25 and an eighth
    assert counted(plan) == pytest.approx(18 + 4 + 0.125 + 0.1875)


@pytest.mark.parametrize(
    ("gigabytes", "expected"),
    [
        (80, "--accumulate 1"),
        (26, "--accumulate 4"),
        (24, "--accumulate 4 --gradient-checkpointing"),
        (20, "--accumulate 1 --gradient-checkpointing --adam-8bit"),
        (13, "--accumulate 4 --gradient-checkpointing --adam-8bit --ema-on-cpu"),
    ],
)
def test_the_first_plan_that_fits_is_the_one_that_costs_least_time(gigabytes, expected):
    plan = plan_memory(STEP, CONFIG, gigabytes)
    assert plan.flags() == expected
    assert plan.total <= gigabytes
    assert plan.in_words().startswith(f"{expected}: {plan.total:.1f} GiB at its peak (")


def test_what_the_settings_have_on_stays_on():
    config = replace(CONFIG, accumulate=4, ema_on_cpu=True)
    assert plan_memory(STEP, config, 80).flags() == "--accumulate 4 --ema-on-cpu"


def test_where_nothing_fits_the_error_tells_the_least():
    with pytest.raises(RicError) as error:
        plan_memory(STEP, CONFIG, 8)
    assert "--memory 8 is too small for this training" in error.value.message
    least = "--accumulate 8 --gradient-checkpointing --adam-8bit --ema-on-cpu"
    assert error.value.message.endswith(f"the smallest plan takes 12.6 GiB, with {least}.")


def test_the_hint_names_only_what_fits(tiny_family, tmp_path, monkeypatch):
    # what a step takes does not depend on the memory there is: each is counted once
    steps = cache(lambda config: count_step(config, tmp_path))
    monkeypatch.setattr(
        module, "count_step", lambda config, *_, **__: steps(replace(config, memory=None))
    )
    # on networks this small a LoRA saves little, and half the side most of what is kept
    config = noise_alone(ema=False)
    ways = {
        "--lora-rank 16": {"lora_rank": 16},
        "--image-size 32": {"image_size": 32},
    }
    least = {
        flags: min(plan.total for plan in _plans(steps(changed), changed))
        for flags, settings in ways.items()
        for changed in (replace(config, **settings),)
    }
    room = sorted(least.values())[0] + 1e-4
    fitting = [flags for flags, total in least.items() if total <= room]
    assert len(fitting) == 1
    with pytest.raises(RicError) as error:
        plan_for(replace(config, memory=room), tmp_path)
    assert error.value.hint == f"What fits: {' or '.join(fitting)}."
    with pytest.raises(RicError) as error:
        plan_for(replace(config, memory=ALLOWANCE.context), tmp_path)
    assert error.value.hint == "No smaller training of this base fits: use a larger card."


def test_a_memory_that_holds_no_step_is_a_problem_of_the_dry_run(tiny_family, make_edits, tmp_path):
    config = noise_alone(make_edits(4), split="all", memory=ALLOWANCE.context)
    told = dry_run(config, tmp_path)
    assert told["cost"]["memory"] in told["problems"][0]
    assert "use a larger card" in told["problems"][0]
    assert told["data"]["samples"] == 4


def test_the_next_plan_takes_less_than_the_one_that_ran_out():
    seen, config = [], CONFIG
    while plan := next_plan(STEP, config):
        assert plan.total < plan_as_set(STEP, config).total
        config = replace(config, **plan.settings())
        seen.append(plan.flags())
    assert seen[0] == "--accumulate 2"
    assert seen[-1] == "--accumulate 8 --gradient-checkpointing --adam-8bit --ema-on-cpu"


def test_a_plan_that_takes_more_is_passed_over():
    # two pieces hold 6 GiB of gradients and spare 4.75; four spare 7.125
    assert next_plan(replace(STEP, gradients=6 * GIB), CONFIG).flags() == "--accumulate 4"


# --- on the tiny family --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def step(tiny_family) -> Step:
    return count_step(tiny(device="cpu"), Path("nowhere"))


def numbers_in(folder: Path) -> int:
    """Count the numbers in a folder's safetensors, without loading them."""
    count = 0
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118
                count += torch.Size(opened.get_slice(name).get_shape()).numel()
    return count


def test_weights_and_their_copies_are_counted_to_the_byte(step, tiny_family):
    numbers = numbers_in(tiny_family / "pipeline/unet")
    assert (step.weights, step.gradients, step.moments, step.ema) == (
        4 * numbers, 4 * numbers, 8 * numbers, 4 * numbers,
    )  # fmt: skip
    folders = ("pipeline/vae", "pipeline/text_encoder", "region_encoder", "scene_encoder")
    frozen = 4 * sum(numbers_in(tiny_family / folder) for folder in folders)
    # beside them a few hundred positions and pixels' means
    assert frozen <= step.frozen <= frozen + 16_000


def test_lora_trains_its_two_matrices_beside_every_projection(tiny_family):
    step = count_step(tiny(lora_rank=4), Path("nowhere"))
    unet, _, _ = pipeline_shapes(tiny_family / "pipeline")
    sides = [
        module.in_features + module.out_features
        for name, module in unet.named_modules()
        if name.endswith(("to_q", "to_k", "to_v", "to_out.0"))
    ]
    assert sides
    assert step.gradients == 4 * 4 * sum(sides)
    assert step.weights == 4 * numbers_in(tiny_family / "pipeline/unet") + step.gradients


def test_several_processes_share_the_batch_and_hold_buckets(step, tiny_family):
    two = count_step(tiny(device="cpu", batch_size=7), Path("nowhere"), processes=2)
    assert two.batch == 4
    assert two.buckets == step.gradients


@pytest.mark.parametrize("said", [{"block_out_channels": "text"}, {"in_channels": [1]}])
def test_a_config_of_any_shape_is_one_line_of_the_plan(said, tiny_family, tmp_path):
    base = shutil.copytree(tiny_family / "pipeline", tmp_path / "base")
    config = json.loads((base / "unet/config.json").read_text())
    (base / "unet/config.json").write_text(json.dumps(config | said))
    with pytest.raises(RicError, match="--memory cannot plan for these networks: ") as error:
        count_step(noise_alone(base=str(base)), tmp_path)
    assert "\n" not in error.value.message


def test_a_network_that_is_not_here_cannot_be_planned_for(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotHereError, match="before someone/their-model is on this machine") as e:
        count_step(tiny(base="someone/their-model"), tmp_path)
    assert e.value.hint == "Get it first: ric weights get someone/their-model"


class Live(TorchDispatchMode):
    """Watch every storage from the operation that makes it until it is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.seen: dict[int, object] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._watch(tensor.untyped_storage())
        return made

    def _watch(self, storage: torch.UntypedStorage) -> None:
        address, size = storage._cdata, storage.nbytes()
        if address in self.seen:
            return
        self.seen[address] = weakref.ref(storage, lambda _: self._freed(address, size))
        self.now += size
        self.peak = max(self.peak, self.now)

    def _freed(self, address: int, size: int) -> None:
        self.now -= size
        del self.seen[address]


def watch_step(networks: StepNetworks, samples: int, size: int, pieces: int) -> int:
    """Take a logged step on a CPU's fake tensors and give the most bytes there at once."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    judged = torch.ones(samples, dtype=torch.bool)
    side = size // 2 ** (len(networks.vae.config.block_out_channels) - 1)
    with mode:
        for network in (networks.unet, *networks.frozen()):
            network.to_empty(device="cpu")
        latents, timesteps = torch.zeros(samples, 4, side, side), torch.zeros(samples).long()
        texts = torch.zeros(samples, 77, networks.unet.config.cross_attention_dim)
        objective = RegionInContextObjective(
            networks.decoder, networks.region, networks.scene, "epsilon", torch.ones(1000)
        )
        with Live() as live:
            for _ in range(pieces):
                with torch.autocast("cpu", torch.bfloat16):
                    prediction = predict_noise(networks.unet, latents, timesteps, texts, latents)
                    batch = NoisedBatch(
                        latents, latents, latents, timesteps,
                        [(0, 0, size, size)] * samples,
                        torch.ones(samples, networks.region.width),
                        torch.ones(samples, networks.scene.width),
                        judged, judged,
                    )  # fmt: skip
                    losses = objective(prediction, batch, samples)
                losses.gradient_norms()
                losses.total.backward()
                del losses, prediction
    return live.peak


COMES_AND_GOES = ("gradients", "activations", "blocks", "passing")


def of_step(plan) -> float:
    """Add up what a plan has in a step beside what is always there, in bytes."""
    return GIB * sum(
        size for name, size in plan.gib.items() if name.split(maxsplit=1)[0] in COMES_AND_GOES
    )


@pytest.mark.parametrize(
    ("samples", "pieces", "checkpointing"), [(8, 1, False), (8, 1, True), (2, 2, False)]
)
def test_a_step_takes_what_is_planned(tiny_family, step, samples, pieces, checkpointing):
    networks = shapes_of(tiny_family)
    if checkpointing:
        networks.unet.enable_gradient_checkpointing()
        networks.vae.enable_gradient_checkpointing()
    taken = watch_step(networks, samples, 64, pieces)
    config = tiny(batch_size=samples * pieces, accumulate=pieces)
    config = replace(config, gradient_checkpointing=checkpointing)
    planned = of_step(plan_as_set(replace(step, batch=samples * pieces), config))
    # the plan rather takes too much than too little; of networks this small, three largest tensors
    assert planned / 1.4 <= taken <= planned * 1.01


def test_the_dry_run_shows_the_plan_which_is_the_same_whatever_the_data(tiny_family, make_edits):
    config = noise_alone(make_edits(4), memory=8, split="all")
    expected = plan_memory(count_step(config, Path("nowhere")), config, 8).in_words()
    for data in (config.data, "./nowhere"):
        told = dry_run(replace(config, data=data), Path("nowhere"))
        assert told["cost"]["memory"] == expected


def test_the_dry_run_says_which_model_is_not_here_to_plan_for(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    shown = dry_run(noise_alone(base="someone/their-model", memory=8), tmp_path)["cost"]["memory"]
    assert shown == "--memory cannot plan before someone/their-model is on this machine."


def test_a_run_takes_its_plan_and_keeps_it(tiny_family, make_edits, tmp_path):
    said = []

    class Progress(Silent):
        def note(self, text: str) -> None:
            said.append(text)

    config = noise_alone(make_edits(4), memory=1, split="all", batch_size=4)
    full = plan_as_set(count_step(config, tmp_path), config)
    config = replace(config, memory=full.total - 0.01)
    run = open_run("train-unet", {}, runs_dir=tmp_path)
    work = open_work(config, run, Progress())
    planned = within_memory(config, work)
    assert planned == replace(config, accumulate=planned.accumulate)
    assert planned.accumulate > 1
    assert said[0].startswith(f"--accumulate {planned.accumulate}: ")
    assert run.record["memory_plan"]["accumulate"] == planned.accumulate
    # a later attempt goes on by it, whatever it would plan itself
    more = replace(config, batch_size=8)
    assert within_memory(more, work) == replace(more, accumulate=planned.accumulate)
    assert len(said) == 1
    assert within_memory(replace(config, memory=None), work).accumulate == 1


def test_without_bitsandbytes_no_plan_is_in_8_bits_that_is_not_asked_for(
    tiny_family, tmp_path, monkeypatch
):
    config = noise_alone(batch_size=4)
    step = count_step(config, tmp_path)
    assert next_in_8_bits(step, config)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert not next_in_8_bits(step, config)
    assert plan_as_set(step, replace(config, adam_8bit=True)).eight_bit


def next_in_8_bits(step, config) -> bool:
    """Tell whether any plan that takes less than `config`'s own is in 8 bits."""
    plan = next_plan(step, replace(config, accumulate=4, gradient_checkpointing=True))
    return plan is not None and plan.eight_bit


def test_running_out_of_memory_names_the_next_plan(tiny_family, tmp_path):
    error = out_of_memory(noise_alone(), tmp_path)
    assert error.message == "The GPU ran out of memory."
    assert error.hint.endswith("GiB: --accumulate 2. Or: --memory GB")
    last = noise_alone(batch_size=1, gradient_checkpointing=True, adam_8bit=True, ema=False)
    assert out_of_memory(last, tmp_path).hint.startswith("No plan takes less. Try --lora-rank 16")


# --- the paper's networks ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper() -> TrainUnetConfig:
    return resolve_config(TrainUnetConfig, {"data": "x"})


@pytest.mark.slow
def test_the_papers_networks_stand_in_where_they_are_not_here(paper, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    step = count_step(paper, tmp_path)
    assert step.weights == 4 * 859_532_484  # SD1.5's 859.5 M with eight input channels
    assert step.frozen / 4 == pytest.approx(83.7e6 + 123.1e6 + 149.6e6 + 224e6, rel=0.03)


@pytest.mark.slow
def test_with_norms_in_bfloat16_the_paper_preset_takes_what_was_estimated(paper, tmp_path):
    # 25 to 28 GiB, before allowances; a GPU computes norms in float32, which keeps 6 GiB more
    for device, most in (("cpu", 28), ("auto", 34)):
        plan = plan_as_set(count_step(replace(paper, device=device), tmp_path), paper)
        total = plan.total - plan.gib["allowance"] - plan.gib["passing"]
        assert most - 3 < total < most


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_papers_step_takes_what_is_planned(paper, tmp_path, checkpointing):
    from ric.memory.step import _networks

    config = replace(paper, device="cpu", batch_size=4, gradient_checkpointing=checkpointing)
    step = count_step(config, tmp_path)
    networks = _networks(config, tmp_path)
    if checkpointing:
        networks.unet.enable_gradient_checkpointing()
        networks.vae.enable_gradient_checkpointing()
    taken = watch_step(networks, 4, 256, pieces=1)
    planned = of_step(plan_as_set(step, config))
    assert planned / 1.25 <= taken <= planned * 1.01

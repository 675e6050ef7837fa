"""A step of `ric train-unet` asks the device for nothing, unless it logs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from prepared_samples import prepared_samples
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ric.config import TrainUnetConfig
from ric.inputs.batches import draw_batch
from ric.method.objective import RegionInContextObjective
from ric.method.region_encoder import RegionEncoder
from ric.method.scene_encoder import SceneEncoder
from ric.models.pipeline import load_pipeline
from ric.recipes import train_unet as module
from ric.recipes.train_unet import train_unet
from ric.training import unet_step
from ric.training.unet_step import judge_batch

aten = torch.ops.aten
# what gives the host a number, or makes a tensor whose size depends on one
READING_OPERATIONS = (aten._local_scalar_dense, aten.nonzero, aten.is_nonzero, aten.equal,
                      aten.masked_select, aten._unique2, aten.unique_dim, aten.bincount,
                      aten.repeat_interleave)  # fmt: skip
# what reads memory without an operation
READING_METHODS = {"tolist", "cpu", "numpy", "__array__", "item", "__bool__", "__int__",
                   "__float__", "__index__", "__repr__"}  # fmt: skip


def tensors_in(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class HostReads:
    """Pretends that some tensors, and all that is computed from them, are on a device.

    Attributes:
        of_step: What the host has read of them, one list a step.
    """

    def __init__(self) -> None:
        self.of_step: list[list[str]] = []
        self._held: set[int] = set()

    def hold(self, *values: Any) -> None:
        self._held.update(memory_of(tensor) for tensor in tensors_in(*values))

    def any_held(self, *values: Any) -> bool:
        return any(memory_of(tensor) in self._held for tensor in tensors_in(*values))

    def release(self, tensor: Tensor) -> None:
        self._held.discard(memory_of(tensor))

    def read(self, what: object) -> None:
        if self.of_step:
            self.of_step[-1].append(str(what))

    @contextmanager
    def watching(self) -> Iterator[None]:
        with WatchMethods(self), WatchOperations(self):
            yield


def memory_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class WatchMethods(TorchFunctionMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        if name in READING_METHODS and self.reads.any_held(args):
            self.reads.read(name)
        return func(*args, **kwargs or {})


class WatchOperations(TorchDispatchMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is aten.lift_fresh.default:  # a tensor of numbers that the host has
            self.reads.release(args[0])
        held = self.reads.any_held(args, kwargs)
        if held and (func.overloadpacket in READING_OPERATIONS or masks(func, args)):
            self.reads.read(func)
        result = func(*args, **kwargs)
        before = {memory_of(tensor) for tensor in tensors_in(args, kwargs)}
        if held:
            self.reads.hold(result)
            if func._schema.is_mutable:  # what it writes to may be among its arguments
                self.reads.hold(args, kwargs)
        else:
            for made in tensors_in(result):
                # memory given back may be given out again
                if memory_of(made) not in before:
                    self.reads.release(made)
        return result


def masks(func: Any, args: tuple[Any, ...]) -> bool:
    """Tell whether an operation indexes by a mask: how much it picks is a number to be read."""
    indexing = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
    return func.overloadpacket in indexing and any(
        tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_in(args[1])
    )


def test_the_watch_sees_every_way_to_read_what_is_held_and_of_its_offspring():
    reads = HostReads()
    held, free, mask = torch.arange(3.0), torch.arange(3.0), torch.tensor([True, False, True])
    reads.hold(held, mask)
    ways: list[Callable[[Tensor], object]] = [
        lambda one: one.sum().item(),
        lambda one: one.tolist(),
        lambda one: float(one.max()),
        lambda one: bool((one > 7).any()),
        lambda one: one.nonzero(),
        lambda one: one[one > 1],
        lambda one: torch.equal(one, torch.zeros(3)),
        lambda one: one.cpu(),
        lambda one: one.numpy(),
    ]
    with reads.watching():
        for way in ways:
            for tensor, seen in ((held, True), ((held + 1) * free, True), (free, False)):
                reads.of_step.append([])
                way(tensor)
                assert bool(reads.of_step[-1]) is seen, reads.of_step[-1]
        reads.of_step.append([])
        torch.where(mask, held, 0).clamp(min=1).mean()
        assert reads.of_step[-1] == []


def test_steps_that_do_not_log_read_nothing_of_what_is_on_the_device(
    edits, tiny, follow, tmp_path, monkeypatch
):
    reads, train, draw = HostReads(), module._train, unet_step.draw_batch

    def watched(config, work, setup, checkpoint):
        pipeline, objective, data = setup
        networks = (pipeline.unet, objective.vae, objective.region_encoder, objective.scene_encoder)
        for network in networks:
            reads.hold(list(network.parameters()), list(network.buffers()))
        reads.hold(objective.alphas_cumprod, data.null_prompt)
        for sample in data.samples:
            reads.hold([vars(view) for view in sample.views], vars(sample))
        with reads.watching():
            train(config, work, setup, checkpoint)

    def begin(*given):
        reads.of_step.append([])
        return draw(*given)

    monkeypatch.setattr(module, "_train", watched)
    monkeypatch.setattr(unet_step, "draw_batch", begin)
    # a dropped picture or text, and so rows that no judge looks at, among the first samples
    settings = {"seed": 6, "conditioning_dropout": 0.2, "batch_size": 4}
    config = tiny(TrainUnetConfig, edits, steps=6, log_every=3, checkpoint_every=99, **settings)
    follow(train_unet, config, tmp_path / "run")
    counts = [len(step) for step in reads.of_step]
    assert len(counts) == 6
    # ten numbers and the skipped steps' count
    assert counts[2] >= 11, reads.of_step[2]
    assert counts[5] >= 11
    assert [counts[step] for step in (0, 1, 3, 4)] == [0, 0, 0, 0], reads.of_step


# --- what the device has to be sent --------------------------------------------------------------


class Sendings:
    """Collects what the host sends to the device `meta`, by whether it waits for the device."""

    def __init__(self) -> None:
        self.waited: list[str] = []
        self.unwaited: list[str] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        with WatchNumbers(self), WatchTransfers(self):
            yield


class WatchNumbers(TorchFunctionMode):
    """Sees numbers of the host's that become a tensor on the device without an operation."""

    def __init__(self, sendings: Sendings) -> None:
        super().__init__()
        self.sendings = sendings

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        indexes = func in (Tensor.__getitem__, Tensor.__setitem__) and args[0].is_meta
        listed = indexes and any(isinstance(part, list) for part in (args[1], *as_tuple(args[1])))
        if listed or (func is torch.tensor and str(kwargs.get("device")) == "meta"):
            self.sendings.waited.append(func.__name__)
        return func(*args, **kwargs)


def as_tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


class WatchTransfers(TorchDispatchMode):
    """Sees operations that bring a tensor of the host's together with one of the device."""

    def __init__(self, sendings: Sendings) -> None:
        super().__init__()
        self.sendings = sendings

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = tensors_in(args, kwargs)
        # a single number goes along with the kernel
        from_host = [tensor for tensor in given if not tensor.is_meta and tensor.dim()]
        if from_host and any(tensor.is_meta for tensor in (*given, *tensors_in(result))):
            sendings = self.sendings
            into = sendings.unwaited if kwargs.get("non_blocking") else sendings.waited
            into.append(str(func))
        return result


@pytest.fixture
def on_no_device(edits, tiny, tiny_family, tmp_path):
    """Eq. 10, data and UNet on `meta`: a device without memory, of which nothing can be read."""
    config = tiny(TrainUnetConfig, edits, seed=6, conditioning_dropout=0.2, batch_size=4)
    pipeline = load_pipeline(tiny_family / "pipeline", torch.device("cpu"))
    region = RegionEncoder.from_pretrained(tiny_family / "region_encoder")
    scene = SceneEncoder.from_pretrained(tiny_family / "scene_encoder")
    _, here = prepared_samples(config, pipeline, region, scene, tmp_path)
    data = replace(
        here,
        samples=[
            replace(moved(sample), views=tuple(moved(view) for view in sample.views))
            for sample in here.samples
        ],
        null_prompt=here.null_prompt.to("meta"),
    )
    alphas = DDPMScheduler.from_config(pipeline.scheduler.config).alphas_cumprod.to("meta")
    networks = (network.to("meta") for network in (pipeline.vae, region, scene))
    objective = RegionInContextObjective(*networks, "epsilon", alphas)
    return config, data, objective, pipeline.unet.to("meta")


def moved(one: Any) -> Any:
    """Give a dataclass with its tensors on `meta`."""
    tensors = {key: value for key, value in vars(one).items() if isinstance(value, Tensor)}
    return replace(one, **{key: value.to("meta") for key, value in tensors.items()})


def test_a_batch_is_sent_to_the_device_and_judged_there_without_waiting_for_it(on_no_device):
    config, data, objective, unet = on_no_device
    sendings = Sendings()
    with sendings.watching():
        batch = draw_batch(data, config, 0, range(4))
        losses = judge_batch(unet, objective, batch, 4)
        losses.total.backward()
    assert 0 < losses.region_count < 4
    assert unet.conv_in.weight.grad.shape == unet.conv_in.weight.shape
    assert sendings.waited == []
    # noise, the posterior's spread, and the timesteps for the UNet and for Eq. 5
    assert len(sendings.unwaited) == 4


def test_the_watch_on_sendings_sees_tables_and_masks_and_tensors():
    here, there = torch.arange(3.0), torch.zeros(3, device="meta")
    for send in (
        lambda: here.to("meta"),
        lambda: there[[0, 2]],
        lambda: there.__setitem__(torch.tensor([True, False, True]), 0),
        lambda: there[torch.tensor([1])],
        lambda: there.copy_(here),
        lambda: torch.tensor([1.0, 2.0], device="meta"),
    ):
        sendings = Sendings()
        with sendings.watching():
            send()
        assert len(sendings.waited) == 1
    sendings = Sendings()
    with sendings.watching():
        here.to("meta", non_blocking=True)
        there[1:] * 2 + torch.zeros_like(there)[1]
    assert (sendings.waited, len(sendings.unwaited)) == ([], 1)


# --- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
def test_on_a_gpu_no_step_but_one_that_logs_waits_for_it(
    edits, tiny, follow, tmp_path: Path, monkeypatch
):
    draw, begun = unet_step.draw_batch, []

    def watched(data, config, step, which):
        begun.append(step)
        # the first step moves what stays there; every third logs
        quiet = step > 0 and (step + 1) % 3 != 0
        torch.cuda.set_sync_debug_mode("error" if quiet else "default")
        return draw(data, config, step, which)

    monkeypatch.setattr(unet_step, "draw_batch", watched)
    config = tiny(TrainUnetConfig, edits, device="cuda", dtype="bf16", seed=6, steps=6,
                  log_every=3, checkpoint_every=99, conditioning_dropout=0.2)  # fmt: skip
    try:
        follow(train_unet, config, tmp_path / "run")
        assert begun == list(range(6))
        torch.cuda.set_sync_debug_mode("error")
        with pytest.raises(RuntimeError, match="synchroniz"):
            torch.ones(1, device="cuda").item()
    finally:
        torch.cuda.set_sync_debug_mode("default")

"""The activations that a step saves for its backward pass, counted without weights or a GPU.

The networks run forward on PyTorch's fake tensors, which have a shape, a type and a device but no
values, under the autocast rules of the device they pretend to be on. `saved_tensors_hooks` sees
what autograd saves; each storage counts once, weights not at all. Counts for one sample and for two
give a straight line for any batch: a fixed part, such as bfloat16 copies of weights, and a part per
sample.

A block under gradient checkpointing saves only its inputs; its other activations exist while it is
recomputed for the backward pass, so only the largest block counts.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.autograd.graph import saved_tensors_hooks

from ric.method.denoising import predict_noise
from ric.method.noised_batch import NoisedBatch
from ric.method.objective import RegionInContextObjective
from ric.training.attention import attending_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from torch import Tensor

    from ric.memory.meta_networks import StepNetworks

TIMESTEPS = 1000
TOKENS = 77  # per instruction


@dataclass(frozen=True)
class Bytes:
    """A fixed number of bytes, and a number for each sample."""

    fixed: int
    each: int

    def of(self, samples: int) -> int:
        """Return the bytes of a micro-batch."""
        return self.fixed + self.each * samples


@dataclass(frozen=True)
class SavedActivations:
    """The activations that a micro-batch saves for its backward pass.

    Attributes:
        by_unet: After the UNet's forward pass.
        by_all: After the losses too.
        largest: The largest tensors, one of a fixed size and one that grows with the samples; in
            float32, as their gradients may be.
        blocks: What each checkpointed block recomputes in the backward pass; the UNet's first.
        of_unet: How many of the blocks are the UNet's.
    """

    by_unet: Bytes
    by_all: Bytes
    largest: tuple[Bytes, Bytes]
    blocks: tuple[Bytes, ...] = ()
    of_unet: int = 0

    def largest_tensor(self, samples: int) -> int:
        """Return the bytes of the largest tensor."""
        return max(tensor.of(samples) for tensor in self.largest)

    def largest_block(self, samples: int, *, unet_alone: bool = False) -> int:
        """Return the bytes of the largest checkpointed block."""
        blocks = self.blocks[: self.of_unet] if unet_alone else self.blocks
        return max((block.of(samples) for block in blocks), default=0)


@dataclass
class _Frame:
    """The storages saved within a checkpointed block, or outside of all blocks."""

    storages: dict[int, torch.UntypedStorage] = field(default_factory=dict)
    inner: int = 0  # bytes of the largest block within it

    def size(self) -> int:
        """Return the bytes of what is saved here."""
        return sum(storage.nbytes() for storage in self.storages.values())


class SavedTensors:
    """Adds up what autograd saves while it is open: every storage once, and no weights.

    Args:
        networks: Their parameters and buffers are not counted.
    """

    def __init__(self, networks: Iterable[torch.nn.Module]) -> None:
        """Start with nothing saved; see the class."""
        self._weights = {
            _address(tensor)
            for network in networks
            for tensor in (*network.parameters(), *network.buffers())
        }
        self._frames = [_Frame()]
        self.blocks: list[int] = []
        self.tensors: set[int] = set()

    def open(self) -> AbstractContextManager[object]:
        """Count what is saved within this context."""
        return saved_tensors_hooks(self._pack, lambda tensor: tensor)

    @property
    def nbytes(self) -> int:
        """The bytes saved so far, outside of checkpointed blocks."""
        return self._frames[0].size()

    def checkpoint(self, block: Callable[..., Any], *inputs: object) -> Any:
        """Stand in for `torch.utils.checkpoint`: run a block and count its inputs as saved."""
        for value in inputs:
            if isinstance(value, torch.Tensor):
                self._pack(value)
        self._frames.append(_Frame())
        output = block(*inputs)
        frame = self._frames.pop()
        size = frame.size() + frame.inner
        self._frames[-1].inner = max(self._frames[-1].inner, size)
        if len(self._frames) == 1:
            self.blocks.append(size)
        return output

    def _pack(self, tensor: Tensor) -> Tensor:
        address = _address(tensor)
        known = any(address in frame.storages for frame in self._frames)
        if address not in self._weights and not known:
            # the reference keeps a later storage from reusing its address
            storage = self._frames[-1].storages[address] = tensor.untyped_storage()
            self.tensors.add(4 * (storage.nbytes() // tensor.itemsize))
        return tensor


def count_saved_activations(
    networks: StepNetworks, *, image_size: int, dtype: torch.dtype, device: str = "cuda"
) -> Callable[[bool], SavedActivations]:
    """Prepare to count the activations of a step of these networks.

    The UNet's memory format is that of `train_unet`; both judges score every sample, while in a
    real batch they leave some out (choice 6).

    Args:
        networks: On the meta device; they become fake tensors.
        image_size: S, in pixels.
        dtype: What the networks compute in: float32 or bfloat16.
        device: Whose rules apply: `cuda` (there need not be one) or `cpu`.

    Returns:
        A function that counts without (False) or with (True) gradient checkpointing.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        for network in (networks.unet, *networks.frozen()):
            network.to_empty(device=device)
    return partial(_count, mode, networks, Setting(image_size, dtype, device))


class Setting(NamedTuple):
    """The size, precision and device of a micro-batch.

    Attributes:
        image_size: S, in pixels.
        dtype: What the networks compute in.
        device: The networks' device.
    """

    image_size: int
    dtype: torch.dtype
    device: str


def _count(
    mode: FakeTensorMode, networks: StepNetworks, setting: Setting, checkpointing: bool
) -> SavedActivations:
    one, two = (
        activations_of_micro_batch(networks, samples, setting, checkpointing, within=mode)
        for samples in (1, 2)
    )
    return SavedActivations(
        by_unet=_line(one.by_unet, two.by_unet),
        by_all=_line(one.by_all, two.by_all),
        largest=(
            Bytes(max(one.tensors & two.tensors, default=0), 0),
            Bytes(0, max(two.tensors - one.tensors) // 2),
        ),
        blocks=tuple(_line(*pair) for pair in zip(one.blocks, two.blocks, strict=True)),
        of_unet=one.of_unet,
    )


def _line(one: int, two: int) -> Bytes:
    return Bytes(fixed=2 * one - two, each=two - one)


@dataclass(frozen=True)
class MicroBatchActivations:
    """The activations of a micro-batch of a given size, in bytes; see `SavedActivations`."""

    by_unet: int
    by_all: int
    tensors: set[int]
    blocks: tuple[int, ...]
    of_unet: int


def activations_of_micro_batch(
    networks: StepNetworks,
    samples: int,
    setting: Setting,
    checkpointing: bool,
    within: AbstractContextManager[object] | None = None,
) -> MicroBatchActivations:
    """Run one micro-batch forward and add up the activations that are saved.

    Args:
        networks: Real ones, or fake ones with their mode as `within`.
        samples: B.
        setting: Size, precision and device.
        checkpointing: Whether UNet and decoder are checkpointed.
        within: A context that everything happens in.
    """
    image_size, dtype, device = setting
    saved = SavedTensors([networks.unet, *networks.frozen()])
    for network in (networks.unet, networks.decoder):
        network.disable_gradient_checkpointing()
        if checkpointing:
            network.enable_gradient_checkpointing(saved.checkpoint)
    side = image_size // 2 ** (len(networks.vae.config.block_out_channels) - 1)
    shape = (samples, networks.unet.config.out_channels, side, side)
    with within or nullcontext(), _autocast(device, dtype), _fused_attention(device):
        noisy, source = torch.zeros(shape, device=device), torch.zeros(shape, device=device)
        with saved.open():
            prediction = _ask(networks, noisy, source)
            by_unet, of_unet = saved.nbytes, len(saved.blocks)
            _judge(networks, prediction, noisy, image_size)
    return MicroBatchActivations(by_unet, saved.nbytes, saved.tensors, tuple(saved.blocks), of_unet)


def _ask(networks: StepNetworks, noisy: Tensor, source: Tensor) -> Tensor:
    timesteps = torch.zeros(len(noisy), dtype=torch.long, device=noisy.device)
    width = networks.unet.config.cross_attention_dim
    instructions = torch.zeros(len(noisy), TOKENS, width, device=noisy.device)
    return predict_noise(networks.unet, noisy, timesteps, instructions, source)


def _judge(networks: StepNetworks, prediction: Tensor, noisy: Tensor, image_size: int) -> None:
    samples, device = len(noisy), noisy.device
    objective = RegionInContextObjective(
        networks.decoder,
        networks.region,
        networks.scene,
        prediction_type="epsilon",
        alphas_cumprod=torch.full((TIMESTEPS,), 0.5, device=device),
    )
    e_tr, e_tf = [
        None if judge is None else torch.ones(samples, judge.width, device=device)
        for judge in (networks.region, networks.scene)
    ]
    with unset_fake_temporarily():
        judged = torch.ones(samples, dtype=torch.bool)  # read on the host
    batch = NoisedBatch(
        noisy=noisy,
        clean_latents=noisy,
        noise=torch.zeros_like(noisy),
        timesteps=torch.zeros(samples, dtype=torch.long, device=device),
        boxes=[(0, 0, image_size, image_size)] * samples,
        region_text_embeddings=e_tr,
        scene_text_embeddings=e_tf,
        kept_region=judged,
        kept_scene=judged,
    )
    objective(prediction, batch, batch_size=samples)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@contextmanager
def _autocast(device: str, dtype: torch.dtype) -> Iterator[None]:
    """Act like torch.autocast, which switches itself off where the device does not exist."""
    if dtype == torch.float32:
        yield
        return
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, dtype)
    torch.autocast_increment_nesting()
    try:
        yield
    finally:
        if torch.autocast_decrement_nesting() == 0:
            torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


def _fused_attention(device: str) -> AbstractContextManager[None]:
    """Make attention save what a GPU's fused kernels save: inputs, output and a row of sums.

    PyTorch chooses the kernel by the GPU; without one it would fall back to unfused attention and
    save the whole matrix. On a CPU it is fused anyway.
    """
    return attending_by(_efficient_attention) if device == "cuda" else nullcontext()


def _efficient_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: object,
) -> Tensor:
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
        query, key, value = (tensor.to(dtype) for tensor in (query, key, value))
    return torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale
    )[0]

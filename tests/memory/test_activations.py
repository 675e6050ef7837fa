"""What a step keeps is counted on fake tensors; here real ones say whether the count is right."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest
import torch
from tiny_step import loaded, shapes_of
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from ric.memory.activations import (
    SavedActivations,
    SavedTensors,
    Setting,
    activations_of_micro_batch,
    count_saved_activations,
)
from ric.memory.meta_networks import StepNetworks, pipeline_shapes
from ric.method.denoising import predict_noise
from ric.method.noised_batch import NoisedBatch
from ric.method.objective import RegionInContextObjective

SIZE = 64
BF16 = torch.bfloat16


def really_kept(networks: StepNetworks, samples: int, size: int, dtype: torch.dtype) -> list[int]:
    """Run a piece for real and add up the storages that autograd keeps: the UNet's, then all."""
    weights = {
        tensor.untyped_storage().data_ptr()
        for network in (networks.unet, *networks.frozen())
        for tensor in network.state_dict(keep_vars=True).values()
    }
    # buffers that are not saved with a network are no activations either
    weights |= {
        buffer.untyped_storage().data_ptr()
        for network in (networks.unet, *networks.frozen())
        for buffer in network.buffers()
    }
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    side = size // 2 ** (len(networks.vae.config.block_out_channels) - 1)
    noisy, source = torch.randn(2, samples, 4, side, side)
    timesteps = torch.full((samples,), 500)
    texts = torch.randn(samples, 77, networks.unet.config.cross_attention_dim)
    objective = RegionInContextObjective(
        networks.decoder, networks.region, networks.scene, "epsilon", torch.full((1000,), 0.5)
    )
    judges = (networks.region, networks.scene)
    embeddings = [judge and torch.randn(samples, judge.width) for judge in judges]
    judged = torch.ones(samples, dtype=torch.bool)
    box = (0, 0, size, size)
    found = []
    with (
        torch.autocast("cpu", BF16, enabled=dtype == BF16),
        saved_tensors_hooks(pack, lambda tensor: tensor),
    ):
        prediction = predict_noise(networks.unet, noisy, timesteps, texts, source)
        found.append(sum(storage.nbytes() for storage in kept.values()))
        batch = NoisedBatch(
            noisy, noisy, noisy.clone(), timesteps, [box] * samples, *embeddings, judged, judged
        )
        losses = objective(prediction, batch, samples)
        found.append(sum(storage.nbytes() for storage in kept.values()))
    del losses
    return found


@pytest.fixture(scope="module")
def count(tiny_family) -> Callable[[bool], SavedActivations]:
    counting = count_saved_activations(
        shapes_of(tiny_family), image_size=SIZE, dtype=BF16, device="cpu"
    )
    return cache(counting)


@pytest.fixture(scope="module")
def networks(tiny_family) -> StepNetworks:
    return loaded(tiny_family)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_fake_networks_keep_what_real_ones_keep(count, networks, checkpointing):
    for network in (networks.unet, networks.vae):
        network.disable_gradient_checkpointing()
        if checkpointing:
            network.enable_gradient_checkpointing()  # PyTorch's own
    # counted for one and for two
    by_unet, by_all = really_kept(networks, 5, SIZE, BF16)
    assert count(checkpointing).by_unet.of(5) == pytest.approx(by_unet, rel=0.01)
    assert count(checkpointing).by_all.of(5) == pytest.approx(by_all, rel=0.01)


def test_in_float32_too(tiny_family, networks):
    networks.unet.disable_gradient_checkpointing()
    networks.vae.disable_gradient_checkpointing()
    fp32 = torch.float32
    counted = count_saved_activations(
        shapes_of(tiny_family), image_size=SIZE, dtype=fp32, device="cpu"
    )(False)
    by_unet, by_all = really_kept(networks, 3, SIZE, fp32)
    assert counted.by_unet.of(3) == pytest.approx(by_unet, rel=0.01)
    assert counted.by_all.of(3) == pytest.approx(by_all, rel=0.01)


def test_checkpointed_blocks_keep_within_what_they_kept_in_all_without(count):
    without, checkpointed = count(False), count(True)
    within = sum(block.of(4) for block in checkpointed.blocks)
    # what goes into a block is kept outside of it; nothing else changes its place
    assert checkpointed.by_all.of(4) < without.by_all.of(4) <= checkpointed.by_all.of(4) + within
    assert 0 < checkpointed.of_unet < len(checkpointed.blocks)


def test_the_same_step_is_counted_on_real_networks_too(networks):
    counted = activations_of_micro_batch(
        networks, 2, Setting(SIZE, BF16, "cpu"), checkpointing=False
    )
    assert [counted.by_unet, counted.by_all] == really_kept(networks, 2, SIZE, BF16)


# --- by hand -------------------------------------------------------------------------------------


def test_storages_count_once_and_weights_not_at_all():
    layer, x = nn.Linear(3, 5), torch.randn(7, 3, requires_grad=True)
    saved = SavedTensors([layer])
    with saved.open():
        y = layer(x)  # keeps x and the weight
        (y.sin() + y.T.contiguous().T.cos()).sum()  # sin keeps y, cos a copy of it
    assert saved.nbytes == 4 * (7 * 3 + 2 * 7 * 5)
    with saved.open():
        (y.view(5, 7).exp() * y[:1].sin().sum()).sum()  # exp and * keep exp(y); y is known
    assert saved.nbytes == 4 * (7 * 3 + 2 * 7 * 5 + 5 * 7 + 1)
    assert max(saved.tensors) == 4 * 7 * 5


def test_a_checkpointed_block_keeps_its_inputs_and_the_rest_counts_while_it_is_computed_again():
    saved, x = SavedTensors([]), torch.randn(10, requires_grad=True)

    def inner(value: torch.Tensor) -> torch.Tensor:
        return value.sin().sin().sin()  # keeps value, which is known, and two more

    def outer(value: torch.Tensor) -> torch.Tensor:
        return saved.checkpoint(inner, value.sin()).cos()  # inner's input, then inner's output

    with saved.open():
        saved.checkpoint(outer, x)
    assert saved.nbytes == 40
    assert saved.blocks == [4 * (10 + 10 + 20)]


def gpu_keeps(forward, *shape: int) -> int:
    """Tell what a GPU keeps of a forward pass in bfloat16, beside its input, in bytes."""
    from ric.memory.activations import _autocast, _fused_attention

    with FakeTensorMode(), _autocast("cuda", BF16), _fused_attention("cuda"):
        x = torch.empty(shape, device="cuda", dtype=BF16, requires_grad=True)
        saved = SavedTensors([])
        with saved.open():
            forward(x)
        return saved.nbytes - x.nbytes


def test_a_gpu_computes_norms_in_float32():
    def norm(x: torch.Tensor) -> torch.Tensor:
        return functional.group_norm(x, 4)

    # the float32 copy of the input is kept, x is not; with it a mean and a spread for every group
    assert gpu_keeps(norm, 2, 8, 16, 16) == 2 * 8 * 256 * (4 - 2) + 2 * 2 * 4 * 4


def test_a_gpu_keeps_no_matrix_of_attention():
    def attend(x: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(x, x, x)

    # the output, a float32 for every row, and the state of dropout's random numbers
    assert gpu_keeps(attend, 2, 3, 4096, 40) == 2 * 3 * 4096 * (40 * 2 + 4) + 16


def test_counting_leaves_pytorch_as_it_was(tiny_family):
    usual = functional.scaled_dot_product_attention
    unet, vae, text_encoder = pipeline_shapes(tiny_family / "pipeline")
    shapes = StepNetworks(unet, vae, vae, text_encoder, None, None)
    count_saved_activations(shapes, image_size=SIZE, dtype=BF16)(True)
    assert functional.scaled_dot_product_attention is usual
    assert not torch.is_autocast_enabled("cuda")
    assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


# --- at full size --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_real_stable_diffusion_unet_keeps_what_is_counted():
    unet, vae, text_encoder = pipeline_shapes(None)
    shapes = StepNetworks(unet, vae, vae, text_encoder, None, None)
    counted = count_saved_activations(shapes, image_size=256, dtype=BF16, device="cpu")(False)
    unet, _, _ = pipeline_shapes(None)
    unet.to_empty(device="cpu")
    with torch.no_grad():
        for weight in unet.parameters():
            weight.fill_(1e-3)
    alone = StepNetworks(unet, nn.Module(), nn.Module(), nn.Module(), None, None)
    alone.vae.config = vae.config
    by_unet, _ = really_kept(alone, 1, 256, BF16)
    assert counted.by_unet.of(1) == pytest.approx(by_unet, rel=0.01)


@pytest.mark.gpu
def test_a_real_gpu_keeps_what_is_counted(tiny_family):
    counted = count_saved_activations(shapes_of(tiny_family), image_size=SIZE, dtype=BF16)(False)
    networks = loaded(tiny_family, "cuda")
    setting = Setting(SIZE, BF16, "cuda")
    activations_of_micro_batch(networks, 8, setting, checkpointing=False)  # libraries load
    real = activations_of_micro_batch(networks, 8, setting, checkpointing=False)
    assert counted.by_unet.of(8) == pytest.approx(real.by_unet, rel=0.05)
    assert counted.by_all.of(8) == pytest.approx(real.by_all, rel=0.05)

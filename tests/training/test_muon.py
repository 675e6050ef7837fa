"""Muon with AdamW beside it, against the update written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from ric.errors import RicError
from ric.training.muon import GuardedMuon, Muon, flattened

RATE, DECAY, MOMENTUM = 0.01, 0.1, 0.95


class Small(nn.Module):
    """A first convolution, an inner one, a linear layer, an embedding: all kinds of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.conv_in = nn.Conv2d(3, 4, 3)
        self.inner = nn.Conv2d(4, 6, 3)
        self.linear = nn.Linear(6, 8)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        middle = self.inner(self.conv_in(pixels)).mean((2, 3))
        return self.linear(middle).square().sum() + self.embedding.weight.square().sum()


def small(memory_format=torch.contiguous_format) -> tuple[Small, dict[str, nn.Parameter]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Small().to(memory_format=memory_format)
    return model, dict(model.named_parameters())


def pixels(step: int) -> torch.Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))


def start(named) -> GuardedMuon:
    return GuardedMuon(named, lr=RATE, weight_decay=DECAY, max_grad_norm=1e9)


def take_steps(model, optimizer, steps) -> None:
    for step in steps:
        loss = model(pixels(step))
        loss.backward()
        optimizer.step(loss)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """U V^T of the singular value decomposition: what Newton and Schulz's iteration is after."""
    u, _, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    return (u @ v).float()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_an_inner_convolution_moves_by_its_orthogonal_momentum_scaled_as_adamw_s(memory_format):
    _, named = small(memory_format)
    weight = named["inner.weight"]
    before = weight.detach().clone()
    gradient = torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    for other in named.values():
        other.grad = torch.zeros_like(other)
    weight.grad = gradient.to(memory_format=memory_format)
    start(named).step(torch.tensor(1.0))
    step = before * (1 - RATE * DECAY) - weight.detach()
    # the first momentum, seen ahead by Nesterov, points where the gradient does
    expected = orthogonal(gradient.flatten(1)) * 0.2 * math.sqrt(4 * 9) * RATE
    # the iteration leaves singular values between 0.5 and 1.5
    cosine = nn.functional.cosine_similarity(step.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.95
    values = torch.linalg.svdvals(step.flatten(1)) / (0.2 * math.sqrt(4 * 9) * RATE)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_updates_are_those_of_torch_s_muon_to_the_precision_of_bfloat16(shape):
    generator = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(shape, generator=generator))
    theirs = nn.Parameter(ours.detach().clone())
    muon = Muon([ours], lr=RATE, weight_decay=DECAY)
    torchs = torch.optim.Muon([theirs], lr=RATE, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    for _ in range(4):
        ours.grad = torch.randn(shape, generator=generator)
        theirs.grad = ours.grad.clone()
        muon.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=0)  # one step moves by 2e-2


def test_embeddings_biases_and_the_first_convolution_move_as_adamw_moves_them():
    model, named = small()
    twin, others = small()
    adamw = torch.optim.AdamW(twin.parameters(), lr=RATE, weight_decay=DECAY)
    optimizer = start(named)
    loss = model(pixels(0))
    loss.backward()
    twin(pixels(0)).backward()
    optimizer.step(loss)
    adamw.step()
    for name in ("embedding.weight", "conv_in.weight", "conv_in.bias", "inner.bias", "linear.bias"):
        torch.testing.assert_close(named[name], others[name])
    for name in ("inner.weight", "linear.weight"):
        assert not torch.allclose(named[name], others[name])


def test_memory_formats_take_the_same_steps():
    (model, named), (other, others) = small(), small(torch.channels_last)
    take_steps(model, start(named), range(3))
    take_steps(other, start(others), range(3))
    for name, weight in named.items():
        # the iteration rounds to bfloat16, columns in another order
        torch.testing.assert_close(weight, others[name], atol=3e-3, rtol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_flattened_weight_shares_its_memory(memory_format):
    weight = torch.zeros(4, 3, 2, 2).to(memory_format=memory_format)
    flattened(weight).fill_(1)
    assert bool((weight == 1).all())


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
    model, named = small()
    optimizer = start(named)
    take_steps(model, optimizer, range(2))
    kept = {name: weight.detach().clone() for name, weight in named.items()}
    moments = {name: value.clone() for name, value in optimizer.tensors(named).items()}
    loss = model(pixels(2)) * float("nan")
    loss.backward()
    optimizer.step(loss)
    assert all(torch.equal(weight, kept[name]) for name, weight in named.items())
    after = optimizer.tensors(named)
    assert all(torch.equal(after[key], moments[key]) for key in moments if "guard" not in key)
    assert optimizer.check() == 1
    for _ in range(9):
        loss = model(pixels(2)) * float("nan")
        loss.backward()
        optimizer.step(loss)
    with pytest.raises(RicError, match="not finite in 10 steps in a row"):
        optimizer.check()


def test_what_is_saved_goes_on_to_the_bit():
    model, named = small(torch.channels_last)
    optimizer = start(named)
    take_steps(model, optimizer, range(3))
    saved = {name: value.clone() for name, value in optimizer.tensors(named).items()}
    weights = {name: weight.detach().clone() for name, weight in named.items()}
    take_steps(model, optimizer, range(3, 5))
    other, others = small(torch.channels_last)
    again = start(others)
    with torch.no_grad():
        for name, weight in others.items():
            weight.copy_(weights[name])
    again.restore(others, saved)
    take_steps(other, again, range(3, 5))
    assert all(torch.equal(weight, others[name]) for name, weight in named.items())


def test_gradients_of_both_are_clipped_together():
    model, named = small()
    optimizer = GuardedMuon(named, lr=RATE, weight_decay=0.0, max_grad_norm=1e-3)
    loss = model(pixels(0))
    loss.backward()
    norm = torch.stack([weight.grad.norm() for weight in named.values()]).norm()
    assert optimizer.step(loss) == pytest.approx(float(norm), rel=1e-5)

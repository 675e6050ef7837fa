"""Attention that is trained on a CPU, against the formula written out in float64."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ric.device import draw_generator
from ric.training.attention import trained_attention

CPU = torch.device("cpu")
BF16_ROUNDING = 2**-9  # relative, at most: 8 bits of fraction, the first of them not stored


def drawn(*shape: int, key: str) -> Tensor:
    return torch.randn(*shape, generator=draw_generator(0, key)).bfloat16()


@pytest.fixture
def given() -> list[Tensor]:
    """Query, key and value: 2 pictures, 4 heads, 64 tokens that look at 48, 16 wide."""
    return [
        drawn(2, 4, tokens, 16, key=name).requires_grad_()
        for name, tokens in (("query", 64), ("key", 48), ("value", 48))
    ]


def attend(*given: Tensor, mask: Tensor | None = None) -> Tensor:
    """Ask torch for it as networks do, by the name that stands there now."""
    return functional.scaled_dot_product_attention(*given, attn_mask=mask)


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return (scores if mask is None else scores + mask).softmax(-1) @ value


def with_gradients(result: Tensor, given: list[Tensor]) -> list[Tensor]:
    pull = drawn(*result.shape, key="pull").to(result.dtype)
    return [result, *torch.autograd.grad(result, given, pull)]


def distances(found: list[Tensor], expected: list[Tensor]) -> list[float]:
    """Give how far apart they lie, as a share of the length of what is expected."""
    return [
        (torch.linalg.vector_norm(ours.double() - theirs) / theirs.norm()).item()
        for ours, theirs in zip(found, expected, strict=True)
    ]


@pytest.mark.parametrize("masked", [False, True])
def test_under_autocast_what_comes_out_and_its_gradient_are_the_formula_s_but_for_the_last_rounding(
    given, masked
):
    mask = drawn(64, 48, key="mask") if masked else None
    exact = [one.detach().double().requires_grad_() for one in given]
    wide = None if mask is None else mask.double()
    expected = with_gradients(written_out(*exact, wide), exact)
    with torch.autocast("cpu", dtype=torch.bfloat16), trained_attention(CPU):
        found = with_gradients(attend(*given, mask=mask), given)
    assert all(one.dtype == torch.bfloat16 for one in found)
    assert max(distances(found, expected)) < BF16_ROUNDING
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = with_gradients(attend(*given, mask=mask), given)
    assert max(distances(found, expected)) < max(distances(fused, expected))


def test_float64_stays_float64(given):
    exact = [one.detach().double().requires_grad_() for one in given]
    with trained_attention(CPU):
        found = attend(*exact)
    torch.testing.assert_close(found, written_out(*exact), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("device", "gradient"), [("cpu", False), ("cuda", True)])
def test_what_needs_no_gradient_and_all_of_a_gpu_is_left_to_torch(given, device, gradient):
    inputs = [one.detach().requires_grad_(gradient) for one in given]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        usual = attend(*inputs)
        with trained_attention(torch.device(device)):
            assert torch.equal(attend(*inputs), usual)
        with trained_attention(CPU):
            assert not torch.equal(attend(*given), usual)


def test_a_block_that_is_computed_twice_has_the_gradient_of_one_that_is_computed_once():
    project = nn.Linear(16, 48, bias=False)

    def block(tokens: Tensor) -> Tensor:
        heads = project(tokens).chunk(3, dim=-1)
        return attend(*heads).float().square().sum()

    tokens, found = drawn(2, 64, 16, key="tokens"), []
    for twice in (False, True):
        with trained_attention(CPU):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = checkpoint(block, tokens, use_reentrant=False) if twice else block(tokens)
            found += torch.autograd.grad(loss, project.parameters())
    assert torch.equal(*found)

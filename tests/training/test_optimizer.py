from __future__ import annotations

import json
import math
import sys

import pytest
import torch
from torch import nn

from ric.errors import RicError
from ric.training.optimizer import GuardedAdamW, finite_or_none


@pytest.fixture
def layer() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(4, 3)


def take_step(layer: nn.Linear, optimizer: GuardedAdamW, factor: float = 1.0) -> torch.Tensor:
    loss = factor * layer(torch.ones(2, 4)).square().mean()
    loss.backward()
    return optimizer.step(loss)


def everything(layer: nn.Linear, optimizer: GuardedAdamW) -> list[torch.Tensor]:
    state = [value for part in optimizer.optimizer.state.values() for value in part.values()]
    return [tensor.detach().clone() for tensor in (*layer.parameters(), *state)]


def test_a_finite_step_is_that_of_torch_adamw_with_clipping(layer):
    other = nn.Linear(4, 3)
    other.load_state_dict(layer.state_dict())
    ours = GuardedAdamW(layer.parameters(), lr=0.1, weight_decay=0.3, max_grad_norm=0.2)
    plain = torch.optim.AdamW(other.parameters(), lr=0.1, weight_decay=0.3, foreach=False)
    for _ in range(3):
        norm = take_step(layer, ours)
        other(torch.ones(2, 4)).square().mean().backward()
        gradients = torch.cat([p.grad.flatten() for p in other.parameters()])
        assert norm == pytest.approx(gradients.norm().item(), rel=1e-6)
        for parameter in other.parameters():
            parameter.grad *= min(1, 0.2 / gradients.norm())
        plain.step()
        plain.zero_grad()
    torch.testing.assert_close(layer.weight, other.weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(layer.bias, other.bias, atol=1e-5, rtol=1e-5)
    assert layer.weight.grad is None


def test_without_a_largest_norm_gradients_are_left_as_they_are(layer):
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1)
    layer(torch.ones(2, 4)).square().mean().mul(1000).backward()
    gradient = layer.weight.grad.clone()
    optimizer.step(torch.tensor(0.0))
    moment = optimizer.optimizer.state[layer.weight]["exp_avg"]
    torch.testing.assert_close(moment, 0.1 * gradient, rtol=1e-4, atol=0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_leaves_weights_moments_and_step_counts_alone(layer, bad):
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1, max_grad_norm=1.0)
    take_step(layer, optimizer)
    before = everything(layer, optimizer)
    take_step(layer, optimizer, factor=bad)
    after = everything(layer, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert optimizer.check() == 1
    assert layer.weight.grad is None  # the next step must not add to a NaN
    take_step(layer, optimizer)
    assert not torch.equal(layer.weight, after[0])
    assert optimizer.check() == 1


def test_one_infinite_gradient_under_a_finite_loss_is_skipped_too(layer):
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1)
    take_step(layer, optimizer)
    before = everything(layer, optimizer)
    layer(torch.ones(2, 4)).mean().backward()
    layer.weight.grad[1, 2] = torch.inf
    optimizer.step(torch.tensor(0.5))
    assert all(torch.equal(a, b) for a, b in zip(before, everything(layer, optimizer), strict=True))
    assert optimizer.check() == 1


def test_ten_bad_steps_in_a_row_stop_the_run_with_the_next_step_to_take(layer):
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1)
    for count in range(1, 10):
        take_step(layer, optimizer, math.nan)
        assert optimizer.check() == count
    take_step(layer, optimizer, math.nan)
    with pytest.raises(RicError, match="not finite in 10 steps in a row; the run stops") as error:
        optimizer.check()
    assert error.value.hint == "The last checkpoint is kept. Try a lower --lr, or --dtype fp32."


def test_ten_in_a_row_are_seen_even_when_a_good_step_came_before_the_look(layer):
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1)
    for factor in (*[math.nan] * 10, 1.0):
        take_step(layer, optimizer, factor)
    with pytest.raises(RicError, match="10 steps in a row"):
        optimizer.check()


def test_nine_bad_steps_and_a_good_one_go_on_counting_from_zero(layer):
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1)
    for factor in (*[math.nan] * 9, 1.0, *[math.nan] * 9):
        take_step(layer, optimizer, factor)
    assert optimizer.check() == 18


def test_restored_moments_and_counts_continue_as_if_nothing_had_stopped(layer):
    named = dict(layer.named_parameters())
    first = GuardedAdamW(layer.parameters(), lr=0.1)
    for factor in (1.0, 1.0, *[math.nan] * 6):
        take_step(layer, first, factor)
    saved = {key: tensor.clone() for key, tensor in first.tensors(named).items()}
    weights = {key: tensor.clone() for key, tensor in layer.state_dict().items()}
    take_step(layer, first)
    expected = layer.weight.detach().clone()

    layer.load_state_dict(weights)
    second = GuardedAdamW(layer.parameters(), lr=0.1)
    second.restore(named, saved)
    assert second.check() == 6
    take_step(layer, second)
    assert torch.equal(layer.weight, expected)
    assert second.check() == 6


@pytest.mark.parametrize("bad", [6, 10, 12])
def test_a_checkpoint_written_amid_bad_steps_has_ten_tries_again_when_it_is_resumed(layer, bad):
    named = dict(layer.named_parameters())
    first = GuardedAdamW(layer.parameters(), lr=0.1)
    for factor in (1.0, *[math.nan] * bad):
        take_step(layer, first, factor)
    saved = {key: tensor.clone() for key, tensor in first.tensors(named).items()}

    second = GuardedAdamW(layer.parameters(), lr=0.1)
    second.restore(named, saved)
    assert second.check() == bad
    for _ in range(9):
        take_step(layer, second, math.nan)
    assert second.check() == bad + 9
    take_step(layer, second, math.nan)
    with pytest.raises(RicError, match="10 steps in a row"):
        second.check()


def test_a_checkpoint_that_also_holds_how_many_in_a_row_is_read_without_them(layer):
    named = dict(layer.named_parameters())
    optimizer = GuardedAdamW(layer.parameters(), lr=0.1)
    take_step(layer, optimizer)
    saved = optimizer.tensors(named) | {"guard:counts": torch.tensor([10.0, 10.0, 12.0])}
    optimizer.restore(named, saved)
    assert optimizer.check() == 12


def test_a_row_with_nan_becomes_strict_json():
    row = finite_or_none({"loss": math.nan, "grad_norm": math.inf, "skipped": 2, "lr": 0.1})
    assert row == {"loss": None, "grad_norm": None, "skipped": 2, "lr": 0.1}
    json.dumps(row, allow_nan=False)


# --- moments in 8 bits ---------------------------------------------------------------------------


@pytest.fixture
def wide() -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(128, 64)  # 8,192 weights: those under 4,096 stay in 32 bits


def take_wide_step(layer: nn.Linear, optimizer: GuardedAdamW, step: int) -> None:
    draw = torch.Generator().manual_seed(step)
    loss = layer(torch.randn(8, 128, generator=draw)).square().mean()
    loss.backward()
    optimizer.step(loss)


def test_in_8_bits_moments_take_a_quarter_and_steps_are_nearly_adamw_s(wide):
    other = nn.Linear(128, 64)
    other.load_state_dict(wide.state_dict())
    begun = wide.weight.detach().clone()
    small = GuardedAdamW(wide.parameters(), lr=1e-3, eight_bit=True)
    usual = GuardedAdamW(other.parameters(), lr=1e-3)
    for step in range(20):
        take_wide_step(wide, small, step)
        take_wide_step(other, usual, step)
    ours, theirs = wide.weight - begun, other.weight - begun
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0) > 0.99
    assert (ours - theirs).abs().mean() < 0.1 * theirs.abs().mean()

    def size(optimizer: GuardedAdamW, layer: nn.Linear) -> int:
        named = {"weight": layer.weight}
        return sum(tensor.nbytes for tensor in optimizer.tensors(named).values())

    assert size(small, wide) < 0.27 * size(usual, other)


def test_in_8_bits_a_restored_optimizer_goes_on_to_the_bit(wide):
    optimizer = GuardedAdamW(wide.parameters(), lr=1e-3, eight_bit=True)
    for step in range(3):
        take_wide_step(wide, optimizer, step)
    twin = nn.Linear(128, 64)
    twin.load_state_dict(wide.state_dict())
    again = GuardedAdamW(twin.parameters(), lr=1e-3, eight_bit=True)
    kept = {
        name: tensor.clone()
        for name, tensor in optimizer.tensors(dict(wide.named_parameters())).items()
    }
    again.restore(dict(twin.named_parameters()), kept)
    for step in range(3, 6):
        take_wide_step(wide, optimizer, step)
        take_wide_step(twin, again, step)
    assert torch.equal(wide.weight, twin.weight)
    assert torch.equal(wide.bias, twin.bias)


def test_in_8_bits_a_step_that_is_not_finite_changes_nothing(wide):
    optimizer = GuardedAdamW(wide.parameters(), lr=1e-3, eight_bit=True)
    take_wide_step(wide, optimizer, 0)
    named = dict(wide.named_parameters())
    before = {
        name: tensor.clone() for name, tensor in {**optimizer.tensors(named), **named}.items()
    }
    loss = math.nan * wide(torch.ones(2, 128)).sum()
    loss.backward()
    optimizer.step(loss)
    after = {**optimizer.tensors(named), **named}
    moved = [name for name, tensor in after.items() if not torch.equal(tensor, before[name])]
    assert moved == ["guard:counts"]
    assert optimizer.check() == 1
    take_wide_step(wide, optimizer, 1)
    assert not torch.equal(wide.weight, before["weight"])


@pytest.mark.parametrize("eight_bit", [False, True])
def test_moments_in_8_bits_and_others_are_never_taken_for_each_other(eight_bit, wide):
    named = dict(wide.named_parameters())
    optimizer = GuardedAdamW(named.values(), lr=1e-3, eight_bit=eight_bit)
    take_wide_step(wide, optimizer, 0)
    other = GuardedAdamW(named.values(), lr=1e-3, eight_bit=not eight_bit)
    with pytest.raises(RicError, match="are in 8 bits, but not both"):
        other.restore(named, optimizer.tensors(named))


def test_without_bitsandbytes_one_line_says_how_to_get_it(layer, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(RicError, match="--adam-8bit needs bitsandbytes") as error:
        GuardedAdamW(layer.parameters(), lr=0.1, eight_bit=True)
    assert "ric[8bit]" in error.value.hint

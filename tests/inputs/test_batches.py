from __future__ import annotations

import math

import pytest
import torch

from ric.config import TrainUnetConfig
from ric.inputs.batches import Batch, TrainingSet, draw_batch, draw_sample
from ric.inputs.encodings import SAYS_A_SIDE, Prepared, View

COUNT = 10
SHAPE = (2, 3, 3)
SCALE = 0.5


def latents(value: float) -> torch.Tensor:
    return torch.full(SHAPE, value)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    """Sample i has source i + 1, target mean 100 i, spread 0.01; its flipped twin is negative."""
    samples = []
    for i in range(COUNT):
        plain = View(latents(i + 1), latents(100 * i), latents(0.01), (0, 0, i + 1, 4))
        mirrored = View(latents(-i - 1), latents(-100 * i), latents(0.01), (63 - i, 0, 64, 4))
        no_box = View(plain.source, plain.target_mean, plain.target_std, None)
        samples.append(
            Prepared(
                views=(no_box,) if i == 7 else (plain,) if i % 2 else (plain, mirrored),
                instruction=torch.full((5, 4), i + 1.0),
                region_text=torch.tensor([i, 0.0]),
                scene_text=torch.tensor([i, 1.0, 2.0]),
            )
        )
    return TrainingSet(samples, torch.full((5, 4), -1.0), SCALE, num_timesteps=1000)


def config(**changes: object) -> TrainUnetConfig:
    return TrainUnetConfig(**{"batch_size": 4, "seed": 3} | changes)


def assert_same(one: Batch, other: Batch) -> None:
    for key, value in vars(one).items():
        expected = getattr(other, key)
        same = torch.equal(value, expected) if torch.is_tensor(value) else value == expected
        assert same, key


def numbers(batch: Batch) -> list[int]:
    """Which samples a batch holds: their scene texts carry their number."""
    return [int(row[0]) for row in batch.scene_aims]


@pytest.mark.parametrize("step", [0, 2, 7])
def test_sample_k_of_a_step_is_the_same_whatever_range_it_is_asked_in(data, step):
    whole = draw_batch(data, config(), step, range(4))
    for k in range(4):
        assert_same(
            draw_batch(data, config(), step, range(k, k + 1)),
            Batch(
                **{
                    key: None if value is None else value[k : k + 1]
                    for key, value in vars(whole).items()
                }
            ),
        )


def test_the_global_random_state_neither_matters_nor_moves(data):
    torch.manual_seed(1)
    first = draw_batch(data, config(), 5, range(4))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    assert_same(draw_batch(data, config(), 5, range(4)), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_seed_step_and_place_each_change_the_noise(data):
    first = draw_batch(data, config(), 5, range(4)).noise
    assert not torch.equal(first, draw_batch(data, config(seed=4), 5, range(4)).noise)
    assert not torch.equal(first, draw_batch(data, config(), 6, range(4)).noise)
    assert len(torch.unique(first)) == first.numel()


def test_every_epoch_visits_each_sample_once_in_an_order_of_its_own(data):
    # 20 samples of batch size 4 are two epochs of 10; the third batch straddles them
    seen = [n for step in range(5) for n in numbers(draw_batch(data, config(), step, range(4)))]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert seen[:10] != list(range(10))


def test_noise_is_standard_normal_and_t_is_uniform_below_its_bound():
    draws = [
        draw_sample(0, step, 0, shape=(4, 4, 4), num_timesteps=1000, dropout=0.05)
        for step in range(2000)
    ]
    for name in ("noise", "spread"):
        values = torch.stack([getattr(item, name) for item in draws])
        assert values.mean().abs() < 3 / math.sqrt(values.numel())
        assert values.std() == pytest.approx(1, abs=3 / math.sqrt(2 * values.numel()))
    noise, spread = torch.stack([torch.stack([d.noise, d.spread]) for d in draws]).unbind(1)
    assert (noise * spread).mean().abs() < 3 / math.sqrt(noise.numel())
    steps = torch.tensor([item.timestep for item in draws], dtype=torch.float)
    assert steps.mean() == pytest.approx(499.5, abs=3 * 1000 / math.sqrt(12 * 2000))
    assert 0 <= steps.min() < 10
    assert 989 < steps.max() <= 999


def test_text_picture_and_both_are_dropped_five_percent_of_the_time_each():
    count = 20_000
    draws = [
        draw_sample(0, place // 8, place % 8, shape=(1,), num_timesteps=1000, dropout=0.05)
        for place in range(count)
    ]
    sigma = math.sqrt(count * 0.05 * 0.95)
    for drops in ((True, False), (False, True), (True, True)):
        found = sum((item.drop_text, item.drop_source) == drops for item in draws)
        assert abs(found - 0.05 * count) < 3 * sigma, drops
    flips = sum(item.flip for item in draws)
    assert abs(flips - count / 2) < 3 * math.sqrt(count / 4)


def test_dropped_text_is_the_null_prompt_dropped_picture_is_zero_and_neither_is_judged(data):
    met = set()
    for step in range(40):
        batch = draw_batch(data, config(conditioning_dropout=0.2), step, range(4))
        for k, number in enumerate(numbers(batch)):
            no_text = bool((batch.instructions[k] == -1).all())
            no_picture = bool((batch.source[k] == 0).all())
            if not no_text:
                assert (batch.instructions[k] == number + 1).all()
            if not no_picture:
                assert (batch.source[k].abs() == number + 1).all()
            untouched = not (no_text or no_picture)
            assert bool(batch.kept_scene[k]) == untouched
            assert bool(batch.kept_region[k]) == (untouched and number != 7)
            assert (batch.boxes[k] is None) == (number == 7)
            assert batch.region_aims[k].tolist() == [number, 0]
            met.add((no_text, no_picture))
    assert met == {(False, False), (True, False), (False, True), (True, True)}


def test_a_batch_does_not_write_into_the_prepared_latents(data):
    batch = draw_batch(data, config(conditioning_dropout=1 / 3), 0, range(4))
    assert (batch.source == 0).any()
    assert all((item.views[0].source == i + 1).all() for i, item in enumerate(data.samples))


def test_without_dropout_everything_is_kept(data):
    for step in range(20):
        batch = draw_batch(data, config(conditioning_dropout=0.0), step, range(4))
        assert batch.kept_scene.all()
        assert (batch.instructions != -1).all()


def test_the_target_is_sampled_with_mean_and_spread_and_scaled(data):
    batch = draw_batch(data, config(), 1, range(4))
    for k, number in enumerate(numbers(batch)):
        draw = draw_sample(3, 1, k, shape=SHAPE, num_timesteps=1000, dropout=0.05)
        mean = -100 * number if draw.flip and number % 2 == 0 else 100 * number
        torch.testing.assert_close(batch.clean[k], SCALE * (mean + 0.01 * draw.spread))
        assert torch.equal(batch.noise[k], draw.noise)
        assert batch.timesteps[k] == draw.timestep


def test_a_flipped_view_brings_its_own_latents_and_box_and_the_others_are_never_flipped(data):
    flipped = dict.fromkeys(range(COUNT), 0)
    for step in range(100):
        batch = draw_batch(data, config(conditioning_dropout=0.0), step, range(4))
        for k, number in enumerate(numbers(batch)):
            mirrored = bool((batch.source[k] < 0).all())
            flipped[number] += mirrored
            if number != 7:
                box = (63 - number, 0, 64, 4) if mirrored else (0, 0, number + 1, 4)
                assert batch.boxes[k] == box
    # 40 times each: even ones may flip, odd ones have no second view
    assert all(flipped[number] == 0 for number in range(1, COUNT, 2))
    assert all(8 < flipped[number] < 32 for number in range(0, COUNT, 2))


@pytest.mark.parametrize(
    ("instruction", "says"),
    [
        ("put it LEFT of the tree", True),
        ("the leftmost ball", True),
        ("a right-hand glove", True),
        ("a star in the topleft corner", True),
        ("move it to the upper_right", True),
        ("turn it counter-clockwise", True),
        ("make it brightly lit", False),
        ("set the chair upright", False),
        ("remove the ball", False),
    ],
)
def test_an_instruction_that_names_a_side_is_recognised(instruction, says):
    assert bool(SAYS_A_SIDE.search(instruction)) is says


def test_without_judges_there_are_no_embeddings(data):
    bare = [
        Prepared(item.views, item.instruction, region_text=None, scene_text=None)
        for item in data.samples
    ]
    batch = draw_batch(TrainingSet(bare, data.null_prompt, SCALE, 1000), config(), 0, range(4))
    assert batch.region_aims is None
    assert batch.scene_aims is None


def test_a_sample_without_a_text_is_a_zero_row_that_only_its_own_judge_leaves_out(data):
    samples = [
        Prepared(
            item.views,
            item.instruction,
            region_text=None if i in (1, 2) else item.region_text,
            scene_text=None if i in (2, 3) else item.scene_text,
        )
        for i, item in enumerate(data.samples)
    ]
    lacking = TrainingSet(samples, data.null_prompt, SCALE, 1000)
    for step in range(10):
        whole = draw_batch(data, config(), step, range(4))
        batch = draw_batch(lacking, config(), step, range(4))
        for k, number in enumerate(numbers(whole)):
            assert batch.kept_region[k] == (whole.kept_region[k] and number not in (1, 2))
            assert batch.kept_scene[k] == (whole.kept_scene[k] and number not in (2, 3))
            assert batch.region_aims[k].tolist() == ([0, 0] if number in (1, 2) else [number, 0])
            assert batch.scene_aims[k].any() == (number not in (2, 3))
        assert torch.equal(batch.clean, whole.clean)

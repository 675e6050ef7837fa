from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import cosine_similarity

from ric.errors import RicError
from ric.method.alignment import AlignmentRules, augmented
from ric.method.denoising import add_noise, clean_from_prediction, training_target
from ric.method.noised_batch import NoisedBatch
from ric.method.objective import Losses, RegionInContextObjective, freeze

LATENT = (4, 4, 8, 8)  # decoded to 32x32 pixels
BOXES = [(0, 0, 12, 20), (8, 8, 32, 32), (4, 20, 30, 29), (16, 0, 32, 8)]


@dataclass(frozen=True)
class Batch:
    """The arguments of one call, in float64."""

    prediction: Tensor
    noisy: Tensor
    clean_latents: Tensor
    noise: Tensor
    timesteps: Tensor
    boxes: list[Any]
    region_text_embeddings: Tensor | None
    scene_text_embeddings: Tensor | None
    kept_region: Tensor = field(default_factory=lambda: torch.ones(4, dtype=torch.bool))
    kept_scene: Tensor = field(default_factory=lambda: torch.ones(4, dtype=torch.bool))
    region_ceilings: Tensor | None = None
    scene_ceilings: Tensor | None = None
    batch_size: int = 4

    def of(self, objective: RegionInContextObjective, factors: Any = None) -> Losses:
        asked = dict(vars(self))
        prediction, batch_size = asked.pop("prediction"), asked.pop("batch_size")
        return objective(prediction, NoisedBatch(**asked), batch_size, factors)

    def rows(self, rows: slice) -> Batch:
        whole = {"batch_size": self.batch_size}
        values = {k: v[rows] for k, v in vars(self).items() if v is not None and k not in whole}
        return Batch(**values, **whole)


@pytest.fixture
def judges(region_encoder, scene_encoder, vae):
    return vae.double(), region_encoder.double(), scene_encoder.double()


@pytest.fixture
def batch(judges, alphas_cumprod, draw) -> Batch:
    _, region_encoder, scene_encoder = judges
    clean, noise, error = (
        torch.randn(LATENT, generator=draw, dtype=torch.float64) for _ in range(3)
    )
    timesteps = torch.tensor([10, 100, 300, 500])
    noisy = add_noise(clean, noise, alphas_cumprod[timesteps])
    with torch.no_grad():
        e_tr = region_encoder.encode_text(["a red ball", "a dog", "two birds", "a lamp"])
        e_tf = scene_encoder.encode_text(["the red ball lies on grass", "a dog", "sky", "a room"])
    prediction = (noise + 0.3 * error).requires_grad_()
    return Batch(prediction, noisy, clean, noise, timesteps, BOXES, e_tr, e_tf)


@pytest.fixture
def objective(judges, alphas_cumprod) -> RegionInContextObjective:
    return RegionInContextObjective(*judges, "epsilon", alphas_cumprod)


def decoded(vae: AutoencoderKL, latents: Tensor) -> Tensor:
    return vae.decode(latents / vae.config.scaling_factor).sample


def written_out(judges, batch: Batch, alphas_cumprod: Tensor) -> tuple[list[float], list[float]]:
    """1 - cos of each sample for Eqs. 8 and 9, one sample at a time."""
    vae, region_encoder, scene_encoder = judges
    region, scene = [], []
    for i, (x_min, y_min, x_max, y_max) in enumerate(batch.boxes):
        a = float(alphas_cumprod[batch.timesteps[i]])
        x0 = (batch.noisy[i] - (1 - a) ** 0.5 * batch.prediction[i]) / a**0.5  # Eq. 5
        pixels = decoded(vae, x0[None]).clamp(-1, 1)
        cut = pixels[:, :, y_min:y_max, x_min:x_max]  # Eq. 6
        e_r = region_encoder.tokens(region_encoder.image_pixels(cut))
        e_f = region_encoder.tokens(region_encoder.image_pixels(pixels))
        f_r = region_encoder.fusion(e_r, e_f).mean(1)[0]  # Eq. 7
        e_tr = batch.region_text_embeddings[i]
        region.append(1 - float(f_r @ e_tr / (f_r.norm() * e_tr.norm())))  # Eq. 8
        e_f = scene_encoder.encode_image(pixels)[0]
        e_tf = batch.scene_text_embeddings[i]
        scene.append(1 - float(e_f @ e_tf / (e_f.norm() * e_tf.norm())))  # Eq. 9
    return region, scene


def test_every_term_is_what_the_paper_writes(objective, judges, batch, alphas_cumprod):
    losses = batch.of(objective)
    with torch.no_grad():
        region, scene = written_out(judges, batch, alphas_cumprod)
    noise = ((batch.prediction - batch.noise) ** 2).mean().item()
    assert losses.noise.item() == pytest.approx(noise)
    assert losses.region.item() == pytest.approx(sum(region) / 4)
    assert losses.global_.item() == pytest.approx(sum(scene) / 4)
    assert losses.total.item() == pytest.approx(noise + sum(region) / 4 + sum(scene) / 4)
    assert losses.region_cosine.item() == pytest.approx(1 - sum(region) / 4)
    assert losses.scene_cosine.item() == pytest.approx(1 - sum(scene) / 4)
    assert (losses.region_count, losses.scene_count) == (4, 4)


def test_the_noise_term_is_a_sample_s_sum_where_it_is_asked_for(judges, batch, alphas_cumprod):
    objective = RegionInContextObjective(*judges, "epsilon", alphas_cumprod, noise_reduction="sum")
    squared = ((batch.prediction - batch.noise) ** 2).flatten(1).sum(1)
    assert batch.of(objective).noise.item() == pytest.approx(squared.mean().item())


def test_of_the_known_noise_a_share_is_put_back_before_the_judges_look(
    objective, judges, batch, alphas_cumprod
):
    rules = AlignmentRules(restore=0.75)
    restoring = RegionInContextObjective(*judges, "epsilon", alphas_cumprod, rules=rules)
    nearer = replace(batch, prediction=0.25 * batch.prediction + 0.75 * batch.noise)
    asked, expected, plain = batch.of(restoring), nearer.of(objective), batch.of(objective)
    for name in ("region", "global_"):
        assert getattr(asked, name).item() == pytest.approx(getattr(expected, name).item())
        assert getattr(asked, name).item() != pytest.approx(getattr(plain, name).item(), rel=1e-3)
    assert asked.noise.item() == pytest.approx(plain.noise.item())


def test_flattened_judges_see_pixels_that_they_like_less(objective, judges, batch, alphas_cumprod):
    rules = AlignmentRules(flatten=0.05)
    flat = RegionInContextObjective(*judges, "epsilon", alphas_cumprod, rules=rules)
    plain, after = batch.of(objective), batch.of(flat)
    assert after.region.item() > plain.region.item() + 1e-3
    assert after.global_.item() > plain.global_.item() + 1e-3
    assert after.noise.item() == pytest.approx(plain.noise.item())


def test_augmented_judges_see_shifted_and_noised_pixels(judges, batch, alphas_cumprod):
    rules = AlignmentRules(augment=True)
    objective = RegionInContextObjective(*judges, "epsilon", alphas_cumprod, rules=rules)
    seen = []
    _, region_encoder, _ = judges
    region_encoder.encode_region, encode = (
        lambda pixels, boxes: (seen.append((pixels.detach(), boxes)), encode(pixels, boxes))[1],
        region_encoder.encode_region,
    )
    drawn = {"shifts": torch.tensor([[0.9, -0.6]] * 4), "pixel_seeds": [3, 4, 5, 6]}
    asked = {**vars(batch), **drawn}
    prediction, size = asked.pop("prediction"), asked.pop("batch_size")
    objective(prediction, NoisedBatch(**asked), size)
    ((pixels, boxes),) = seen
    alpha = alphas_cumprod[batch.timesteps][:, None, None, None]
    x0 = (batch.noisy - (1 - alpha).sqrt() * prediction) / alpha.sqrt()
    expected, moved = augmented(
        decoded(judges[0], x0).clamp(-1, 1), batch.boxes, drawn["shifts"], drawn["pixel_seeds"]
    )
    torch.testing.assert_close(pixels, expected.detach(), atol=1e-6, rtol=0)
    assert boxes == moved != batch.boxes


def test_the_weights_multiply_the_terms(judges, batch, alphas_cumprod):
    objective = RegionInContextObjective(*judges, "epsilon", alphas_cumprod, 0.5, 3.0, 2.0)
    losses = batch.of(objective)
    expected = 0.5 * losses.region + 3 * losses.global_ + 2 * losses.noise
    torch.testing.assert_close(losses.total, expected)


def test_the_parts_are_detached_float32_for_a_log(objective, batch):
    losses = batch.of(objective)
    parts = losses.parts()
    assert list(parts) == ["loss_noise", "loss_region", "loss_global"]
    assert all(v.dtype == torch.float32 and not v.requires_grad for v in parts.values())
    assert sum(parts.values()).item() == pytest.approx(losses.total.item(), rel=1e-6)
    assert not losses.region_cosine.requires_grad


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_a_perfect_prediction_is_judged_by_the_target_alone(
    prediction_type, judges, batch, alphas_cumprod
):
    vae, region_encoder, _ = judges
    objective = RegionInContextObjective(*judges, prediction_type, alphas_cumprod)
    alpha_bar_t = alphas_cumprod[batch.timesteps]
    perfect = training_target(batch.clean_latents, batch.noise, alpha_bar_t, prediction_type)
    with torch.no_grad():
        losses = replace(batch, prediction=perfect).of(objective)
        pixels = decoded(vae, batch.clean_latents).clamp(-1, 1)
        f_r = region_encoder.encode_region(pixels, BOXES)
        cosine = functional.cosine_similarity(f_r, batch.region_text_embeddings)
    assert losses.noise.item() == pytest.approx(0, abs=1e-20)
    assert losses.region.item() == pytest.approx(1 - cosine.mean().item())


def test_the_gradient_is_the_finite_difference_through_vae_clip_and_blip(
    judges, batch, alphas_cumprod, draw
):
    # without the noise term, so that all of the gradient comes through the judges
    objective = RegionInContextObjective(*judges, "epsilon", alphas_cumprod, noise_weight=0)
    a = alphas_cumprod[batch.timesteps].reshape(-1, 1, 1, 1)
    with torch.no_grad():
        judges[0].decoder.conv_out.weight.mul_(0.2)
        clean = (batch.noisy - (1 - a).sqrt() * batch.prediction) / a.sqrt()
        pixels = decoded(judges[0], clean)
    # a saturated pixel's straight-through gradient is no finite difference
    assert pixels.abs().max() < 0.9
    gradient = torch.autograd.grad(batch.of(objective).total, batch.prediction)[0]
    step = 1e-5
    for _ in range(3):
        direction = torch.randn(LATENT, generator=draw, dtype=torch.float64)
        with torch.no_grad():
            up, down = (
                replace(batch, prediction=batch.prediction + s * direction).of(objective).total
                for s in (step, -step)
            )
        numeric = ((up - down) / (2 * step)).item()
        assert (gradient * direction).sum().item() == pytest.approx(numeric, rel=1e-4)
        assert abs(numeric) > 1e-6


def test_each_judge_alone_reaches_the_prediction(judges, batch, alphas_cumprod):
    vae, region_encoder, scene_encoder = judges
    for pair in ((region_encoder, None), (None, scene_encoder)):
        objective = RegionInContextObjective(vae, *pair, "epsilon", alphas_cumprod, noise_weight=0)
        gradient = torch.autograd.grad(batch.of(objective).total, batch.prediction)[0]
        assert gradient.flatten(1).norm(dim=1).min() > 0


def test_saturated_pixels_still_teach(objective, judges, batch):
    # every pixel far above 1, as at t = 999: an ordinary clamp would pass no gradient at all
    with torch.no_grad():
        judges[0].decoder.conv_out.bias.fill_(50.0)
    losses = batch.of(objective)
    gradient = torch.autograd.grad(losses.region + losses.global_, batch.prediction)[0]
    assert gradient.isfinite().all()
    assert gradient.flatten(1).norm(dim=1).min() > 0


def test_the_last_timestep_gives_finite_losses_and_gradients(objective, batch):
    late = replace(batch, timesteps=torch.full((4,), 999))
    losses = late.of(objective)
    gradient = torch.autograd.grad(losses.total, late.prediction)[0]
    assert losses.total.isfinite()
    assert gradient.isfinite().all()


def test_no_frozen_weight_gets_a_gradient(objective, judges, batch):
    batch.of(objective).total.backward()
    assert batch.prediction.grad.abs().min() > 0
    for judge in judges:
        assert not judge.training
        assert all(not p.requires_grad and p.grad is None for p in judge.parameters())


def test_freezing_leaves_the_gradient_to_the_input():
    layer = freeze(torch.nn.Linear(2, 1))
    given = torch.ones(1, 2, requires_grad=True)
    layer(given).backward()
    assert torch.equal(given.grad, layer.weight)
    assert layer.weight.grad is None
    assert not layer.training


def test_a_batch_with_nothing_kept_is_the_noise_term_alone(objective, batch):
    none = torch.zeros(4, dtype=torch.bool)
    dropped = replace(batch, kept_region=none, kept_scene=none, boxes=[None] * 4)
    losses = dropped.of(objective)
    losses.total.backward()
    assert (losses.region.item(), losses.global_.item()) == (0, 0)
    assert losses.region_cosine.isnan()
    assert losses.scene_cosine.isnan()
    assert (losses.region_count, losses.scene_count) == (0, 0)
    expected = 2 * (batch.prediction - batch.noise) / batch.noise.numel()
    torch.testing.assert_close(batch.prediction.grad, expected)


def test_dropped_samples_are_left_out_and_the_whole_batch_divides(
    objective, judges, batch, alphas_cumprod
):
    kept = replace(
        batch,
        kept_region=torch.tensor([True, False, False, True]),
        kept_scene=torch.tensor([False, False, True, True]),
        boxes=[BOXES[0], None, None, BOXES[3]],
    )
    losses = kept.of(objective)
    with torch.no_grad():
        region, scene = written_out(judges, batch, alphas_cumprod)
    assert losses.region.item() == pytest.approx((region[0] + region[3]) / 4)
    assert losses.global_.item() == pytest.approx((scene[2] + scene[3]) / 4)
    assert losses.region_cosine.item() == pytest.approx(1 - (region[0] + region[3]) / 2)
    assert losses.scene_cosine.item() == pytest.approx(1 - (scene[2] + scene[3]) / 2)
    # the second sample is looked at by neither judge
    gradient = torch.autograd.grad(losses.region + losses.global_, batch.prediction)[0]
    assert torch.equal(gradient[1], torch.zeros_like(gradient[1]))
    assert all(gradient[i].abs().max() > 0 for i in (0, 2, 3))


def test_only_what_a_judge_looks_at_is_decoded(objective, judges, batch):
    vae, region_encoder, scene_encoder = judges
    counts: dict[str, list[int]] = {"vae": [], "clip": [], "blip": []}
    watched = {
        "vae": vae.decoder,
        "clip": region_encoder.tower.vision_model.embeddings,
        "blip": scene_encoder.tower.vision_model.embeddings,
    }
    for name, module in watched.items():
        module.register_forward_pre_hook(
            lambda _, args, kwargs, name=name: counts[name].append(
                len(args[0] if args else kwargs["pixel_values"])
            ),
            with_kwargs=True,
        )
    kept = replace(
        batch,
        kept_region=torch.tensor([True, False, False, False]),
        kept_scene=torch.tensor([True, False, True, False]),
    )
    kept.of(objective)
    # CLIP sees the one crop and its full image in one pass
    assert counts == {"vae": [2], "clip": [2], "blip": [2]}


def test_a_switched_off_judge_costs_nothing(judges, batch, alphas_cumprod):
    vae, region_encoder, _ = judges
    calls = []
    vae.decoder.register_forward_pre_hook(lambda *_: calls.append("decode"))
    neither = RegionInContextObjective(vae, None, None, "epsilon", alphas_cumprod)
    losses = replace(batch, region_text_embeddings=None, scene_text_embeddings=None).of(neither)
    assert not calls
    assert losses.total.item() == losses.noise.item()
    region_only = RegionInContextObjective(vae, region_encoder, None, "epsilon", alphas_cumprod)
    losses = replace(batch, scene_text_embeddings=None).of(region_only)
    assert losses.global_.item() == 0
    assert losses.region.item() > 0


def test_halves_of_a_batch_add_up_to_the_whole(objective, batch):
    kept = replace(batch, kept_region=torch.tensor([True, False, False, False]))
    whole = kept.of(objective)
    gradient = torch.autograd.grad(whole.total, batch.prediction)[0]
    halves = [kept.rows(slice(0, 1)).of(objective), kept.rows(slice(1, 4)).of(objective)]
    for name in ("total", "noise", "region", "global_"):
        parts = sum(getattr(half, name) for half in halves)
        torch.testing.assert_close(parts, getattr(whole, name))
    added = torch.autograd.grad(sum(half.total for half in halves), batch.prediction)[0]
    torch.testing.assert_close(added, gradient)


def test_align_below_leaves_out_late_steps_and_divides_by_the_share_that_is_left(
    judges, batch, alphas_cumprod
):
    objective = RegionInContextObjective(
        *judges, "epsilon", alphas_cumprod, rules=AlignmentRules(below=300)
    )
    losses = batch.of(objective)
    with torch.no_grad():
        region, scene = written_out(judges, batch, alphas_cumprod)
    # the steps are 10, 100, 300 and 500
    # of uniform ones, 300 in 1000 lie below 300
    assert losses.region.item() == pytest.approx((region[0] + region[1]) / (4 * 0.3))
    assert losses.global_.item() == pytest.approx((scene[0] + scene[1]) / (4 * 0.3))
    assert losses.region_count == 2


def test_alpha_bar_weights_each_alignment(judges, batch, alphas_cumprod):
    objective = RegionInContextObjective(
        *judges, "epsilon", alphas_cumprod, rules=AlignmentRules(weight="alpha-bar")
    )
    losses = batch.of(objective)
    with torch.no_grad():
        region, scene = written_out(judges, batch, alphas_cumprod)
    weights = alphas_cumprod[batch.timesteps].tolist()
    assert losses.region.item() == pytest.approx(
        sum(w * r for w, r in zip(weights, region, strict=True)) / 4
    )
    assert losses.global_.item() == pytest.approx(
        sum(w * s for w, s in zip(weights, scene, strict=True)) / 4
    )
    # the cosines are for reading and stay unweighted
    assert losses.region_cosine.item() == pytest.approx(1 - sum(region) / 4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_jacobian_weight_undoes_what_eq_5_magnifies(kind, judges, batch, alphas_cumprod):
    batch = replace(batch, timesteps=torch.tensor([10, 300, 700, 999]))
    alpha_bar = alphas_cumprod[batch.timesteps]

    def clean(prediction: Tensor) -> Tensor:
        return clean_from_prediction(prediction, batch.noisy, alpha_bar, kind)

    # by how much a change of the prediction moves x0_hat
    moved = clean(batch.prediction + 1) - clean(batch.prediction)
    expected = 1 / moved.abs().mean(dim=(1, 2, 3)).clamp(min=1)
    settings = {"prediction_type": kind, "alphas_cumprod": alphas_cumprod}
    weighted = RegionInContextObjective(
        *judges, **settings, rules=AlignmentRules(weight="jacobian")
    )
    each = [
        batch.rows(slice(i, i + 1)).of(RegionInContextObjective(*judges, **settings))
        for i in range(4)
    ]
    losses = batch.of(weighted)
    for name in ("region", "global_"):
        alone = torch.stack([getattr(one, name) for one in each])
        torch.testing.assert_close(getattr(losses, name), (expected * alone).sum())


def test_a_judged_target_that_is_its_own_ceiling_pulls_at_nothing(objective, judges, batch):
    vae, region_encoder, scene_encoder = judges
    perfect = batch.noise.clone().requires_grad_()
    with torch.no_grad():
        pixels = decoded(vae, batch.clean_latents).clamp(-1, 1)
        f_r = region_encoder.encode_region(pixels, batch.boxes)
        ceilings = {
            "region_ceilings": cosine_similarity(f_r, batch.region_text_embeddings),
            "scene_ceilings": cosine_similarity(
                scene_encoder.encode_image(pixels), batch.scene_text_embeddings
            ),
        }
    at_target = replace(batch, prediction=perfect)
    losses = replace(at_target, **{k: v - 1e-9 for k, v in ceilings.items()}).of(objective)
    assert losses.region.item() == losses.global_.item() == 0
    assert not torch.autograd.grad(losses.total, perfect)[0].any()
    # without ceilings the judges walk away from it
    assert torch.autograd.grad(at_target.of(objective).total, perfect)[0].any()


def test_factors_scale_the_alignments_in_the_total_alone(objective, batch):
    plain = batch.of(objective)
    scaled = batch.of(objective, {"region": 3.0, "global": 0.5})
    torch.testing.assert_close(scaled.region, plain.region)
    expected = 3 * plain.region + 0.5 * plain.global_ + plain.noise
    torch.testing.assert_close(scaled.total, expected)


def test_half_precision_training_reduces_in_float32(
    region_encoder, scene_encoder, vae, batch, alphas_cumprod
):
    objective = RegionInContextObjective(
        vae.bfloat16(),
        region_encoder.float(),
        scene_encoder.float(),
        "epsilon",
        alphas_cumprod.float(),
    )
    halves = {
        key: value.detach().bfloat16()
        for key, value in vars(batch).items()
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    half = replace(batch, **halves)
    half.prediction.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        losses = half.of(objective)
    losses.total.backward()
    for value in (losses.total, losses.noise, losses.region, losses.global_):
        assert value.dtype == torch.float32
    assert half.prediction.grad.isfinite().all()


def test_a_kept_sample_without_a_box_is_an_error(objective, batch):
    with pytest.raises(RicError, match="Sample 2 of the batch is kept for the region loss but has"):
        replace(batch, boxes=[*BOXES[:2], None, BOXES[3]]).of(objective)


def test_a_box_outside_the_decoded_image_is_an_error(objective, batch):
    with pytest.raises(RicError, match=r"\(0, 0, 64, 64\) is empty or leaves the 32x32 image"):
        replace(batch, boxes=[(0, 0, 64, 64), *BOXES[1:]]).of(objective)


def test_missing_text_embeddings_are_an_error(objective, batch):
    with pytest.raises(RicError, match="batch has no region_text_embeddings"):
        replace(batch, region_text_embeddings=None).of(objective)
    with pytest.raises(RicError, match="batch has no scene_text_embeddings"):
        replace(batch, scene_text_embeddings=None).of(objective)


def test_an_unknown_alignment_weight_is_named():
    with pytest.raises(RicError, match="align_weight is 'min-snr'"):
        AlignmentRules(weight="min-snr")


def test_gradient_norms_are_of_each_term_at_the_unets_output_and_leave_backward_as_it_was(
    objective, batch
):
    losses = batch.of(objective)
    norms = losses.gradient_norms()
    terms = {"noise": losses.noise, "region": losses.region, "global": losses.global_}
    assert list(norms) == [f"grad_norm_{name}" for name in terms]
    for name, term in terms.items():
        (pull,) = torch.autograd.grad(term, batch.prediction, retain_graph=True)
        assert norms[f"grad_norm_{name}"].item() == pytest.approx(pull.norm().item(), rel=1e-5)
    assert batch.prediction.grad is None
    losses.total.backward()
    (expected,) = torch.autograd.grad(batch.of(objective).total, batch.prediction)
    torch.testing.assert_close(batch.prediction.grad, expected)


def test_a_term_that_judged_nothing_pulls_at_nothing(objective, batch):
    nothing = torch.zeros(4, dtype=torch.bool)
    norms = replace(batch, kept_region=nothing).of(objective).gradient_norms()
    assert norms["grad_norm_region"] == 0
    assert norms["grad_norm_global"] > 0


def test_alignments_that_agree_pull_as_before_where_the_noise_term_does_and_nowhere_else(
    judges, batch, alphas_cumprod
):
    def objective(*, agree: bool) -> RegionInContextObjective:
        rules = AlignmentRules(agree=agree)
        return RegionInContextObjective(*judges, "epsilon", alphas_cumprod, rules=rules)

    prediction = batch.prediction.detach().requires_grad_()
    asked = replace(batch, prediction=prediction)
    plain, agreeing = (asked.of(objective(agree=one)) for one in (False, True))
    towards, *pulls = (
        torch.autograd.grad(term, prediction, retain_graph=True)[0]
        for term in (plain.noise, plain.region, plain.global_)
    )
    for name, pull in zip(("region", "global_"), pulls, strict=True):
        torch.testing.assert_close(getattr(agreeing, name), getattr(plain, name))
        (kept,) = torch.autograd.grad(getattr(agreeing, name), prediction, retain_graph=True)
        torch.testing.assert_close(kept, pull * (pull.sign() == towards.sign()))
        assert 0 < kept.count_nonzero() < pull.count_nonzero()
    norms = agreeing.gradient_norms()
    assert norms["grad_norm_region"] < plain.gradient_norms()["grad_norm_region"]
    (whole,) = torch.autograd.grad(agreeing.total, prediction)
    expected = towards + sum(pull * (pull.sign() == towards.sign()) for pull in pulls)
    torch.testing.assert_close(whole, expected)

"""DDPM Inversion, held against its formulas written out and against diffusers' LEDITS++."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, LEditsPPPipelineStableDiffusion
from drawn_requests import BALL, CUBE, captions, draw, latents, named, refuse_company_that_tells

import ric
from ric.device import draw_generator
from ric.editors.ddpm_inversion import DdpmInversion, posterior
from ric.editors.editor import EditRequest
from ric.errors import RicError

CPU = torch.device("cpu")


class WholeTimesteps(DDIMScheduler):
    """DDIM for LEDITS++, which gives timesteps as floats, as DDIM's `add_noise` refuses."""

    def add_noise(self, clean, noise, timesteps):
        return super().add_noise(clean, noise, timesteps.long())


@pytest.fixture(scope="module")
def make(tiny_family: Path) -> Callable[..., DdpmInversion]:
    def make(**options: object) -> DdpmInversion:
        settings = {"dtype": "fp32", "steps": 10, "skip": 3, "image_size": 64, **options}
        return DdpmInversion(tiny_family / "text_to_image", device=CPU, **settings)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("skip", [0, 36])
def test_with_one_caption_one_guidance_and_all_noise_the_latents_come_back(skip):
    """By a trained UNet in all of its steps, over which rounding would add up."""
    how = {"dtype": "fp32", "steps": 100, "image_size": 64, "guidance": 3.5, "skip": skip}
    folder = Path(ric.__file__).parent / "assets/tiny/text_to_image"
    editor = DdpmInversion(folder, device=CPU, keep_last_noise=True, **how)  # type: ignore[arg-type]
    clean = latents(editor)
    back = editor.edit_latents(clean, captions(editor, BALL, BALL), named("0"))
    torch.testing.assert_close(back, clean, rtol=0, atol=1e-4)


def test_without_the_last_noise_map_that_step_s_noise_is_what_is_lacking(make):
    kept, released = (make(guidance=3.5, keep_last_noise=keep) for keep in (True, False))
    clean = latents(kept)
    same = captions(kept, BALL, BALL)
    one, other = (editor.edit_latents(clean, same, named("0")) for editor in (kept, released))
    last = kept.timesteps()[-1]
    variance = (1 - last.alpha_bar_after) / (1 - last.alpha_bar)
    variance *= 1 - last.alpha_bar / last.alpha_bar_after
    # a noise map is far from standard at the last step, but its share is sigma's
    assert 0 < (one - other).abs().max() < 20 * variance**0.5


def test_the_edit_is_that_of_the_two_passes_written_out(make):
    """Invert all timesteps and keep the maps, then sample with them, as the paper tells it."""
    editor = make(guidance=7.0, source_guidance=3.5)
    clean = latents(editor)
    found = editor.edit_latents(clean, captions(editor, BALL, CUBE), named("0"))
    assert (found - clean).abs().max() > 0.1

    unet, config = editor.pipeline.unet, editor.pipeline.scheduler.config
    betas = torch.linspace(config.beta_start**0.5, config.beta_end**0.5, 1000).double() ** 2
    abar = torch.cumprod(1 - betas, 0)
    times = [100 * step + 1 for step in range(10)][::-1][3:]
    generator = draw_generator(0, "edit", "0")
    xs = {
        t: abar[t].sqrt() * clean
        + (1 - abar[t]).sqrt() * torch.randn(clean.shape[1:], generator=generator)
        for t in times
    }
    nothing, ball, cube = (editor.pictures.embed(text)[None] for text in ("", BALL, CUBE))

    def mean_of(x: torch.Tensor, t: int, text: torch.Tensor, guidance: float) -> torch.Tensor:
        def noise_of(words: torch.Tensor) -> torch.Tensor:
            return unet(x.float(), t, encoder_hidden_states=words).sample

        e = noise_of(nothing) + guidance * (noise_of(text) - noise_of(nothing))
        before, after = abar[t], abar[max(t - 100, 0)]
        x0 = (x - (1 - before).sqrt() * e) / before.sqrt()
        return after.sqrt() * x0 + (1 - after - sigma_of(t) ** 2).sqrt() * e

    def sigma_of(t: int) -> torch.Tensor:
        before, after = abar[t], abar[max(t - 100, 0)]
        return ((1 - after) / (1 - before) * (1 - before / after)).sqrt()

    with torch.no_grad():
        maps = {
            t: (xs.get(t - 100, clean) - mean_of(xs[t], t, ball, 3.5)) / sigma_of(t) for t in times
        }
        maps[1] = torch.zeros_like(clean)
        y = xs[times[0]]
        for t in times:
            y = mean_of(y, t, cube, 7.0) + sigma_of(t) * maps[t]
    torch.testing.assert_close(found, y.float(), rtol=1e-3, atol=1e-3)


def test_noise_maps_agree_with_those_of_diffusers_ledits(make, tiny_family):
    # diffusers 0.42.1 swaps the two embeddings here: its guidance of 3.5 goes from the caption to
    # the null text, which is one of 1 - 3.5 from the null text to the caption
    editor = make(skip=0, source_guidance=1 - 3.5)
    theirs = LEditsPPPipelineStableDiffusion.from_pretrained(
        tiny_family / "text_to_image", safety_checker=None
    )
    theirs.scheduler = WholeTimesteps.from_config(
        theirs.scheduler.config,
        timestep_spacing="leading",
        clip_sample=False,
        set_alpha_to_one=False,
        algorithm_type="sde-dpmsolver++",  # unused by DDIM; the pipeline asks for its presence
    )
    theirs.set_progress_bar_config(disable=True)
    theirs.invert(
        draw(),
        source_prompt=BALL,
        source_guidance_scale=3.5,
        num_inversion_steps=10,
        skip=0.0,
        generator=torch.Generator().manual_seed(5),
        height=64,
        width=64,
    )
    # their draws, from the least noisy timestep on
    clean, steps = latents(editor), editor.timesteps()
    generator = torch.Generator().manual_seed(5)
    noisy = {}
    for step in reversed(steps):
        noise = torch.randn(clean.shape, generator=generator)
        noisy[step.t] = step.alpha_bar**0.5 * clean + (1 - step.alpha_bar) ** 0.5 * noise
    both = captions(editor, BALL, BALL)
    for number, step in enumerate(steps[:-1]):  # they too leave out the last
        x = noisy[step.t]
        estimate, _ = editor.clean_estimates(x, x, step, both)
        mean, sigma = posterior(x, estimate, step)
        ours = (noisy[steps[number + 1].t] - mean) / sigma
        torch.testing.assert_close(ours, theirs.zs[number], rtol=1e-3, atol=1e-3)


def test_a_request_gives_the_same_picture_alone_and_in_company(make):
    refuse_company_that_tells(make())


def test_it_is_asked_between_all_steps_that_are_taken(make):
    asked = []
    make().edit([EditRequest("a", draw(), "", BALL, CUBE)], lambda: asked.append(1))
    assert len(asked) == 7


def test_skipping_all_steps_and_an_editor_s_unet_are_refused(make, tiny_family):
    with pytest.raises(RicError, match="--skip is 10 with 10 steps"):
        make(skip=10)
    with pytest.raises(RicError, match="reads 8 channels"):
        DdpmInversion(tiny_family / "pipeline", device=CPU)

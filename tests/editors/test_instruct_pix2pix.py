"""InstructPix2Pix sampling, held against diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from drawn_requests import draw, levels_apart

from ric.config import EditConfig
from ric.data.images import open_image
from ric.device import draw_generator
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.editors.instruction_editor import guide
from ric.editors.load import load_editor
from ric.errors import RicError
from ric.models.schedulers import SCHEDULERS

CPU = torch.device("cpu")
PHOTOS = Path(__file__).parents[2].parent / "shared" / "data" / "photos"


@pytest.fixture(scope="module")
def make_editor(tiny_family: Path) -> Callable[..., InstructPix2Pix]:
    def make(model: Path = tiny_family / "pipeline", **options: object) -> InstructPix2Pix:
        settings = {"dtype": "fp32", "steps": 3, "image_size": 64, **options}
        return InstructPix2Pix(model, device=CPU, **settings)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="module")
def editor(make_editor: Callable[..., InstructPix2Pix]) -> InstructPix2Pix:
    return make_editor()


# --- against diffusers ---------------------------------------------------------------------------


def unit_pixels(editor: InstructPix2Pix, requests: list[EditRequest]) -> torch.Tensor:
    """Edit pictures of one working size and give the edits in [0, 1], (B, 3, H, W), not rounded."""
    latents = []
    decode = editor.pictures.decode
    editor.pictures.decode = lambda given: latents.append(given) or decode(given)
    try:
        editor.edit(requests)
    finally:
        editor.pictures.decode = decode
    vae = editor.pipeline.vae
    with torch.no_grad():
        pixels = vae.decode(latents[0] / vae.config.scaling_factor).sample
    return (pixels / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize(
    ("scheduler", "size"),
    [
        ("euler-ancestral", (64, 64)),
        ("ddim", (96, 48)),
        ("pndm", (48, 80)),  # it takes no generator
        ("heun", (64, 64)),
        ("unipc", (64, 64)),
        ("sa-solver", (64, 64)),
    ],
)
def test_sampling_equals_diffusers_own_pipeline(tiny_family, make_editor, scheduler, size):
    folder = tiny_family / "pipeline"
    scales = {"guidance": 7.5, "image_guidance": 1.5}
    ours = make_editor(folder, steps=6, seed=3, image_size=max(size), scheduler=scheduler, **scales)
    theirs = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, safety_checker=None)
    kind = getattr(diffusers, SCHEDULERS[scheduler].kind)
    theirs.scheduler = kind.from_config(
        theirs.scheduler.config, clip_sample=False, set_alpha_to_one=False, skip_prk_steps=True
    )
    theirs.set_progress_bar_config(disable=True)
    requests = [
        EditRequest("a", draw(*size, seed=1), "make the ball red"),
        EditRequest("b", draw(*size, seed=2), "remove the tree"),
    ]
    generators = [draw_generator(3, "edit", request.id) for request in requests]
    shape = (1, 4, size[1] // 4, size[0] // 4)
    noise = [torch.randn(shape, generator=generator) for generator in generators]
    wanted = theirs(
        [request.instruction for request in requests],
        [request.image for request in requests],
        num_inference_steps=6,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        generator=generators,
        latents=torch.cat(noise),
        output_type="pt",
    ).images
    found = unit_pixels(ours, requests)
    assert found.shape == wanted.shape == (2, 3, size[1], size[0])
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)
    assert (found[0] - found[1]).abs().max() > 0.1


@pytest.mark.parametrize("scheduler", ["euler-ancestral", "ddpm"])  # which draw at each step
def test_a_batch_of_one_gives_what_eight_give_and_the_same_batch_the_same_bits(
    make_editor, scheduler
):
    editor = make_editor(scheduler=scheduler)
    requests = [EditRequest(str(n), draw(seed=n), "make the ball red") for n in range(8)]
    eight = unit_pixels(editor, requests)
    assert torch.equal(unit_pixels(editor, requests), eight)
    for number in (0, 7):
        alone = unit_pixels(editor, [requests[number]])
        torch.testing.assert_close(alone[0], eight[number], rtol=0, atol=1e-4)


def test_the_two_scales_weigh_text_and_picture_as_the_formula_says():
    with_text, with_source, with_neither = 1.0, 10.0, 100.0
    prediction = torch.tensor([with_text, with_source, with_neither]).reshape(3, 1, 1, 1)
    for image_scale in (1.5, 0.4):  # also below 1, where diffusers turns both off
        wanted = 100.0 + image_scale * (10.0 - 100.0) + 7.5 * (1.0 - 10.0)
        assert guide(prediction, 7.5, image_scale).item() == pytest.approx(wanted)
    assert guide(prediction, 1, 1).item() == pytest.approx(with_text)
    assert guide(prediction, 0, 1).item() == pytest.approx(with_source)
    assert guide(prediction, 0, 0).item() == pytest.approx(with_neither)


# --- one request and its company -----------------------------------------------------------------


def test_a_request_gives_the_same_picture_alone_and_in_company(editor):
    requests = [
        EditRequest("a", draw(seed=1), "make the ball red"),
        EditRequest("b", draw(96, 48, seed=2), "remove the tree"),
        EditRequest("c", draw(60, 62, seed=3), "add a house"),
    ]
    # a and c are worked on at one size, so they share a batch
    assert editor.pictures.working_size(64, 64) == editor.pictures.working_size(60, 62)
    together = editor.edit(requests)
    for request, picture in zip(requests, together, strict=True):
        assert levels_apart(editor.edit([request])[0], picture) <= 1
    backwards = editor.edit(requests[::-1])[::-1]
    for picture, other in zip(together, backwards, strict=True):
        assert levels_apart(picture, other) <= 1


def test_the_noise_is_a_function_of_seed_and_id(make_editor, editor):
    first = editor.edit([EditRequest("a", draw(), "make it red")])[0]
    again = editor.edit([EditRequest("a", draw(), "make it red")])[0]
    other_id = editor.edit([EditRequest("b", draw(), "make it red")])[0]
    other_seed = make_editor(seed=1).edit([EditRequest("a", draw(), "make it red")])[0]
    assert levels_apart(first, again) == 0
    assert levels_apart(first, other_id) > 20
    assert levels_apart(first, other_seed) > 20


def test_the_instruction_counts(editor):
    red = editor.edit([EditRequest("a", draw(), "make it red")])[0]
    tree = editor.edit([EditRequest("a", draw(), "remove the tree")])[0]
    assert levels_apart(red, tree) > 0


def test_the_source_counts(editor):
    first = editor.edit([EditRequest("a", draw(seed=1), "make it red")])[0]
    second = editor.edit([EditRequest("a", draw(seed=2), "make it red")])[0]
    assert levels_apart(first, second) > 5


def test_bf16_runs_on_a_cpu_and_is_recorded(make_editor):
    rough = make_editor(dtype="bf16")
    picture = rough.edit([EditRequest("a", draw(), "make it red")])[0]
    exact = make_editor().edit([EditRequest("a", draw(), "make it red")])[0]
    difference = np.abs(np.asarray(picture).astype(int) - np.asarray(exact).astype(int))
    assert 0 < difference.mean() < 8
    assert rough.describe() == {
        "steps": 3,
        "guidance": 7.5,
        "image_guidance": 1.5,
        "image_size": 64,
        "seed": 0,
        "dtype": "bfloat16",
        "scheduler": "EulerAncestralDiscreteScheduler",
    }


def test_a_picture_that_is_not_finite_is_none_and_its_company_is_not_touched(editor, monkeypatch):
    requests = [
        EditRequest(name, draw(seed=seed), "make it red") for seed, name in enumerate("abc")
    ]
    whole = editor.edit(requests)
    decode = editor.pipeline.vae.decode

    def broken(latents: torch.Tensor) -> object:
        decoded = decode(latents)
        decoded.sample[0, 0, 0, 0] = torch.nan
        decoded.sample[2, 1, 5, 5] = torch.inf
        return decoded

    monkeypatch.setattr(editor.pipeline.vae, "decode", broken)
    made = editor.edit(requests)
    assert made[0] is made[2] is None
    assert levels_apart(made[1], whole[1]) == 0


def test_an_editor_leaves_between_two_steps_when_it_is_asked_to(editor, monkeypatch):
    calls = []

    class StopError(Exception):
        pass

    def between_steps() -> None:
        calls.append(None)
        if len(calls) == 2:
            raise StopError

    with pytest.raises(StopError):
        editor.edit([EditRequest("a", draw(), "make it red")], between_steps)
    assert len(calls) == 2 < editor.steps


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [(60, 90), (90, 60), (1, 300), (300, 2), (33, 57), (7, 7), (64, 64)], ids=str
)
def test_the_result_has_its_sources_size_and_is_rgb(make_editor, editor, size):
    edited = editor.edit([EditRequest("a", draw(*size), "make it red")])[0]
    assert edited.size == size
    assert edited.mode == "RGB"


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ((512, 512), (64, 64)),
        ((1024, 512), (64, 32)),
        ((512, 1024), (32, 64)),
        ((640, 480), (64, 48)),
        ((1000, 3), (64, 8)),
        ((10, 10), (64, 64)),
    ],
)
def test_the_longer_side_becomes_the_image_size_and_both_what_the_unet_can_halve(
    editor, source, wanted
):
    # the tiny VAE shrinks by 4 and the UNet once more by 2: multiples of 8
    assert editor.pictures.working_size(*source) == wanted


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="../shared is absent")
def test_every_shared_photo_comes_back_in_its_own_size(editor):
    files = sorted(PHOTOS.glob("*.*"))
    photos = [open_image(file) for file in files]
    requests = [
        EditRequest(file.name, photo, "make it red")
        for file, photo in zip(files, photos, strict=True)
    ]
    for request, edited in zip(requests, editor.edit(requests), strict=True):
        assert edited.size == request.image.size
        assert edited.mode == "RGB"


# --- words ---------------------------------------------------------------------------------------


def test_an_unknown_editor_is_refused_with_those_there_are(tiny_family):
    with pytest.raises(RicError, match="no editor 'DDPM_inversion'") as caught:
        load_editor("DDPM_inversion", tiny_family / "pipeline", EditConfig(), CPU)
    assert caught.value.hint.startswith("Did you mean ddpm-inversion? Choose one of: ip2p, magic")
    with pytest.raises(RicError) as caught:
        load_editor("xyz", tiny_family / "pipeline", EditConfig(), CPU)
    assert caught.value.hint.startswith("Choose one of: ip2p, magicbrush, zone, ")


def test_an_editor_is_loaded_with_the_settings_of_the_config(tiny_family):
    config = EditConfig(
        dtype="fp32", steps=2, guidance=3.0, image_guidance=2.0, image_size=32, seed=5
    )
    loaded = load_editor("ip2p", tiny_family / "pipeline", config, CPU).describe()
    wanted = {"steps": 2, "guidance": 3.0, "image_guidance": 2.0, "image_size": 32, "seed": 5}
    assert wanted.items() <= loaded.items()


def test_a_unet_that_cannot_see_a_source_is_no_editor(tiny_family):
    with pytest.raises(RicError, match="reads 4 channels: it makes pictures from text") as caught:
        InstructPix2Pix(tiny_family / "text_to_image", device=CPU)
    assert "ric train-unet" in caught.value.hint


def test_no_step_at_all_is_refused(tiny_family):
    with pytest.raises(RicError, match="--steps is 0; at least 1 is needed"):
        InstructPix2Pix(tiny_family / "pipeline", device=CPU, steps=0)

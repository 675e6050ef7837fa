"""Editors that heed a mask: outside it their latents are the source's at every step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_requests import BALL, CUBE, draw, levels_apart

from ric.device import draw_generator
from ric.editors.cds import Cds
from ric.editors.ddpm_inversion import DdpmInversion
from ric.editors.editor import EditRequest
from ric.editors.instruct_pix2pix import InstructPix2Pix
from ric.editors.zone import Zone

CPU = torch.device("cpu")
FEW = {"device": CPU, "dtype": "fp32", "image_size": 64}
Editor = InstructPix2Pix | DdpmInversion | Cds | Zone


@pytest.fixture(scope="module")
def editors(tiny_family: Path) -> dict[str, Editor]:
    of_text = tiny_family / "text_to_image"
    return {
        "ip2p": InstructPix2Pix(tiny_family / "pipeline", steps=4, **FEW),
        "zone": Zone(
            tiny_family / "pipeline", unet_magicbrush=tiny_family / "pipeline", steps=3, **FEW
        ),
        "ddpm-inversion": DdpmInversion(of_text, steps=4, skip=1, **FEW),
        "cds": Cds(of_text, steps=3, **FEW),
    }


@pytest.fixture(params=["ip2p", "zone", "ddpm-inversion", "cds"])
def editor(request: pytest.FixtureRequest, editors: dict[str, Editor]) -> Editor:
    return editors[request.param]


def a_mask(width: int = 64, height: int = 64) -> np.ndarray:
    """The upper left quarter."""
    mask = np.zeros((height, width), dtype=bool)
    mask[: height // 2, : width // 2] = True
    return mask


def asked(mask: np.ndarray | None, name: str = "a", **changes: object) -> EditRequest:
    return EditRequest(name, draw(seed=1), "make it red", BALL, CUBE, mask=mask, **changes)


@pytest.fixture
def decoded(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The latents that an editor's edits are decoded from."""
    seen: list[torch.Tensor] = []
    decode = editor.pictures.decode

    def note_and_decode(latents: torch.Tensor) -> object:
        seen.append(latents)
        return decode(latents)

    monkeypatch.setattr(editor.pictures, "decode", note_and_decode)
    return seen


def test_the_edits_latents_are_the_sources_outside_the_mask_and_others_inside(editor, decoded):
    editor.edit([asked(a_mask())])
    scale = editor.pipeline.vae.config.scaling_factor
    source = scale * editor.pictures.encode([draw(seed=1)], (64, 64))
    side = source.shape[-1] // 2
    inside = torch.zeros_like(source, dtype=torch.bool)
    inside[..., :side, :side] = True
    (latents,) = decoded
    assert torch.equal(latents[~inside], source[~inside])
    assert (latents[inside] != source[inside]).all()


def test_a_mask_of_everything_changes_nothing_and_so_does_none_beside_a_masked_request(editor):
    plain = editor.edit([asked(None)])[0]
    everything = editor.edit([asked(np.ones((64, 64), dtype=bool))])[0]
    assert np.array_equal(plain, everything)
    masked, beside = editor.edit([asked(a_mask(), "b"), asked(None)])
    assert levels_apart(plain, beside) <= 1
    assert levels_apart(masked, editor.edit([asked(a_mask(), "b")])[0]) <= 1
    assert levels_apart(masked, editor.edit([asked(None, "b")])[0]) > 1


def test_a_place_that_a_thin_mask_touches_may_change(editor):
    thin = np.zeros((64, 64), dtype=bool)
    thin[17, :] = True
    latents = torch.zeros(1, 4, 16, 16)
    mask = editor.pictures.mask_of([asked(thin)], latents)
    assert mask.shape == (1, 1, 16, 16)
    assert mask[0, 0, 4].all()
    assert mask.sum() == 16


@pytest.mark.parametrize("scheduler", ["ddim", "pndm", "euler-ancestral", "heun", "dpm-solver"])
def test_ip2p_sees_the_source_at_each_steps_level_of_noise_outside_the_mask(
    editors, monkeypatch, scheduler
):
    editor = editors["ip2p"]
    monkeypatch.setattr(editor, "scheduler_name", scheduler)
    seen: list[tuple[torch.Tensor, int]] = []
    hook = editor.pipeline.unet.register_forward_pre_hook(
        lambda module, given: seen.append((given[0][:1, :4], int(given[1])))
    )
    try:
        editor.edit([asked(a_mask())])
    finally:
        hook.remove()
    scale = editor.pipeline.vae.config.scaling_factor
    source = scale * editor.pictures.encode([draw(seed=1)], (64, 64))
    noise = torch.randn(source.shape[1:], generator=draw_generator(0, "edit", "a"))[None]
    bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    side = source.shape[-1] // 2
    assert len(seen) >= 4
    for noisy, t in seen:
        # x_t of the forward process; an exploding one's input is scaled to the same before the UNet
        wanted = bar[t].sqrt() * source + (1 - bar[t]).sqrt() * noise
        apart = (noisy - wanted).abs()
        assert apart[..., side:, :].max() < 1e-4
        assert apart[..., :, side:].max() < 1e-4
        if t < max(step for _, step in seen):
            assert apart[..., :side, :side].max() > 1e-2


def test_ddpm_inversion_with_a_mask_follows_the_inverted_source_outside_it(editors, monkeypatch):
    editor = editors["ddpm-inversion"]
    pairs: list[tuple[torch.Tensor, torch.Tensor]] = []
    predict: Callable = editor.predict_with_captions

    def note(source: torch.Tensor, edited: torch.Tensor, *given: object) -> object:
        pairs.append((source, edited))
        return predict(source, edited, *given)

    monkeypatch.setattr(editor, "predict_with_captions", note)
    editor.edit([replace(asked(a_mask()), target_text="something else")])
    assert len(pairs) == 3
    for source, edited in pairs[1:]:
        side = source.shape[-1] // 2
        assert torch.equal(source[..., side:, :], edited[..., side:, :])
        assert not torch.equal(source[..., :side, :side], edited[..., :side, :side])

"""CDS, held against its two losses written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from drawn_requests import BALL, CUBE, captions, latents, named, refuse_company_that_tells

from ric.device import draw_generator
from ric.editors.cds import Cds, contrast

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def make(tiny_family: Path) -> Callable[..., Cds]:
    def make(**options: object) -> Cds:
        settings = {"dtype": "fp32", "steps": 3, "image_size": 64, **options}
        return Cds(tiny_family / "text_to_image", device=CPU, **settings)  # type: ignore[arg-type]

    return make


def test_the_gradient_of_an_iteration_is_that_of_both_losses_written_out(make):
    editor = make(dds_weight=0.5, contrast_weight=2.0, guidance=5.0)
    source = latents(editor)
    edited = source + 0.3 * torch.randn(source.shape, generator=draw_generator(9))
    found = editor.gradient(
        source, edited, captions(editor, BALL, CUBE), [draw_generator(0, "edit", "a", 4)]
    )

    draws = draw_generator(0, "edit", "a", 4)
    t = int(torch.randint(50, 949, (1,), generator=draws))
    noise = torch.randn(source.shape[1:], generator=draws)
    abar = editor.pipeline.scheduler.alphas_cumprod[t]
    variable = edited.clone().requires_grad_()
    at_t = {
        which: abar.sqrt() * z + (1 - abar).sqrt() * noise
        for which, z in (("source", source), ("edited", variable))
    }
    unet, seen = editor.pipeline.unet, []
    layers = [
        block.attn1
        for level in unet.up_blocks
        if hasattr(level, "attentions")
        for attention in level.attentions
        for block in attention.transformer_blocks
    ]
    assert layers
    for layer in layers:
        layer.register_forward_hook(lambda module, given, output: seen.append(output))

    def predict(which: str, text: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
        seen.clear()
        words = editor.pictures.embed(text)[None]
        return unet(at_t[which], t, encoder_hidden_states=words).sample, list(seen)

    def guided(which: str, text: str) -> torch.Tensor:
        null = predict(which, "")[0]
        return null + 5.0 * (predict(which, text)[0] - null)

    difference = (guided("edited", CUBE) - guided("source", BALL)).detach()
    loss = 2000 * 0.5 * (variable * difference).sum() / (16 * 16)
    references, own = predict("source", BALL)[1], predict("edited", CUBE)[1]
    for reference, features in zip(references, own, strict=True):
        side = round(reference.shape[1] ** 0.5)
        for patch in (1, 2):
            rows = []
            for one in (reference.detach(), features):
                grid = one[0].reshape(side, side, -1)
                means = [
                    grid[y : y + patch, x : x + patch].mean((0, 1))
                    for y in range(0, side - patch + 1, patch)
                    for x in range(0, side - patch + 1, patch)
                ]
                rows.append(torch.stack([mean / mean.norm() for mean in means]))
            order = torch.randperm(len(rows[0]), generator=draws)[:256]
            alike = ((rows[0][order] @ rows[1][order].T) / 0.07).exp()
            loss = loss + 2.0 * -(alike.diagonal() / alike.sum(1)).log().mean()
    loss.backward()
    torch.testing.assert_close(found, variable.grad, rtol=1e-3, atol=1e-4)
    for layer in layers:
        layer._forward_hooks.clear()


def test_with_one_caption_and_no_contrast_nothing_changes(make):
    editor = make(contrast_weight=0.0)
    source = latents(editor)
    same = captions(editor, BALL, BALL)
    assert torch.equal(editor.edit_latents(source, same, named("a")), source)
    other = captions(editor, BALL, CUBE)
    assert not torch.allclose(editor.edit_latents(source, other, named("a")), source, atol=1e-3)


def test_the_contrastive_loss_pulls_each_place_towards_the_source_s():
    own = torch.randn(1, 16, 8, generator=draw_generator(1))
    draws = [draw_generator(2)]
    same = contrast(own, own, (8, 8), draws)
    shifted = contrast(own, own.roll(1, 1), (8, 8), [draw_generator(2)])
    assert same < shifted


def test_a_request_gives_the_same_picture_alone_and_in_company(make):
    refuse_company_that_tells(make())

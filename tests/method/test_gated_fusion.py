from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ric.errors import RicError
from ric.method.gated_fusion import GatedCrossAttentionFusion

WIDTH, HEADS, PROJECTION = 12, 3, 8


@pytest.fixture
def fusion() -> GatedCrossAttentionFusion:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return GatedCrossAttentionFusion(WIDTH, HEADS, PROJECTION).double().eval()


@pytest.fixture
def tokens(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    region = torch.randn(2, 9, WIDTH, generator=draw, dtype=torch.float64)
    image = torch.randn(2, 16, WIDTH, generator=draw, dtype=torch.float64)
    return region, image


def convolve(cnn, tokens: Tensor) -> Tensor:
    """Two 3x3 convolutions and a GELU, pixel by pixel, on the tokens' square grid."""
    side = round(len(tokens) ** 0.5)
    grid = {(y, x): tokens[y * side + x] for y in range(side) for x in range(side)}
    for layer in (cnn[0], cnn[2]):
        new = {}
        for y, x in grid:
            value = layer.bias.clone()
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if (y + dy, x + dx) in grid:
                        value += layer.weight[:, :, dy + 1, dx + 1] @ grid[y + dy, x + dx]
            new[y, x] = value
        if layer is cnn[0]:
            # x times the Gaussian's distribution function
            new = {p: v * 0.5 * (1 + torch.erf(v / 2**0.5)) for p, v in new.items()}
        grid = new
    return torch.stack([grid[y, x] for y in range(side) for x in range(side)])


def straight_line(fusion: GatedCrossAttentionFusion, e_r: Tensor, e_f: Tensor) -> Tensor:
    """Eqs. 12 to 16 for one sample, with the module's weights and nothing of its code."""
    region, full = convolve(fusion.region_cnn, e_r), convolve(fusion.full_cnn, e_f)  # Eq. 12
    weights = fusion.attention.in_proj_weight.chunk(3)
    biases = fusion.attention.in_proj_bias.chunk(3)
    query, key, value = (
        x @ w.T + b for x, w, b in zip((region, full, full), weights, biases, strict=True)
    )
    size = WIDTH // HEADS
    heads = []
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = query[:, part] @ key[:, part].T / size**0.5
        heads.append(torch.softmax(scores, -1) @ value[:, part])
    out = fusion.attention.out_proj
    h = torch.cat(heads, -1) @ out.weight.T + out.bias  # Eq. 13
    g = 1 / (1 + torch.exp(-(region @ fusion.gate.weight.T + fusion.gate.bias)))  # Eq. 14
    z = region + g * h  # Eq. 15
    centred = z - z.mean(-1, keepdim=True)
    spread = (centred.pow(2).mean(-1, keepdim=True) + fusion.norm.eps).sqrt()
    normed = centred / spread * fusion.norm.weight + fusion.norm.bias
    return normed @ fusion.project.weight.T + fusion.project.bias  # Eq. 16


def close_gate(fusion: GatedCrossAttentionFusion) -> None:
    with torch.no_grad():
        fusion.gate.bias.fill_(-torch.inf)


def make_convolutions_pointwise(fusion: GatedCrossAttentionFusion) -> None:
    for cnn in (fusion.region_cnn, fusion.full_cnn):
        for layer in (cnn[0], cnn[2]):
            torch.nn.init.dirac_(layer.weight)
            torch.nn.init.zeros_(layer.bias)


def test_the_fusion_is_equations_12_to_16_in_a_straight_line(fusion, tokens):
    region, image = tokens
    # weights of LayerNorm other than 1 and 0, so that they are tested too
    torch.nn.init.uniform_(fusion.norm.weight, 0.5, 1.5)
    torch.nn.init.uniform_(fusion.norm.bias, -0.5, 0.5)
    got = fusion(region, image)
    assert got.shape == (2, 9, PROJECTION)
    for i in range(2):
        torch.testing.assert_close(got[i], straight_line(fusion, region[i], image[i]))


def test_a_closed_gate_returns_the_region_alone(fusion, tokens):
    region, image = tokens
    close_gate(fusion)
    alone = torch.stack([convolve(fusion.region_cnn, row) for row in region])
    expected = fusion.project(functional.layer_norm(alone, (WIDTH,)))
    torch.testing.assert_close(fusion(region, image), expected)
    assert torch.equal(fusion(region, image), fusion(region, image * 100))


def test_an_open_gate_lets_the_image_in(fusion, tokens):
    region, image = tokens
    assert not torch.allclose(fusion(region, image), fusion(region, image.flip(0)))


def test_the_order_of_image_tokens_does_not_matter_without_convolutions(fusion, tokens, draw):
    region, image = tokens
    make_convolutions_pointwise(fusion)
    order = torch.randperm(16, generator=draw)
    torch.testing.assert_close(fusion(region, image[:, order]), fusion(region, image))


def test_the_order_of_image_tokens_matters_with_convolutions(fusion, tokens, draw):
    region, image = tokens
    order = torch.randperm(16, generator=draw)
    assert not torch.allclose(fusion(region, image[:, order]), fusion(region, image))


def test_gradients_are_the_finite_differences(fusion, tokens):
    region, image = (tensor[:1].clone().requires_grad_() for tensor in tokens)
    assert torch.autograd.gradcheck(lambda r, f: fusion(r, f).mean(1), (region, image))


def test_tokens_that_form_no_square_are_refused(fusion, tokens):
    region, image = tokens
    with pytest.raises(RicError, match="8 tokens do not form a square grid"):
        fusion(region[:, :8], image)
    with pytest.raises(RicError, match="15 tokens do not form a square grid"):
        fusion(region, image[:, 1:])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(RicError, match="5 attention heads do not divide the token width 12"):
        GatedCrossAttentionFusion(12, 5, 8)

"""Image and text look at the graph: plain matrix products that equal attention with a gate.

If one of these failed, a gate, the mask or the scale of this attention would be wrong.
"""

from __future__ import annotations

import torch

from sgflux.bases.base import GraphTokens
from sgflux.bases.flux1.graph_block import attend, told_by_graph


def test_the_matrix_products_are_gated_attention_to_the_graph() -> None:
    """Values and gradients, with padding in one of three graphs; zero gates change no bit."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, requires_grad=True)

    text, image = random(3, 5, 32), random(3, 9, 32)
    query, key, value = random(3, 14, 4, 8), random(3, 7, 4, 8), random(3, 7, 4, 8)
    gate_image, gate_text = random(3, 1, 32), random(3, 1, 32)
    mask = torch.ones(3, 1, 1, 7, dtype=torch.bool)
    mask[1, ..., 4:] = False
    graph = GraphTokens(random(3, 7, 32), mask, gate_image, gate_text, is_last=True)

    told = attend(query, key, value, mask=mask)
    expected = (text + gate_text * told[:, :5], image + gate_image * told[:, 5:])
    found = told_by_graph(text, image, query, key, value, graph)
    torch.testing.assert_close(found, expected)
    weights = (query, key, value, gate_image, gate_text)
    for own, other in zip(
        torch.autograd.grad([part.square().sum() for part in found], weights),
        torch.autograd.grad([part.square().sum() for part in expected], weights),
        strict=True,
    ):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)

    # A bias of log(w) weights a token w times for the image, and as ever for the text.
    weight = torch.rand(3, 7, 9, generator=draw)
    bias = torch.cat([torch.zeros(3, 7, 5), weight.log()], dim=2)
    found = told_by_graph(text, image, query, key, value, graph._replace(bias=bias))
    torch.testing.assert_close(found[0], expected[0])
    scores = torch.einsum("bshc,bghc->bhgs", query[:, 5:], key).mul(8**-0.5).exp()
    scores = scores * weight[:, None] * mask.transpose(2, 3)
    shares = scores / scores.sum(dim=2, keepdim=True)
    told = torch.einsum("bhgs,bghc->bshc", shares, value).flatten(2)
    torch.testing.assert_close(found[1], image + gate_image * told)

    closed = graph._replace(gate_image=0 * gate_image, gate_text=0 * gate_text)
    same = told_by_graph(text, image, query, key, value, closed)
    assert torch.equal(same[0], text)
    assert torch.equal(same[1], image)

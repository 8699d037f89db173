"""Concept attention maps against the formula written out, and what they must leave alone.

If one of these failed, saliency maps would show other attention than the model's, or taking them
would change its output.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn import functional as F

from sgflux.bases.flux1.network import FluxInputs
from sgflux.errors import SgfluxError
from sgflux.models.block_range import default_concept_blocks
from sgflux.models.conditioner import Conditioner
from sgflux.models.conditioning import ConditionedFlux
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.models.saliency import (
    concept_attention_maps,
    concept_probabilities,
    softened,
)
from tests.helpers.flux import make_transformer

Inputs = dict[str, Any]


def looking_on(
    model: ConditionedFlux,
    inputs: FluxInputs,
    concepts: Inputs,
    *,
    blocks: list[int],
    graph: GraphFeatures | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Velocity and scores of a conditioned model with concepts beside it."""
    text = {"pooled": concepts["concept_pooled_projections"]}
    prefix = model.prefix(inputs, concepts=concepts["concept_states"], concept_text=text)
    return model.suffix_with_concepts(prefix, graph, blocks=blocks, **options)


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return make_transformer(num_layers=4, num_single_layers=1)


@pytest.fixture
def concepts() -> Inputs:
    return {
        "concept_states": torch.randn(3, 2, 32),
        "concept_pooled_projections": torch.randn(3, 24),
    }


@pytest.fixture
def graph() -> GraphFeatures:
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    return GraphFeatures(local=torch.randn(3, 2, 10), mask=mask, global_=torch.randn(3, 6))


def conditioned(transformer: FluxTransformer2DModel, mode: Any = "token") -> ConditionedFlux:
    conditioner = Conditioner(
        local_dim=10,
        global_dim=6,
        inner_dim=transformer.inner_dim,
        blocks=2,
        graph_mode=mode,
        gate_init=0.5,
    )
    return ConditionedFlux(transformer=transformer, conditioner=conditioner, block_start=1)


def reference(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, concepts: Inputs, row: int
) -> list[Tensor]:
    """One example's scores by block, (C, S) each: loops over heads and tokens, no shared code."""
    image = transformer.x_embedder(inputs.hidden_states[row])
    text = transformer.context_embedder(inputs.encoder_hidden_states[row])
    concept = transformer.context_embedder(concepts["concept_states"][row])
    time = inputs.timestep[row : row + 1] * 1000
    temb = transformer.time_text_embed(time, inputs.pooled_projections[row : row + 1])[0]
    own = transformer.time_text_embed(time, concepts["concept_pooled_projections"][row : row + 1])[
        0
    ]
    rotary = transformer.pos_embed(torch.cat([inputs.txt_ids, inputs.img_ids]))
    found = []
    for block in transformer.transformer_blocks:
        attn = block.attn
        image_mod = block.norm1.linear(F.silu(temb)).chunk(6)
        text_mod = block.norm1_context.linear(F.silu(temb)).chunk(6)
        concept_mod = block.norm1_context.linear(F.silu(own)).chunk(6)
        streams = {"image": (image, image_mod), "text": (text, text_mod)}
        streams["concept"] = (concept, concept_mod)
        q, k, v = {}, {}, {}
        for name, (x, mod) in streams.items():
            x = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + mod[1]) + mod[0]
            added = name != "image"
            layers = (
                (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
                if added
                else (attn.to_q, attn.to_k, attn.to_v)
            )
            q[name], k[name], v[name] = (layer(x).unflatten(-1, (2, 16)) for layer in layers)
            q[name] = (attn.norm_added_q if added else attn.norm_q)(q[name])
            k[name] = (attn.norm_added_k if added else attn.norm_k)(k[name])
            # Concepts stand at position 0, as the text does: the rotary of a text position.
            length = len(text)
            turn = {
                "image": tuple(part[length:] for part in rotary),
                "text": tuple(part[:length] for part in rotary),
                "concept": tuple(part[:1].expand(len(x), -1) for part in rotary),
            }[name]
            q[name] = apply_rotary_emb(q[name][None], turn, sequence_dim=1)[0]
            k[name] = apply_rotary_emb(k[name][None], turn, sequence_dim=1)[0]

        def attend(who: str, whom: tuple[str, ...]) -> Tensor:
            out = []
            for head in range(2):
                keys = torch.cat([k[name][:, head] for name in whom])  # noqa: B023
                values = torch.cat([v[name][:, head] for name in whom])  # noqa: B023
                out.append((q[who][:, head] @ keys.T / 4).softmax(-1) @ values)  # noqa: B023
            return torch.cat(out, dim=-1)

        outputs = {
            "image": attn.to_out[0](attend("image", ("text", "image"))),
            "text": attn.to_add_out(attend("text", ("text", "image"))),
            "concept": attn.to_add_out(attend("concept", ("concept", "image"))),
        }
        found.append(
            torch.stack(
                [torch.stack([c.dot(n) for n in outputs["image"]]) for c in outputs["concept"]]
            )
        )
        after = {}
        for name, (x, mod) in streams.items():
            ff = block.ff if name == "image" else block.ff_context
            x = x + mod[2] * outputs[name]
            normed = F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + mod[4]) + mod[3]
            after[name] = x + mod[5] * ff(normed)
        image, text, concept = after["image"], after["text"], after["concept"]
    return found


def test_scores_are_the_formula(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, concepts: Inputs
) -> None:
    scores = concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=[2, 0, 3])
    assert scores.shape == (3, 3, 2, 24)
    for row in range(3):
        expected = reference(transformer, inputs, concepts, row)
        torch.testing.assert_close(
            scores[:, row],
            torch.stack([expected[2], expected[0], expected[3]]),
            rtol=1e-4,
            atol=1e-5,
        )


def test_concepts_look_at_each_other_and_have_their_own_modulation(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, concepts: Inputs
) -> None:
    scores = concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=[3])
    alone = {**concepts, "concept_states": concepts["concept_states"][:, :1]}
    without = concept_attention_maps(transformer, **vars(inputs), **alone, blocks=[3])
    assert not torch.allclose(without[:, :, 0], scores[:, :, 0])
    other = {**concepts, "concept_pooled_projections": torch.randn(3, 24)}
    changed = concept_attention_maps(transformer, **vars(inputs), **other, blocks=[3])
    assert not torch.allclose(changed, scores)


def test_nobody_looks_at_the_concepts(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, concepts: Inputs
) -> None:
    """The image's output has the same bits, and nothing is left behind on the transformer."""
    before = transformer(**vars(inputs)).sample
    concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=[3])
    assert torch.equal(transformer(**vars(inputs)).sample, before)
    velocity, scores = looking_on(conditioned(transformer), inputs, concepts, blocks=[0, 3])
    assert torch.equal(velocity, before)
    plain = concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=[0, 3])
    torch.testing.assert_close(scores, plain)


@pytest.mark.parametrize("mode", ["token", "temb"])
def test_with_a_graph_they_see_what_the_graph_did(
    transformer: FluxTransformer2DModel,
    inputs: FluxInputs,
    concepts: Inputs,
    graph: GraphFeatures,
    mode: str,
) -> None:
    model = conditioned(transformer, mode)
    velocity, scores = looking_on(model, inputs, concepts, blocks=[0, 1, 3], graph=graph)
    assert torch.equal(velocity, model(inputs, graph=graph))
    plain = concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=[0, 1, 3])
    torch.testing.assert_close(scores[0], plain[0])  # before the graph
    assert (scores[1:] - plain[1:]).abs().amax(dim=(0, 2, 3))[[0, 2]].min() > 1e-4
    torch.testing.assert_close(scores[:, 1], plain[:, 1])  # the null graph's row


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_flow_with_and_without_checkpointing(
    transformer: FluxTransformer2DModel,
    inputs: FluxInputs,
    concepts: Inputs,
    graph: GraphFeatures,
    checkpointing: bool,
) -> None:
    def plain_gradient(on: bool) -> Tensor:
        model = make_transformer(num_layers=4, num_single_layers=1)
        if on:
            model.enable_gradient_checkpointing()
        latents = inputs.hidden_states.clone().requires_grad_()
        moved = {**vars(inputs), "hidden_states": latents}
        maps = concept_attention_maps(model.train(), **moved, **concepts, blocks=[1, 3])
        concept_probabilities(maps)[:, 0].square().sum().backward()
        assert latents.grad is not None
        return latents.grad

    expected = plain_gradient(False)
    assert expected.abs().max() > 0
    torch.testing.assert_close(plain_gradient(checkpointing), expected)

    model = conditioned(transformer)
    _, scores = looking_on(
        model,
        inputs,
        concepts,
        blocks=[2, 3],
        graph=graph,
        gradient_checkpointing=checkpointing,
    )
    scores.square().sum().backward()
    gradient = model.conditioner.gate_image.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_a_bf16_model_gives_float32_scores(
    inputs: FluxInputs, concepts: Inputs, transformer: FluxTransformer2DModel
) -> None:
    exact = concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=[0])
    scores = concept_attention_maps(
        transformer.to(torch.bfloat16), **vars(inputs), **concepts, blocks=[0]
    )
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, exact, rtol=0.2, atol=0.1 * exact.abs().max().item())


def test_maps_of_scores_worked_by_hand() -> None:
    log = torch.log(torch.tensor([[1.0, 3.0], [1.0, 1.0], [2.0, 4.0]]))
    scores = torch.stack([log, torch.zeros(3, 2)])[:, None]  # two blocks, one example
    maps = concept_probabilities(scores)
    expected = (torch.tensor([[0.25, 3 / 8], [0.25, 1 / 8], [0.5, 0.5]]) + 1 / 3) / 2
    torch.testing.assert_close(maps[0], expected)


def test_softened_scores_by_hand() -> None:
    # Two concepts that differ by 6 and by 2 at two tokens: 3 and 1 from their mean, spread sqrt(5).
    scores = torch.tensor([[[[10.0, 4.0], [4.0, 2.0]]]])
    expected = torch.tensor([[[[3.0, 1.0], [-3.0, -1.0]]]]) / 5**0.5
    torch.testing.assert_close(softened(scores), expected)
    # Block by block and example by example: a louder one is the same.
    both = torch.cat([scores, 100 * scores], dim=1)
    torch.testing.assert_close(softened(both)[:, 1], softened(both)[:, 0])
    assert not softened(torch.full((1, 1, 2, 3), 7.0)).any(), "concepts that do not differ"


def test_scores_of_a_real_size_have_a_gradient() -> None:
    """Concepts differ by hundreds in tiny-flux: the plain softmax of that has none."""
    raw = 500 * torch.randn(2, 1, 3, 16, generator=torch.Generator().manual_seed(0))
    gradients = []
    for prepare in (torch.clone, softened):
        scores = raw.clone().requires_grad_()
        concept_probabilities(prepare(scores))[:, 0].square().sum().backward()
        assert scores.grad is not None
        gradients.append(500 * scores.grad.abs().median().item())
    assert gradients[0] < 1e-6
    assert gradients[1] > 1e-2


def test_blocks_that_do_not_exist_are_named(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, concepts: Inputs
) -> None:
    for blocks in ([], [4], [1, 1], [-1]):
        with pytest.raises(SgfluxError, match=r"between 0 and 3, at least one, got \["):
            concept_attention_maps(transformer, **vars(inputs), **concepts, blocks=blocks)
    model = conditioned(transformer)
    prefix = model.prefix(inputs)
    with pytest.raises(ValueError, match="has no concepts"):
        model.suffix_with_concepts(prefix, blocks=[0])
    assert default_concept_blocks(19) == tuple(range(9, 19))

"""ConditionedFlux: the base exactly where it must be, the graph exactly where it should be.

If one of these failed, the graph would act where it must not, or the base would change without a
graph.
"""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn import functional as F

from sgflux.bases.base import GraphTokens, State
from sgflux.bases.flux1.graph_block import graph_block
from sgflux.bases.flux1.network import FluxInputs
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.conditioner import Conditioner
from sgflux.models.conditioning import ConditionedFlux
from sgflux.models.graph_encoder import GraphFeatures, NativeGraphEncoder
from sgflux.models.name_features import NameFeatures
from tests.helpers.flux import make_transformer
from tests.helpers.models import rows_of

MODES = ("token", "temb")


@pytest.fixture
def transformer() -> FluxTransformer2DModel:
    return make_transformer()


@pytest.fixture
def graph() -> GraphFeatures:
    """Two triples, none, and one; local features of 10 numbers and global ones of 6."""
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    return GraphFeatures(local=torch.randn(3, 2, 10), mask=mask, global_=torch.randn(3, 6))


def conditioned(
    transformer: FluxTransformer2DModel,
    mode: Any,
    *,
    gate_init: float = 0.0,
    block_start: int = 3,
    block_end: int = 6,
    local_dim: int = 10,
    global_dim: int = 6,
) -> ConditionedFlux:
    conditioner = Conditioner(
        local_dim=local_dim,
        global_dim=global_dim,
        inner_dim=transformer.inner_dim,
        blocks=block_end - block_start,
        graph_mode=mode,
        gate_init=gate_init,
    )
    return ConditionedFlux(
        transformer=transformer, conditioner=conditioner, block_start=block_start
    )


def rows(graph: GraphFeatures, index: list[int]) -> GraphFeatures:
    return GraphFeatures(graph.local[index], graph.mask[index], graph.global_[index])


# --- identity -----------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_untrained_it_is_the_base_bit_for_bit(
    transformer: FluxTransformer2DModel,
    inputs: FluxInputs,
    graph: GraphFeatures,
    mode: str,
    checkpointing: bool,
) -> None:
    base = transformer(**vars(inputs)).sample
    model = conditioned(transformer, mode)
    for features in (None, graph):
        velocity = model(inputs, graph=features, gradient_checkpointing=checkpointing)
        assert torch.equal(velocity, base)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("start_end", [(0, 1), (0, 8), (7, 8)])
def test_identity_holds_for_any_blocks_and_for_a_distilled_model(
    inputs: FluxInputs, graph: GraphFeatures, mode: str, start_end: tuple[int, int]
) -> None:
    transformer = make_transformer(guidance_embeds=True)
    guidance = torch.tensor([1.0, 3.5, 2.0])
    guided = replace(inputs, guidance=guidance)
    base = transformer(**vars(guided)).sample
    start, end = start_end
    model = conditioned(transformer, mode, block_start=start, block_end=end)
    assert torch.equal(model(guided, graph=graph), base)
    with pytest.raises(ValueError, match="needs `guidance`"):
        model(inputs)
    with pytest.raises(ValueError, match="no effect"):
        conditioned(make_transformer(), mode)(guided)


@pytest.mark.parametrize("mode", MODES)
def test_in_bf16_it_is_the_base_where_the_base_does_not_round_sigma(
    inputs: FluxInputs, graph: GraphFeatures, mode: str
) -> None:
    transformer = make_transformer().to(torch.bfloat16)
    sigma = torch.tensor([1.0, 0.5, 0.25])  # 1000, 500 and 250 are bf16 numbers
    tensors = {name: value for name, value in vars(inputs).items() if value is not None}
    halves = {name: value.to(torch.bfloat16) for name, value in tensors.items()}
    base = transformer(**{**halves, "timestep": sigma}).sample
    inputs = replace(inputs, timestep=sigma)
    model = conditioned(transformer, mode)
    assert torch.equal(model(inputs, graph=graph), base)


def test_sigma_keeps_its_precision_in_bf16(inputs: FluxInputs) -> None:
    # 0.7300 and 0.7305 are the same bf16 number.
    model = conditioned(make_transformer().to(torch.bfloat16), "token")
    temb = [
        model.prefix(replace(inputs, timestep=torch.full((3,), sigma))).state.temb
        for sigma in (0.7300, 0.7305)
    ]
    assert not torch.equal(*temb)


# --- what the graph does ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_graph_changes_its_own_row_alone_and_a_null_graph_none(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures, mode: str
) -> None:
    model = conditioned(transformer, mode, gate_init=1.0)
    base, told = model(inputs), model(inputs, graph=graph)
    assert (told - base).abs().amax(dim=(1, 2))[[0, 2]].min() > 1e-3
    assert torch.equal(told[1], base[1])
    other = GraphFeatures(graph.local.clone(), graph.mask, graph.global_.clone())
    other.local[0] += 1
    other.global_[0] += torch.randn(6)
    changed = model(inputs, graph=other)
    assert (changed[0] - told[0]).abs().max() > 1e-4
    torch.testing.assert_close(changed[1:], told[1:])


@pytest.mark.parametrize("mode", MODES)
def test_padding_has_no_effect(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures, mode: str
) -> None:
    model = conditioned(transformer, mode, gate_init=1.0)
    together = model(inputs, graph=graph)
    garbage = GraphFeatures(
        local=torch.cat([graph.local, torch.full((3, 2, 10), math.nan)], dim=1),
        mask=F.pad(graph.mask, (0, 2)),
        global_=graph.global_.masked_fill(~graph.present[:, None], math.inf),
    )
    garbage.local[2, 1] = 1e6
    torch.testing.assert_close(model(inputs, graph=garbage), together)
    for row, count in ((0, 2), (1, 0), (2, 1)):
        alone = rows(graph, [row])
        alone = GraphFeatures(alone.local[:, :count], alone.mask[:, :count], alone.global_)
        velocity = model(rows_of(inputs, [row]), graph=alone)
        torch.testing.assert_close(velocity[0], together[row])


def test_tokens_live_in_the_chosen_blocks_alone(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures
) -> None:
    """After the last chosen block the plain blocks go on with plain streams."""
    model = conditioned(transformer, "token", gate_init=1.0, block_start=2, block_end=5)
    lengths = []

    def record(module: torch.nn.Module, arguments: tuple[Tensor, ...], output: Any) -> None:
        lengths.append((arguments[1].shape[1], arguments[0].shape[1]))

    blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
    handles = [block.register_forward_hook(record) for block in blocks]
    model(inputs, graph=graph)
    for handle in handles:
        handle.remove()
    assert lengths == [(7, 24)] * 7  # 2 before, 3 after, 2 single; the chosen 3 are explicit


def test_each_gate_opens_its_own_stream(inputs: FluxInputs, graph: GraphFeatures) -> None:
    """Swapped, a gate that was trained for the image would let the graph into the text."""
    transformer = make_transformer(num_layers=2, num_single_layers=0)
    base = transformer(**vars(inputs)).sample
    model = conditioned(transformer, "token", block_start=1, block_end=2)
    with torch.no_grad():
        model.conditioner.gate_text.fill_(1.0)
    # Nothing follows the last double block's text here, so a gate of its own changes nothing.
    assert torch.equal(model(inputs, graph=graph), base)
    with torch.no_grad():
        model.conditioner.gate_image.fill_(1.0)
    assert (model(inputs, graph=graph) - base).abs().max() > 1e-3


def naive_block(
    block: Any,
    image: Tensor,
    text: Tensor,
    graph: Tensor,
    graph_mask: Tensor,
    temb: Tensor,
    rotary: tuple[Tensor, Tensor],
    gates: tuple[Tensor, Tensor],
    places: tuple[Tensor, Tensor] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The formula of the conditioned block, written out for one example, head by head."""
    attn = block.attn
    modulation = {
        "image": block.norm1.linear(F.silu(temb)).chunk(6),
        "text": block.norm1_context.linear(F.silu(temb)).chunk(6),
    }
    modulation["graph"] = modulation["text"]
    streams = {"text": text, "image": image, "graph": graph}
    normed = {
        name: F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + modulation[name][1])
        + modulation[name][0]
        for name, x in streams.items()
    }

    def project(name: str, kind: str) -> Tensor:
        layer = f"to_{kind}" if name == "image" else f"add_{kind}_proj"
        return getattr(attn, layer)(normed[name]).unflatten(-1, (attn.heads, -1))

    query, key, value = {}, {}, {}
    for name in streams:
        is_image = name == "image"
        query[name] = (attn.norm_q if is_image else attn.norm_added_q)(project(name, "q"))
        key[name] = (attn.norm_k if is_image else attn.norm_added_k)(project(name, "k"))
        value[name] = project(name, "v")
    length = text.shape[0]
    angles = tuple(part[length:] for part in rotary)
    for parts in (query, key):
        parts["image"] = apply_rotary_emb(parts["image"][None], angles, sequence_dim=1)[0]
        if places is not None:
            parts["graph"] = apply_rotary_emb(parts["graph"][None], places, sequence_dim=1)[0]

    def attend(name: str, sources: list[str]) -> Tensor:
        keys = torch.cat([key[source] for source in sources])
        values = torch.cat([value[source] for source in sources])
        seen = torch.cat(
            [
                graph_mask if source == "graph" else torch.ones(len(key[source]), dtype=torch.bool)
                for source in sources
            ]
        )
        heads = []
        for head in range(attn.heads):
            scores = query[name][:, head] @ keys[:, head].T / math.sqrt(attn.head_dim)
            weights = scores.exp() * seen
            heads.append(weights / weights.sum(dim=1, keepdim=True) @ values[:, head])
        return torch.cat(heads, dim=1)

    attended = {
        "image": attend("image", ["text", "image"]) + gates[0] * attend("image", ["graph"]),
        "text": attend("text", ["text", "image"]) + gates[1] * attend("text", ["graph"]),
        "graph": attend("graph", ["graph", "text", "image"]),
    }
    out = []
    for name in ("text", "image", "graph"):
        is_image = name == "image"
        _, _, gate_msa, shift, scale, gate_mlp = modulation[name]
        projected = (attn.to_out[0] if is_image else attn.to_add_out)(attended[name])
        state = streams[name] + gate_msa * projected
        inner = F.layer_norm(state, state.shape[-1:], eps=1e-6) * (1 + scale) + shift
        out.append(state + gate_mlp * (block.ff if is_image else block.ff_context)(inner))
    return out[0], out[1], out[2]


@pytest.mark.parametrize("placed", [False, True])
def test_the_block_is_its_formula(placed: bool) -> None:
    block = make_transformer(num_layers=1).transformer_blocks[0]
    image, text, graph = torch.randn(2, 24, 32), torch.randn(2, 7, 32), torch.randn(2, 4, 32)
    mask = torch.tensor([[True, True, True, True], [True, True, False, False]])
    temb, angle = torch.randn(2, 32), torch.rand(31, 8).repeat_interleave(2, dim=1)
    angle[:7] = 0  # text has no position
    rotary = (angle.cos(), angle.sin())
    gates = torch.randn(2, 2, 1, 32)
    state = State(image, text, temb, rotary)
    tokens = GraphTokens(graph, mask[:, None, None], gates[0], gates[1], is_last=False)
    turn = torch.rand(2, 4, 8).repeat_interleave(2, dim=2)  # a place of its own for each example
    places = (turn.cos(), turn.sin()) if placed else None
    tokens = tokens._replace(rotary=places)
    ours = graph_block(block, state, tokens)
    for row in range(2):
        expected = naive_block(
            block,
            image[row],
            text[row],
            graph[row],
            mask[row],
            temb[row],
            rotary,
            (gates[0, row], gates[1, row]),
            None if places is None else (places[0][row], places[1][row]),
        )
        for stream, reference in zip(ours, expected, strict=True):
            torch.testing.assert_close(stream[row], reference, rtol=1e-4, atol=1e-5)
    last = graph_block(block, state, tokens._replace(is_last=True))
    assert last[2] is None
    assert torch.equal(last[0], ours[0])
    assert torch.equal(last[1], ours[1])


def test_temb_mode_is_a_shift_of_the_chosen_blocks_timestep_embedding(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures
) -> None:
    model = conditioned(transformer, "temb", gate_init=0.5, block_start=2, block_end=4)
    prefix = model.prefix(inputs).state
    shift = 0.5 * model.conditioner.graph_global_to_temb(
        model.conditioner.graph_global_norm(graph.global_)
    )
    shift[1] = 0
    image, text = prefix.hidden_states, prefix.encoder_hidden_states
    rotary = prefix.image_rotary_emb
    blocks = (*transformer.transformer_blocks[2:], *transformer.single_transformer_blocks)
    for index, block in enumerate(blocks):
        temb = prefix.temb + shift if index < 2 else prefix.temb
        text, image = block(image, text, temb, rotary)
    expected = transformer.proj_out(transformer.norm_out(image, prefix.temb))
    torch.testing.assert_close(model(inputs, graph=graph), expected)


# --- parts, gradients, precision ----------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_one_prefix_serves_many_graphs(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures, mode: str
) -> None:
    model = conditioned(transformer, mode, gate_init=1.0)
    inputs.hidden_states.requires_grad_(True)
    prefix = model.prefix(inputs)
    assert not prefix.state.hidden_states.requires_grad
    expected = model(inputs, graph=graph)
    assert torch.equal(model.suffix(prefix, graph), expected)
    twice = model.suffix(prefix.repeat(2), rows(graph, [0, 1, 2, 2, 0, 1]))
    torch.testing.assert_close(twice[:3], expected)


@pytest.mark.parametrize("mode", MODES)
def test_gradient_checkpointing_changes_no_gradient(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures, mode: str
) -> None:
    model = conditioned(transformer, mode, gate_init=0.3)
    for index in (3, 4):  # trained weights inside the blocks, as LoRA's are
        transformer.transformer_blocks[index].attn.requires_grad_(True)
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        features = GraphFeatures(
            graph.local.clone().requires_grad_(), graph.mask, graph.global_.clone().requires_grad_()
        )
        velocity = model(inputs, graph=features, gradient_checkpointing=checkpointing)
        # Another forward in between must not matter: nothing is remembered on the module.
        with torch.no_grad():
            model(inputs)
        velocity.square().mean().backward()
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        gradients.append({**found, "global": features.global_.grad, "local": features.local.grad})
    plain, recomputed = gradients
    assert plain.keys() == recomputed.keys()
    for name, gradient in plain.items():
        if name == "local" and mode == "temb":
            assert gradient is recomputed[name] is None
            continue
        torch.testing.assert_close(recomputed[name], gradient, rtol=0, atol=0)
        assert gradient.abs().sum() > 0, name


def test_words_of_a_statement_go_through_the_base_own_embedder(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures
) -> None:
    """With words, each token starts as the base's own; padding and null graphs stay without."""
    model = conditioned(transformer, "token", gate_init=1.0)
    count, width = graph.mask.shape[1], transformer.config.joint_attention_dim
    words = torch.randn(3, count, 3, width)
    worded = replace(graph, words=words)
    settings = {"network": model.network, "dtype": torch.float32}
    plain, plain_mask = model.conditioner.tokens(graph, **settings)
    tokens, mask = model.conditioner.tokens(worded, **settings)
    added = (tokens - plain)[:, 1:]
    expected = transformer.context_embedder(words).flatten(1, 2)
    torch.testing.assert_close(added, expected)
    assert torch.equal(mask, plain_mask)
    output = model(inputs, graph=worded)
    assert not torch.allclose(output, model(inputs, graph=graph))
    other = words.masked_fill(graph.mask[:, :, None, None], 0) + words
    other = torch.where(graph.mask[:, :, None, None], words, 2 * other)
    assert torch.equal(model(inputs, graph=replace(graph, words=other)), output)


@pytest.mark.parametrize("mode", MODES)
def test_gates_learn_first_and_all_else_after_one_step(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, names: NameFeatures, mode: str
) -> None:
    encoder = NativeGraphEncoder(name_features=names, text_dim=32, hidden_dim=16)
    model = conditioned(
        transformer, mode, local_dim=encoder.local_dim, global_dim=encoder.global_dim
    )
    graphs = [
        SceneGraph.parse(text)
        for text in ("man, riding, horse", "cat, above, dog; dog, near, dog#2", "hat, on, man")
    ]
    trained = dict(model.conditioner.named_parameters()) | {
        f"encoder.{name}": parameter for name, parameter in encoder.named_parameters()
    }
    optimizer = torch.optim.SGD(trained.values(), lr=0.1)
    for step in range(2):
        optimizer.zero_grad()
        model(inputs, graph=encoder(graphs)).square().mean().backward()
        for name, parameter in trained.items():
            moves = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            assert moves == (step > 0 or name.startswith("gate")), (step, name)
        optimizer.step()


def test_a_forward_leaves_nothing_behind(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures
) -> None:
    def snapshot() -> list[tuple[str, list[str], int]]:
        return [
            (name, sorted(vars(module)), len(module._forward_hooks) + len(module._buffers))
            for name, module in transformer.named_modules()
        ]

    model = conditioned(transformer, "token", gate_init=1.0)
    before, base = snapshot(), model(inputs)
    model(inputs, graph=graph)
    assert snapshot() == before
    assert torch.equal(model(inputs), base)
    assert all(
        type(module).__module__.startswith("diffusers")
        for module in transformer.children()
        if not isinstance(module, torch.nn.Linear | torch.nn.ModuleList)
    )


@pytest.mark.parametrize("base_dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_mixed_precision_is_close_and_trains_in_float32(
    inputs: FluxInputs, graph: GraphFeatures, mode: str, base_dtype: torch.dtype, autocast: bool
) -> None:
    model = conditioned(make_transformer(), mode, gate_init=0.5)
    exact = model(inputs, graph=graph)
    model.transformer.to(base_dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        for checkpointing in (False, True):
            velocity = model(inputs, graph=graph, gradient_checkpointing=checkpointing)
    assert (velocity.float() - exact).norm() < 0.03 * exact.norm()
    velocity.float().square().mean().backward()
    for name, parameter in model.conditioner.named_parameters():
        assert parameter.dtype == parameter.grad.dtype == torch.float32, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_it_compiles_without_a_graph_break(inputs: FluxInputs, graph: GraphFeatures) -> None:
    transformer = make_transformer(num_layers=2, num_single_layers=1)
    model = conditioned(transformer, "token", gate_init=1.0, block_start=1, block_end=2)
    plain = model(inputs, graph=graph)
    model.compile_blocks(backend="eager", fullgraph=True)
    torch.testing.assert_close(model(inputs, graph=graph), plain)


# --- refusals -----------------------------------------------------------------------------------


def test_a_wrong_construction_is_refused(transformer: FluxTransformer2DModel) -> None:
    with pytest.raises(SgfluxError, match=r"3\.\.9.*<= 8"):
        conditioned(transformer, "token", block_start=3, block_end=9)
    with pytest.raises(SgfluxError, match="'both'"):
        conditioned(transformer, "both")
    transformer.fuse_qkv_projections()
    with pytest.raises(SgfluxError, match="fused"):
        conditioned(transformer, "token")


def test_features_that_do_not_fit_are_refused(
    transformer: FluxTransformer2DModel, inputs: FluxInputs, graph: GraphFeatures
) -> None:
    model = conditioned(transformer, "token")
    with pytest.raises(ValueError, match=r"graph\.local is \(2, 2, 10\), expected \(3, 2, 10\)"):
        model(inputs, graph=rows(graph, [0, 1]))
    narrow = GraphFeatures(graph.local, graph.mask, graph.global_[:, :5])
    with pytest.raises(ValueError, match=r"global_ is \(3, 5\), expected \(3, 6\)"):
        model(inputs, graph=narrow)

"""Graph tokens in the double blocks of ComfyUI's FLUX, through its own hooks.

ComfyUI lets a patch take the place of a block: in ``transformer_options["patches_replace"]``,
``"dit"`` has a function for ``("double_block", i)``, which gets the block's inputs (``img``,
``txt``, ``vec``, ``pe``, ``attn_mask``) and returns ``img`` and ``txt``. Here the chosen blocks are
computed in the open over the block's own layers, LoRA and quantisation included, with the graph
beside both streams:

    image, text: attention(-> text, image) + gate * attention(-> graph)
    graph:       attention(-> graph, text, image)

This is what :mod:`sgflux.bases.flux1.graph_block` computes over diffusers' blocks. The tokens begin
at the first chosen block and are gone after the last. What they are made of, their places, and what
a map of boxes adds to the image, is computed by sgflux' own conditioner.

Shapes: B batch, S image tokens, L text tokens, G = 1 + 3 K graph tokens, D width, H heads, C head
width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sgflux.bases.base import State
from sgflux.bases.flux1.latents import coverage, image_ids, place_ids, token_places
from sgflux.models.conditioner import Conditioner
from sgflux.models.graph_encoder import GraphFeatures

_NEEDED = (
    "img_mod",
    "txt_mod",
    "img_norm1",
    "txt_norm1",
    "img_attn",
    "txt_attn",
    "img_mlp",
    "txt_mlp",
)


@dataclass(frozen=True, eq=False)
class GraphPart:
    """What an adapter brings into a model beside its LoRA.

    Attributes:
        conditioner: the trained weights between a graph's features and the chosen blocks.
        block_start: first chosen double block.
    """

    conditioner: Conditioner
    block_start: int

    @property
    def block_end(self) -> int:
        """One past the last chosen block."""
        return self.block_start + self.conditioner.blocks


class _Tokens(NamedTuple):
    """A graph's tokens before a block, and what all chosen blocks do with them.

    Attributes:
        states: Tokens, (B, G, D).
        mask: True at those that may be attended to, (1, 1, 1, G) bool.
        pe: Rotary embedding of them, (1, 1, G, C / 2, 2, 2); None: they are where the text is.
        bias: added to the scores of text and image, (1, G, L + S) float32; None: nothing is.
        painted: added to the image before a block, but for its gate, (1, S, D); None: nothing is.
    """

    states: Tensor
    mask: Tensor
    pe: Tensor | None = None
    bias: Tensor | None = None
    painted: Tensor | None = None


class _Network:
    """What a conditioner asks of a base, see ``sgflux.bases.base.Network``, of ComfyUI's model."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype

    def embed_words(self, features: Tensor) -> Tensor:
        return self._model.txt_in(features.to(self._dtype))

    def coverage(self, state: State, boxes: Tensor) -> Tensor:
        share = coverage(boxes, tokens=state.hidden_states.shape[1], last=state.last_position)
        return F.pad(share, (state.encoder_hidden_states.shape[1], 0), value=1.0)

    def image_places(self, state: State) -> Tensor:
        return token_places(state.hidden_states.shape[1], last=state.last_position)


class GraphHooks:
    """The functions that take the chosen blocks' places.

    One forward pass of the model goes through them in order; the graph's tokens are kept between
    them, and dropped after the last.
    """

    def __init__(
        self, model: Any, part: GraphPart, graph: GraphFeatures, *, strength: float = 1.0
    ) -> None:
        """Keep the parts.

        Args:
            model: ComfyUI's ``Flux`` (``model.model.diffusion_model`` of a MODEL).
            part: the adapter's.
            graph: features of the graph to draw, of batch size 1.
            strength: factor of what the graph contributes; 0 leaves the LoRA alone.

        Raises:
            ValueError: if the model has no such blocks.
        """
        blocks = getattr(model, "double_blocks", None)
        if blocks is None or len(blocks) < part.block_end:
            raise ValueError(
                f"the adapter sits in double blocks {part.block_start} to {part.block_end - 1}; "
                "this model has not got them: it is no FLUX.1"
            )
        for index in range(part.block_start, part.block_end):
            missing = [name for name in _NEEDED if not hasattr(blocks[index], name)]
            if missing:
                raise ValueError(
                    f"double block {index} has no {missing[0]}: this version of ComfyUI builds it "
                    "in another way than the node knows"
                )
        self._model, self._part, self._graph, self._strength = model, part, graph, strength
        self._tokens: _Tokens | None = None

    def hooks(self) -> dict[int, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]]:
        """Double block -> the function in its place."""
        return {
            index: self._hook(index)
            for index in range(self._part.block_start, self._part.block_end)
        }

    def _hook(self, index: int) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
        def replacement(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            present = self._present(args)
            if self._part.conditioner.graph_mode == "temb":
                shift = self._temb_shift(index, present, args["vec"])
                return extra["original_block"]({**args, "vec": args["vec"] + shift})
            return self._with_graph(index, args, present)

        return replacement

    def _present(self, args: Mapping[str, Any]) -> Tensor:
        """Which rows of the batch have the graph, (B, 1, 1) float32: the conditional ones."""
        rows = args["img"].shape[0]
        kinds = (args.get("transformer_options") or {}).get("cond_or_uncond") or [0]
        if rows % len(kinds):
            raise ValueError(f"a batch of {rows} does not divide into {len(kinds)} conditions")
        has_graph = torch.tensor([float(kind == 0) for kind in kinds], device=args["img"].device)
        has_graph = has_graph * float(bool(self._graph.mask.any()))
        return has_graph.repeat_interleave(rows // len(kinds))[:, None, None]

    # -- what the graph brings ----------------------------------------------------------------

    def _own(self, device: torch.device) -> tuple[Conditioner, GraphFeatures]:
        """The conditioner and the graph's features on a device."""
        moved = {n: None if v is None else v.to(device) for n, v in vars(self._graph).items()}
        return self._part.conditioner.to(device), GraphFeatures(**moved)

    def _first_tokens(self, args: Mapping[str, Any]) -> _Tokens:
        """The tokens before the first chosen block."""
        img, txt, vec, pe = args["img"], args["txt"], args["vec"], args["pe"]
        conditioner, graph = self._own(img.device)
        network = _Network(self._model, img.dtype)
        states, mask = conditioner.tokens(graph, network=network, dtype=img.dtype)
        tokens = _Tokens(states.expand(img.shape[0], -1, -1), mask)
        if graph.placed is None:
            return tokens
        last = self._last_position(pe[0, 0, txt.shape[1] :])
        state = State(img, txt, vec, pe, last_position=last)
        places, box_map = conditioner.places(graph), conditioner.box_map
        return tokens._replace(
            pe=None if places is None else self._model.pe_embedder(place_ids(*places, last=last)),
            bias=conditioner.attention_bias(graph, network=network, state=state),
            painted=None if box_map is None else box_map(graph, network=network, state=state),
        )

    def _last_position(self, pe: Tensor) -> Tensor:
        """Position (0, row, column) of the last image token, read from the rotary embedding.

        Args:
            pe: Rotary embedding of the image tokens, (S, C / 2, 2, 2).

        Raises:
            ValueError: if the tokens are not at the positions of one picture's.
        """
        embedder = self._model.pe_embedder
        of_row = pe.split([size // 2 for size in embedder.axes_dim], dim=1)[1]
        columns = int((of_row == of_row[:1]).flatten(1).all(1).int().cumprod(0).sum())
        ids = image_ids(len(pe) // columns, columns).to(pe.device)
        if len(ids) != len(pe) or not torch.allclose(pe, embedder(ids[None])[0, 0], atol=1e-4):
            raise ValueError(
                "the image tokens are not at FLUX's own positions (reference latents beside them, "
                "or another node moves them), so that the objects' boxes have no place: encode the "
                "graph with boxes 'none'"
            )
        return ids[-1]

    def _gate(self, name: str, index: int, present: Tensor) -> Tensor:
        gate = self._part.conditioner.get_parameter(name)[index - self._part.block_start]
        return self._strength * present * gate

    def _temb_shift(self, index: int, present: Tensor, vec: Tensor) -> Tensor:
        conditioner, graph = self._own(vec.device)
        shifts = conditioner.tembs(graph, torch.zeros_like(vec, dtype=torch.float32))
        shift = shifts[index - self._part.block_start]
        return (self._strength * present[:, 0] * shift).to(vec.dtype)

    # -- a block with the graph beside its streams --------------------------------------------

    def _with_graph(self, index: int, args: Mapping[str, Any], present: Tensor) -> dict[str, Any]:
        block = self._model.double_blocks[index]
        img, txt, vec, pe = args["img"], args["txt"], args["vec"], args["pe"]
        if index == self._part.block_start:
            self._tokens = self._first_tokens(args)
        tokens = self._tokens
        if tokens is None:
            raise ValueError(f"double block {index} ran before block {self._part.block_start}")
        states, mask, length = tokens.states, tokens.mask, txt.shape[1]
        if tokens.painted is not None:
            gate_map = self._gate("box_map.gate_map", index, present)
            img = img + (gate_map * tokens.painted).to(img.dtype)
        img_mod1, img_mod2 = block.img_mod(vec)
        txt_mod1, txt_mod2 = block.txt_mod(vec)

        # Queries, keys and values, (B, H, tokens, C).
        img_q, img_k, img_v = _heads(
            block, block.img_attn, _modulated(block.img_norm1, img, img_mod1)
        )
        txt_q, txt_k, txt_v = _heads(
            block, block.txt_attn, _modulated(block.txt_norm1, txt, txt_mod1)
        )
        query = _rotated(torch.cat([txt_q, img_q], dim=2), pe)
        key = _rotated(torch.cat([txt_k, img_k], dim=2), pe)
        value = torch.cat([txt_v, img_v], dim=2)
        # At position 0, where the text is, rotation changes nothing.
        graph_q, graph_k, graph_v = _heads(
            block, block.txt_attn, _modulated(block.txt_norm1, states, txt_mod1)
        )
        if tokens.pe is not None:
            graph_q, graph_k = _rotated(graph_q, tokens.pe), _rotated(graph_k, tokens.pe)

        # The base's own attention, and what the graph says to the same queries.
        attended = _attend(query, key, value, args.get("attn_mask"))
        told = _told(query, graph_k, graph_v, tokens)
        gate_text = self._gate("gate_text", index, present).to(told.dtype)
        gate_image = self._gate("gate_image", index, present).to(told.dtype)
        txt_attended = attended[:, :length] + gate_text * told[:, :length]
        img_attended = attended[:, length:] + gate_image * told[:, length:]
        img = img + img_mod1.gate * block.img_attn.proj(img_attended)
        img = img + img_mod2.gate * block.img_mlp(_modulated(block.img_norm2, img, img_mod2))
        new_txt = _updated(block, txt, txt_attended, txt_mod1, txt_mod2)

        # The graph tokens look at themselves, the text and the image, and move on.
        if index == self._part.block_end - 1:
            self._tokens = None
        else:
            seen = _attend(
                graph_q,
                torch.cat([graph_k, key], dim=2),
                torch.cat([graph_v, value], dim=2),
                F.pad(mask, (0, key.shape[2]), value=True),
            )
            states = _updated(block, states, seen, txt_mod1, txt_mod2)
            self._tokens = tokens._replace(states=states)
        return {"img": img, "txt": new_txt}


def _modulated(norm: Any, states: Tensor, modulation: Any) -> Tensor:
    return (1 + modulation.scale) * norm(states) + modulation.shift


def _heads(block: Any, attention: Any, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised query and key, and value, each (B, H, n, C)."""
    fused = attention.qkv(states).unflatten(-1, (3, block.num_heads, -1))
    query, key, value = fused.permute(2, 0, 3, 1, 4)
    query, key = attention.norm(query, key, value)
    return query, key, value


def _rotated(states: Tensor, pe: Tensor) -> Tensor:
    """Rotary embedding as FLUX's original release has it; pe is (B, 1, n, C / 2, 2, 2)."""
    pairs = states.to(pe.dtype).unflatten(-1, (-1, 1, 2))
    turned = pe[..., 0] * pairs[..., 0] + pe[..., 1] * pairs[..., 1]
    return turned.flatten(-2).to(states.dtype)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """(B, H, n, C) queries over (B, H, m, C), (B, n, D)."""
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return attended.transpose(1, 2).flatten(2, 3)


def _told(query: Tensor, key: Tensor, value: Tensor, tokens: _Tokens) -> Tensor:
    """Attention of text and image over the graph's tokens under their mask and bias, (B, n, D)."""
    scores = (query @ key.mT).float() * key.shape[-1] ** -0.5
    if tokens.bias is not None:
        scores = scores + tokens.bias.mT[:, None]
    weights = scores.masked_fill(~tokens.mask, -torch.inf).softmax(dim=-1)
    return (weights.to(value.dtype) @ value).transpose(1, 2).flatten(2, 3)


def _updated(block: Any, states: Tensor, attended: Tensor, first: Any, second: Any) -> Tensor:
    """Gated residual and feed-forward of tokens on the block's text path."""
    states = states + first.gate * block.txt_attn.proj(attended)
    states = states + second.gate * block.txt_mlp(_modulated(block.txt_norm2, states, second))
    return states.clip(-65504, 65504) if states.dtype == torch.float16 else states

"""Graph tokens in the double blocks of ComfyUI's FLUX, through its own hooks.

ComfyUI lets a patch take the place of a block: in ``transformer_options["patches_replace"]``,
``"dit"`` has a function for ``("double_block", i)``, which gets the block's inputs (``img``,
``txt``, ``vec``, ``pe``, ``attn_mask``) and returns ``img`` and ``txt``. Here the chosen blocks are
computed in the open over the block's own layers, LoRA and quantisation included, with the graph
beside both streams:

    image, text: attention(-> text, image) + gate * attention(-> graph)
    graph:       attention(-> graph, text, image)

This is what :mod:`sgflux.bases.flux1.graph_block` computes over diffusers' blocks. The tokens begin
at the first chosen block and are gone after the last.

Shapes: B batch, S image tokens, L text tokens, G = 1 + 3 K graph tokens, D width, H heads, C head
width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

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
        mode: ``token`` or ``temb``.
        block_start: first chosen double block.
        block_end: one past the last.
        tokens_per_triple: graph tokens made of each triple.
        weights: the conditioner's, by the names in ``graph_conditioner.safetensors``.
    """

    mode: str
    block_start: int
    block_end: int
    tokens_per_triple: int
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Graph:
    """An encoded graph, of batch size 1; see ``sgflux.models.graph_encoder.GraphFeatures``."""

    local: Tensor
    mask: Tensor
    global_: Tensor
    words: Tensor | None


class GraphHooks:
    """The functions that take the chosen blocks' places.

    One forward pass of the model goes through them in order; the graph's tokens are kept between
    them, and dropped after the last.
    """

    def __init__(self, model: Any, part: GraphPart, graph: Graph, *, strength: float = 1.0) -> None:
        """Keep the parts.

        Args:
            model: ComfyUI's ``Flux`` (``model.model.diffusion_model`` of a MODEL).
            part: the adapter's.
            graph: Graph to draw.
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
        self._states: Tensor | None = None

    def hooks(self) -> dict[int, Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]]:
        """Double block -> the function in its place."""
        return {
            index: self._hook(index)
            for index in range(self._part.block_start, self._part.block_end)
        }

    def _hook(self, index: int) -> Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]:
        def replacement(args: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
            present = self._present(args)
            if self._part.mode == "temb":
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

    def _weight(self, name: str, like: Tensor) -> Tensor:
        return self._part.weights[name].to(like.device, torch.float32)

    def _normed(self, features: Tensor, norm: str, linear: str, like: Tensor) -> Tensor:
        features = features.to(like.device, torch.float32)
        with torch.autocast(like.device.type, enabled=False):
            normed = F.layer_norm(
                features,
                features.shape[-1:],
                self._weight(f"{norm}.weight", like),
                self._weight(f"{norm}.bias", like),
            )
            return F.linear(
                normed, self._weight(f"{linear}.weight", like), self._weight(f"{linear}.bias", like)
            )

    def _first_states(self, img: Tensor) -> Tensor:
        """[global, first triple's tokens ...], (1, G, D)."""
        graph, count = self._graph, self._part.tokens_per_triple
        local = graph.local.masked_fill(~graph.mask[..., None], 0.0)
        local = self._normed(local, "graph_local_norm", "graph_local_proj", img)
        local = local.unflatten(-1, (count, -1))
        if graph.words is not None and count == graph.words.shape[2]:
            # What the base itself makes of the statement's words; the rest is learned beside it.
            local = local + self._model.txt_in(graph.words.to(img)).float()
        global_ = self._normed(graph.global_, "graph_global_norm", "graph_global_proj", img)
        return torch.cat([global_[:, None], local.flatten(1, 2)], dim=1).to(img.dtype)

    def _mask(self, img: Tensor) -> Tensor:
        """Which graph tokens may be attended to, (1, 1, 1, G) bool; all where no triple is."""
        mask = self._graph.mask.to(img.device).repeat_interleave(
            self._part.tokens_per_triple, dim=1
        )
        mask = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        return (mask | ~self._graph.mask.to(img.device).any())[:, None, None, :]

    def _gate(self, name: str, index: int, present: Tensor) -> Tensor:
        gate = self._weight(name, present)[index - self._part.block_start]
        return self._strength * present * gate

    def _temb_shift(self, index: int, present: Tensor, vec: Tensor) -> Tensor:
        shift = self._normed(self._graph.global_, "graph_global_norm", "graph_global_to_temb", vec)
        gate = self._gate("gate_temb", index, present)[:, 0]
        return (gate * shift).to(vec.dtype)

    # -- a block with the graph beside its streams --------------------------------------------

    def _with_graph(self, index: int, args: Mapping[str, Any], present: Tensor) -> dict[str, Any]:
        block = self._model.double_blocks[index]
        img, txt, vec, pe = args["img"], args["txt"], args["vec"], args["pe"]
        if index == self._part.block_start:
            self._states = self._first_states(img).expand(img.shape[0], -1, -1)
        states = self._states
        if states is None:
            raise ValueError(f"double block {index} ran before block {self._part.block_start}")
        mask = self._mask(img)
        length = txt.shape[1]
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
        # At position 0 rotation changes nothing, as for the text.
        graph_q, graph_k, graph_v = _heads(
            block, block.txt_attn, _modulated(block.txt_norm1, states, txt_mod1)
        )

        # The base's own attention, and what the graph says to the same queries.
        attended = _attend(query, key, value, args.get("attn_mask"))
        told = _attend(query, graph_k, graph_v, mask)
        gate_text = self._gate("gate_text", index, present).to(told.dtype)
        gate_image = self._gate("gate_image", index, present).to(told.dtype)
        txt_attended = attended[:, :length] + gate_text * told[:, :length]
        img_attended = attended[:, length:] + gate_image * told[:, length:]
        img = img + img_mod1.gate * block.img_attn.proj(img_attended)
        img = img + img_mod2.gate * block.img_mlp(_modulated(block.img_norm2, img, img_mod2))
        new_txt = _updated(block, txt, txt_attended, txt_mod1, txt_mod2)

        # The graph tokens look at themselves, the text and the image, and move on.
        if index == self._part.block_end - 1:
            self._states = None
        else:
            seen = _attend(
                graph_q,
                torch.cat([graph_k, key], dim=2),
                torch.cat([graph_v, value], dim=2),
                F.pad(mask, (0, key.shape[2]), value=True),
            )
            self._states = _updated(block, states, seen, txt_mod1, txt_mod2)
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


def _updated(block: Any, states: Tensor, attended: Tensor, first: Any, second: Any) -> Tensor:
    """Gated residual and feed-forward of tokens on the block's text path."""
    states = states + first.gate * block.txt_attn.proj(attended)
    states = states + second.gate * block.txt_mlp(_modulated(block.txt_norm2, states, second))
    return states.clip(-65504, 65504) if states.dtype == torch.float16 else states

"""A map of a graph on the picture: what each image token learns of the objects whose boxes hold it.

Attention to graph tokens says which object an image token belongs to, but not which part of that
object it shows. The map says both: each image token gets a vector of every graph token in whose box
it lies, made of the token's features and of the image token's place within the box.

Shapes: B batch, K triples, S image tokens, H features of a part of a triple, W the map's width, D
inner width of the base, M chosen blocks.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.bases.base import Network, State
from sgflux.models.graph_encoder import GraphFeatures

MAP_WIDTH = 128
_RATES = (0.5, 1.0, 2.0, 4.0)
"""Waves over a box's side at which the place within the box is read."""


class BoxMap(nn.Module):
    """Features of image tokens from the boxes that hold them, and how strongly blocks take them."""

    def __init__(
        self,
        *,
        local_dim: int,
        inner_dim: int,
        blocks: int,
        device: torch.device | None = None,
    ) -> None:
        """Make it untrained: the gates are zero, so that it changes nothing yet.

        Args:
            local_dim: Width of :attr:`GraphFeatures.local`, 3 H.
            inner_dim: D.
            blocks: M.
            device: Device of the weights; None: torch's default.
        """
        super().__init__()
        options: dict[str, Any] = {"dtype": torch.float32, "device": device}
        with torch.random.fork_rng(devices=[]):
            self.norm = nn.LayerNorm(local_dim // 3, **options)
            self.token_in = nn.Linear(local_dim // 3, MAP_WIDTH, **options)
            self.place_in = nn.Linear(4 * len(_RATES) + 2, MAP_WIDTH, bias=False, **options)
            self.between = nn.Linear(MAP_WIDTH, MAP_WIDTH, bias=False, **options)
            self.out = nn.Linear(MAP_WIDTH, inner_dim, bias=False, **options)
        self.gate_map = nn.Parameter(torch.zeros(blocks, inner_dim, **options))

    def forward(self, graph: GraphFeatures, *, network: Network, state: State) -> Tensor | None:
        """What is added to the image stream before a block, but for that block's gate.

        The features of a graph token are weighted by the share of the image token's place that
        lies in its box, and summed. An image token outside all boxes gets zeros.

        Args:
            graph: Features of B graphs.
            network: Network of the base, which knows where its image tokens are.
            state: State before the first chosen block.

        Returns:
            (B, S, D) float32; None: no box of the batch is known.
        """
        if graph.regions is None or graph.placed is None:
            return None
        boxes, text = graph.regions.flatten(1, 2).float(), state.encoder_hidden_states.shape[1]
        share = network.coverage(state, boxes)[..., text:]
        share = share * graph.placed.flatten(1)[..., None]
        with torch.autocast(boxes.device.type, enabled=False):
            tokens = self.token_in(self.norm(graph.local.float().unflatten(-1, (3, -1))))
            places = self.place_in(place_features(network.image_places(state), boxes))
            parts = F.gelu(tokens.flatten(1, 2)[:, :, None] + places) * share[..., None]
            return self.out(F.gelu(self.between(parts.sum(dim=1))))

    def gated(self, painted: Tensor, number: int) -> Tensor:
        """What a chosen block takes of the map (B, S, D), by the block's number among the chosen.

        Returns:
            (B, S, D) float32.
        """
        return painted * self.gate_map[number]


def place_features(places: Tensor, boxes: Tensor) -> Tensor:
    """Places (S, 2) within boxes (B, G, 4) as sinusoids, and the boxes' sizes: (B, G, S, 18)."""
    sizes = boxes[..., None, 2:].clamp(min=1e-3)
    within = ((places - boxes[..., None, :2]) / sizes).clamp(-1, 1)
    angles = (2 * math.pi * within[..., None] * within.new_tensor(_RATES)).flatten(-2)
    scale = sizes.log().expand_as(within)
    return torch.cat([angles.sin(), angles.cos(), scale], dim=-1)

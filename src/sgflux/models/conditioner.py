"""The conditioner: from a graph's features to what the chosen blocks of a base take.

In ``token`` mode [global, local ...] become tokens, in ``temb`` mode gate * project(global) is
added to the blocks' timestep embedding. The weights are float32, whatever the base is in.

Shapes: B batch, G = 1 + K graph tokens, D inner width, M chosen blocks.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.bases.base import Network, State
from sgflux.errors import SgfluxError
from sgflux.models.box_map import BoxMap
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.settings.adapter import GraphMode

LEAST_COVERAGE = 1e-3
"""Weight of a graph token in the attention of image tokens that lie outside its box."""


class Conditioner(nn.Module):
    """Norms, projections and gates between a graph encoder and the chosen blocks."""

    def __init__(
        self,
        *,
        local_dim: int,
        global_dim: int,
        inner_dim: int,
        blocks: int,
        graph_mode: GraphMode = "token",
        tokens_per_triple: int = 3,
        box_map: bool = False,
        gate_init: float = 0.0,
        device: torch.device | None = None,
    ) -> None:
        """Make it untrained.

        Args:
            local_dim: Width of :attr:`GraphFeatures.local`.
            global_dim: Width of :attr:`GraphFeatures.global_`.
            inner_dim: D.
            blocks: M.
            graph_mode: ``token`` or ``temb``.
            tokens_per_triple: Number of graph tokens made of each local row (in token mode). Three
                leave the roles apart: a word of the prompt finds its own subject or object among
                the keys.
            box_map: Also add a :class:`~sgflux.models.box_map.BoxMap` to the image stream (in token
                mode).
            gate_init: Initial value of the gates; anything but 0 gives up the identity.
            device: Device of the weights; None: torch's default.

        Raises:
            SgfluxError: if the mode is unknown, or there are no tokens.
        """
        super().__init__()
        if graph_mode not in ("token", "temb"):
            raise SgfluxError(f"graph_mode must be 'token' or 'temb', got {graph_mode!r}")
        if tokens_per_triple < 1:
            raise SgfluxError(f"tokens_per_triple must be >= 1, got {tokens_per_triple}")
        self.blocks, self.graph_mode = blocks, graph_mode
        self.local_dim, self.global_dim = local_dim, global_dim
        self.tokens_per_triple = tokens_per_triple
        options: dict[str, Any] = {"dtype": torch.float32, "device": device}
        self.graph_global_norm = nn.LayerNorm(global_dim, **options)

        def gate() -> nn.Parameter:
            return nn.Parameter(torch.full((blocks, inner_dim), gate_init, **options))

        if graph_mode == "token":
            self.graph_local_norm = nn.LayerNorm(local_dim, **options)
            self.graph_local_proj = nn.Linear(local_dim, tokens_per_triple * inner_dim, **options)
            self.graph_global_proj = nn.Linear(global_dim, inner_dim, **options)
            self.gate_image, self.gate_text = gate(), gate()
            self.box_map = (
                BoxMap(local_dim=local_dim, inner_dim=inner_dim, blocks=blocks, device=device)
                if box_map
                else None
            )
        else:
            self.graph_global_to_temb = nn.Linear(global_dim, inner_dim, **options)
            self.gate_temb = gate()

    def check(self, graph: GraphFeatures, *, batch: int) -> None:
        """Check the shapes of a graph's features.

        Raises:
            ValueError: naming the feature that does not fit the batch or the conditioner.
        """
        rows, triples = graph.mask.shape
        expected = {
            "local": (graph.local, (batch, triples, self.local_dim)),
            "mask": (graph.mask, (batch, triples)),
            "global_": (graph.global_, (batch, self.global_dim)),
        }
        for name, (tensor, shape) in expected.items():
            if tensor.shape != shape:
                raise ValueError(
                    f"graph.{name} is {tuple(tensor.shape)}, expected {shape} for a batch of "
                    f"{batch} and a mask of {rows} by {triples}"
                )

    def tokens(
        self, graph: GraphFeatures, *, network: Network, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """[global, first triple's tokens ...] before the first chosen block, and their mask.

        Returns:
            Tokens (B, G, D), and which of them may be attended to, (B, 1, 1, G) bool. All of a null
            graph's tokens may be, so that no softmax is empty; its gates are zero.
        """
        present = graph.present
        local = graph.local.float().masked_fill(~graph.mask[..., None], 0.0)
        with torch.autocast(local.device.type, enabled=False):
            local = self.graph_local_proj(self.graph_local_norm(local))
            global_ = self.graph_global_proj(self._normed_global(graph))
        count = self.tokens_per_triple
        local = local.unflatten(-1, (count, -1))
        if graph.words is not None and count == graph.words.shape[2]:
            # What the base itself makes of the statement's words; the rest is learned beside it.
            local = local + network.embed_words(graph.words).float()
        states = torch.cat([global_[:, None], local.flatten(1, 2)], dim=1).to(dtype)
        mask = graph.mask.repeat_interleave(count, dim=1)
        mask = torch.cat([torch.ones_like(present[:, None]), mask], dim=1)
        return states, (mask | ~present[:, None])[:, None, None, :]

    def places(self, graph: GraphFeatures) -> tuple[Tensor, Tensor] | None:
        """Where the tokens of :meth:`tokens` are in the picture; None: none is anywhere.

        Returns:
            Centers (x, y) in shares of the picture's sides, (B, G, 2), and which tokens have one,
            (B, G) bool. The global token has none.
        """
        if graph.centers is None or graph.placed is None:
            return None
        return F.pad(graph.centers.flatten(1, 2), (0, 0, 1, 0)), F.pad(
            graph.placed.flatten(1), (1, 0)
        )

    def attention_bias(
        self, graph: GraphFeatures, *, network: Network, state: State
    ) -> Tensor | None:
        """What is added to the scores of the attention to the tokens of :meth:`tokens`.

        It is the logarithm of the share of an image token's place that lies in the graph token's
        box, so that a softmax weights the graph token by that share. Outside the box the share
        counts as :data:`LEAST_COVERAGE`. The global token and those without a box are everywhere,
        and so are all for a text token.

        Returns:
            (B, G, L + S) float32; None: there are no regions.
        """
        if graph.regions is None or graph.placed is None:
            return None
        share = network.coverage(state, graph.regions.flatten(1, 2)).clamp(min=LEAST_COVERAGE)
        bias = share.log().masked_fill(~graph.placed.flatten(1)[..., None], 0.0)
        return F.pad(bias, (0, 0, 1, 0))

    def tembs(self, graph: GraphFeatures, temb: Tensor) -> list[Tensor]:
        """A timestep embedding for each chosen block, M of (B, D)."""
        with torch.autocast(temb.device.type, enabled=False):
            shift = self.graph_global_to_temb(self._normed_global(graph))
            shifts = graph.present[:, None] * shift * self.gate_temb[:, None]
        return [temb + shift for shift in shifts.to(temb.dtype)]

    def _normed_global(self, graph: GraphFeatures) -> Tensor:
        """Global features in float32; those of no graph are zero before the norm."""
        return self.graph_global_norm(
            graph.global_.float().masked_fill(~graph.present[:, None], 0.0)
        )

"""A layout of a graph: a network that samples a box for each object, by flow matching.

A box is four numbers, (center x, center y, width, height), brought to about unit variance. Noise
and box are joined by straight lines, as the latents of pictures are (sigma = 1 is noise, sigma = 0
the boxes, velocity = noise - boxes), and a few Euler steps lead from the noise of a seed to boxes.
All boxes of a graph are sampled together, by message passing over its triples.

Shapes: B graphs; N nodes and K triples of the largest graph; D_text the features of a name, H the
predictor's width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sgflux.data.boxes import Box, Layout
from sgflux.flow_matching import denoised, noise_latents, velocity_target
from sgflux.models.message_passing import GraphBatch, TripleLayer, masked_mean, number_features

LAYOUT_STEPS = 8
"""Number of Euler steps from noise to boxes."""

LAYOUT_CANDIDATES = 8
"""Number of layouts that are sampled for a picture, of which the one is used that obeys most."""

LAYOUT_DRAWS = 4
"""Number of noise levels at which the boxes of an example are learned in one step: a graph costs
little, beside a picture."""

_MEAN, _SPREAD = (0.5, 0.5, 0.4, 0.4), 0.25
_LEAST = 0.02  # of the picture, below which no side of a sampled box lies


class LayoutPredictor(nn.Module):
    """Velocities of noisy boxes under the graphs that they belong to."""

    def __init__(self, *, text_dim: int, hidden_dim: int = 128, layers: int = 4) -> None:
        """Build it untrained, with random weights aside from torch's global generator.

        Args:
            text_dim: D_text.
            hidden_dim: H, even.
            layers: Number of rounds of messages; a chain of so many statements is seen as a whole.
        """
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.text_norm = nn.LayerNorm(text_dim)
            self.node_in = nn.Linear(text_dim, hidden_dim)
            self.edge_in = nn.Linear(text_dim, hidden_dim)
            self.number_in = nn.Linear(hidden_dim, hidden_dim, bias=False)
            self.box_in = nn.Linear(4, hidden_dim)
            self.sigma_in = nn.Linear(hidden_dim, hidden_dim)
            self.layers = nn.ModuleList(TripleLayer(hidden_dim) for _ in range(layers))
            self.from_all = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(layers))
            self.out = nn.Sequential(
                nn.LayerNorm(hidden_dim),
                nn.Linear(hidden_dim, hidden_dim),
                nn.GELU(),
                nn.Linear(hidden_dim, 4),
            )

    def forward(self, batch: GraphBatch, boxes: Tensor, sigma: Tensor) -> Tensor:
        """The velocity of noisy boxes, (B, N, 4) float32.

        Args:
            batch: B graphs.
            boxes: Noisy boxes, (B, N, 4) float32.
            sigma: Noise levels in [0, 1], (B,) float32.
        """
        dim = self.sigma_in.out_features
        nodes = self.node_in(self.text_norm(batch.nodes)) + self.box_in(boxes)
        nodes = nodes + self.number_in(number_features(batch.number, dim))
        nodes = nodes + self.sigma_in(number_features(10 * sigma[:, None], dim))
        edges = self.edge_in(self.text_norm(batch.edges))
        for layer, from_all in zip(self.layers, self.from_all, strict=True):
            nodes, edges = layer(nodes, edges, batch)
            nodes = nodes + from_all(masked_mean(nodes, batch.node_mask))[:, None]
        return self.out(nodes)

    def errors(
        self, batch: GraphBatch, boxes: Tensor, known: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The flow-matching error of each known box, and the overlap of its one-step estimate.

            L = mean[ (velocity(z_sigma, sigma, graph) - (noise - z))^2 ],   sigma ~ U(0, 1)

        Args:
            batch: B graphs.
            boxes: True boxes (center x, center y, width, height) in shares of the picture,
                (B, N, 4).
            known: True where there is a box, (B, N) bool; the other boxes are pure noise.
            generator: Source of noise and sigma, on the CPU.

        Returns:
            Errors of the n known boxes at :data:`LAYOUT_DRAWS` noise levels each, (n * draws,)
            float32, and the intersection over union of each with the box z_sigma - sigma *
            velocity, (n * draws,) without gradient.

        Source:
            Lipman et al. 2022, arXiv:2210.02747, Eq. 23, with rectified flow's straight lines (Liu
            et al. 2022, arXiv:2209.03003, Eq. 1).
        """
        batch = batch.repeated(LAYOUT_DRAWS)
        boxes, known = boxes.repeat(LAYOUT_DRAWS, 1, 1), known.repeat(LAYOUT_DRAWS, 1)
        noise = torch.randn(boxes.shape, generator=generator).to(boxes.device)
        sigma = torch.rand(len(boxes), generator=generator).to(boxes.device)
        with torch.autocast(boxes.device.type, enabled=False):
            true = _scaled(boxes)
            noisy = noise_latents(true, noise, sigma)
            noisy = torch.where(known[..., None], noisy, noise)
            velocity = self(batch, noisy, sigma)
            errors = (velocity - velocity_target(true, noise)).square().mean(dim=-1)
            estimate = _unscaled(denoised(noisy, velocity.detach(), sigma))
        return errors[known], _overlaps(estimate[known], boxes[known])

    @torch.no_grad()
    def sample(
        self,
        batch: GraphBatch,
        seeds: Sequence[int],
        *,
        steps: int = LAYOUT_STEPS,
        candidates: int = 1,
    ) -> list[list[Layout]]:
        """Layouts of B graphs, some candidates of each, which follow from graph and seed.

        Args:
            batch: B graphs.
            seeds: Seed of each graph's noise, which is another one than a picture's of this seed.
            steps: Number of Euler steps.
            candidates: Number of layouts of each graph.
        """
        counts = batch.node_mask.sum(dim=1).tolist()
        boxes = torch.zeros(candidates, *batch.node_mask.shape, 4)
        for number in range(candidates):
            for row, (seed, count) in enumerate(zip(seeds, counts, strict=True)):
                boxes[number, row, :count] = _noise(f"layout/{seed}", number, count)
        boxes = boxes.flatten(0, 1).to(batch.nodes.device)
        batch = batch.repeated(candidates)
        with torch.autocast(boxes.device.type, enabled=False):
            for step in range(steps):
                sigma = boxes.new_full((len(boxes),), 1 - step / steps)
                boxes = boxes - self(batch, boxes, sigma) / steps
        found = _unscaled(boxes).unflatten(0, (candidates, -1)).transpose(0, 1).cpu().tolist()
        return [
            [
                tuple(Box.from_center((x, y), width, height) for x, y, width, height in one[:count])
                for one in own
            ]
            for own, count in zip(found, counts, strict=True)
        ]


def _noise(name: str, number: int, count: int) -> Tensor:
    """The noise of a candidate's boxes, (count, 4)."""
    key = name if number == 0 else f"{name}/{number}"
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def _scaled(boxes: Tensor) -> Tensor:
    return (boxes - boxes.new_tensor(_MEAN)) / _SPREAD


def _unscaled(scaled: Tensor) -> Tensor:
    """Boxes (..., 4) whose centers are in the picture and whose sides are not beyond it."""
    boxes = scaled * _SPREAD + scaled.new_tensor(_MEAN)
    return torch.cat([boxes[..., :2].clamp(0, 1), boxes[..., 2:].clamp(_LEAST, 1)], dim=-1)


def _overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of n pairs of boxes, (n, 4) each."""
    starts = torch.maximum(*(boxes[:, :2] - boxes[:, 2:] / 2 for boxes in (one, other)))
    ends = torch.minimum(*(boxes[:, :2] + boxes[:, 2:] / 2 for boxes in (one, other)))
    shared = (ends - starts).clamp(min=0).prod(dim=1)
    return shared / (one[:, 2:].prod(dim=1) + other[:, 2:].prod(dim=1) - shared)

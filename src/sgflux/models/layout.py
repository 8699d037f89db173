"""A layout of a graph: a network that samples a box for each object, by flow matching.

A box is four numbers, (center x, center y, width, height), brought to about unit variance. Noise
and box are joined by straight lines, as the latents of pictures are (sigma = 1 is noise, sigma = 0
the boxes, velocity = noise - boxes), and a few Euler steps lead from the noise of a seed to boxes.
All boxes of a graph are sampled together, by message passing over its triples and attention among
its objects, so that those that no triple joins do not fall on one place.

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
from sgflux.models.message_passing import (
    GraphBatch,
    NodeLayer,
    TripleLayer,
    masked_mean,
    number_features,
)

LAYOUT_STEPS = 16
"""Number of Euler steps from noise to boxes."""

LAYOUT_CANDIDATES = 32
"""Number of layouts that are sampled for a picture, of which one is chosen."""

_CHECKED_LEVELS = (0.1, 0.1, 0.2, 0.2, 0.35, 0.35, 0.5, 0.5, 0.7, 0.7)
"""Noise levels at which candidates are compared."""

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
            hidden_dim: H, a multiple of 4.
            layers: Number of rounds of messages, each followed by attention among the objects.
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
            self.among_all = nn.ModuleList(NodeLayer(hidden_dim) for _ in range(layers))
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
        for layer, among_all in zip(self.layers, self.among_all, strict=True):
            nodes, edges = layer(nodes, edges, batch)
            nodes = among_all(nodes, batch.node_mask)
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
        candidates: int = LAYOUT_CANDIDATES,
    ) -> list[Layout]:
        """A layout of each of B graphs, which follows from graph and seed.

        Of some candidates the one with the least sum of two numbers is taken: its flow-matching
        error under its own graph, which is an estimate of how likely the predictor holds it to be,
        and the overlap of objects that no triple joins, because two objects in one place are seldom
        both drawn.

        Args:
            batch: B graphs.
            seeds: Seed of each graph's noise, which is another one than a picture's of this seed.
            steps: Number of Euler steps.
            candidates: Number of layouts that are sampled of each graph.

        Source:
            Li et al. 2023, arXiv:2303.16203, Eq. 6, where the error chooses among conditions.
        """
        counts = batch.node_mask.sum(dim=1).tolist()
        boxes = torch.cat(
            [
                _noise([f"layout/{seed}/{number}" for seed in seeds], batch)
                for number in range(candidates)
            ]
        )
        several = batch.repeated(candidates)
        with torch.autocast(boxes.device.type, enabled=False):
            for step in range(steps):
                sigma = boxes.new_full((len(boxes),), 1 - step / steps)
                boxes = boxes - self(several, boxes, sigma) / steps
            found = _unscaled(boxes)
            costs = self._own_errors(batch, several, found) + unrelated_overlap(several, found)
        best = costs.view(candidates, -1).argmin(dim=0).tolist()
        layouts = found.view(candidates, *batch.node_mask.shape, 4).cpu().tolist()
        return [
            tuple(
                Box.from_center((x, y), width, height)
                for x, y, width, height in layouts[number][row][:count]
            )
            for row, (number, count) in enumerate(zip(best, counts, strict=True))
        ]

    def _own_errors(self, batch: GraphBatch, several: GraphBatch, boxes: Tensor) -> Tensor:
        """Flow-matching error of C layouts of each of B graphs, (C * B,).

        It is the mean over the boxes and over :data:`_CHECKED_LEVELS`. All layouts of a graph have
        the same noise.

        Args:
            batch: B graphs.
            several: The graphs C times.
            boxes: The layouts, (C * B, N, 4).
        """
        graphs = len(batch.node_mask)
        clean, mask = _scaled(boxes), several.node_mask
        total = boxes.new_zeros(len(boxes))
        for number, level in enumerate(_CHECKED_LEVELS):
            noise = _noise([f"layout error/{number}"] * graphs, batch)
            noise = noise.repeat(len(boxes) // graphs, 1, 1)
            sigma = boxes.new_full((len(boxes),), level)
            velocity = self(several, noise_latents(clean, noise, sigma), sigma)
            errors = (velocity - velocity_target(clean, noise)).square().mean(dim=-1)
            total += masked_mean(errors[..., None], mask)[:, 0]
        return total / len(_CHECKED_LEVELS)


def unrelated_overlap(batch: GraphBatch, boxes: Tensor) -> Tensor:
    """How far objects that no triple joins lie on each other, (B,) float32.

    It is the sum over the pairs of such objects of their boxes' common area, as a share of the
    smaller one's area. Objects that a triple joins may overlap: a hat lies on the man who wears it.

    Args:
        batch: B graphs.
        boxes: Boxes (center x, center y, width, height), (B, N, 4) float32.
    """
    areas = boxes[..., 2:].prod(dim=-1)
    smaller = torch.minimum(areas[:, :, None], areas[:, None])
    shares = _shared_area(boxes[:, :, None], boxes[:, None]) / smaller
    joined = torch.einsum("bkn,bkm->bnm", batch.subject, batch.object)
    pairs = batch.node_mask[:, :, None] & batch.node_mask[:, None]
    unrelated = pairs & (joined + joined.mT == 0)
    return torch.where(unrelated, shares, 0.0).triu(diagonal=1).sum(dim=(1, 2))


def _noise(names: Sequence[str], batch: GraphBatch) -> Tensor:
    """Noise of B graphs' boxes, which follows from each one's name, (B, N, 4); 0 for padding."""
    counts = batch.node_mask.sum(dim=1).tolist()
    noise = torch.zeros(*batch.node_mask.shape, 4)
    for row, (name, count) in enumerate(zip(names, counts, strict=True)):
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
        own = torch.Generator().manual_seed(seed)
        noise[row, :count] = torch.randn(count, 4, generator=own)
    return noise.to(batch.nodes.device)


def _scaled(boxes: Tensor) -> Tensor:
    return (boxes - boxes.new_tensor(_MEAN)) / _SPREAD


def _unscaled(scaled: Tensor) -> Tensor:
    """Boxes (..., 4) whose centers are in the picture and whose sides are not beyond it."""
    boxes = scaled * _SPREAD + scaled.new_tensor(_MEAN)
    return torch.cat([boxes[..., :2].clamp(0, 1), boxes[..., 2:].clamp(_LEAST, 1)], dim=-1)


def _overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Intersection over union of n pairs of boxes, (n, 4) each."""
    shared = _shared_area(one, other)
    return shared / (one[:, 2:].prod(dim=1) + other[:, 2:].prod(dim=1) - shared)


def _shared_area(one: Tensor, other: Tensor) -> Tensor:
    """Area that pairs of boxes have in common; the boxes (..., 4) are broadcast."""
    starts = torch.maximum(*(boxes[..., :2] - boxes[..., 2:] / 2 for boxes in (one, other)))
    ends = torch.minimum(*(boxes[..., :2] + boxes[..., 2:] / 2 for boxes in (one, other)))
    return (ends - starts).clamp(min=0).prod(dim=-1)

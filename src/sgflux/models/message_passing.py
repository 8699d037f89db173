"""Message passing over a graph's triples: graphs as index tensors, and one round of messages.

Shapes: B graphs; N nodes and K triples of the largest graph, at least 1; D_text the features of a
name, H the width of the layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GraphBatch:
    """B graphs as index tensors, padded to the largest.

    Attributes:
        nodes: D_text features of the nodes' names, (B, N, D_text).
        number: 0 for the first node of a name in its graph, 1 for the second ..., (B, N).
        node_mask: (B, N) bool.
        edges: features of the predicates, (B, K, D_text).
        rank: a triple's place in its graph's reading order, from 0, (B, K).
        words: Features of subject, predicate and object in their statement, (B, K, 3, D_text).
        edge_mask: (B, K) bool.
        subject: one-hot over the nodes, zero for padding, (B, K, N).
        object: likewise.
    """

    nodes: Tensor
    number: Tensor
    node_mask: Tensor
    edges: Tensor
    rank: Tensor
    words: Tensor
    edge_mask: Tensor
    subject: Tensor
    object: Tensor

    def repeated(self, times: int) -> GraphBatch:
        """The B graphs again and again, ``times * B``."""
        return GraphBatch(
            **{
                name: part.repeat(times, *(1 for _ in part.shape[1:]))
                for name, part in vars(self).items()
            }
        )


class TripleLayer(nn.Module):
    """Each triple reads its subject, predicate and object, and writes to all three.

    A node takes the mean over its triples, by role, so that it learns whether it rides or is
    ridden. Pre-norm residual updates.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.node_norm = nn.LayerNorm(dim)
        self.edge_norm = nn.LayerNorm(dim)
        self.message = nn.Sequential(nn.Linear(3 * dim, 2 * dim), nn.GELU())
        self.to_edge = nn.Linear(2 * dim, dim)
        self.to_subject = nn.Linear(2 * dim, dim)
        self.to_object = nn.Linear(2 * dim, dim)

    def forward(self, nodes: Tensor, edges: Tensor, batch: GraphBatch) -> tuple[Tensor, Tensor]:
        """(B, N, H) and (B, K, H) -> the same shapes."""
        normed = self.node_norm(nodes)
        message = self.message(
            torch.cat(
                [batch.subject @ normed, self.edge_norm(edges), batch.object @ normed], dim=-1
            )
        )
        # Padded edges have all-zero rows in both incidence matrices and reach no node.
        inbox = batch.subject.mT @ self.to_subject(message)
        inbox = inbox + batch.object.mT @ self.to_object(message)
        degree = (batch.subject + batch.object).sum(dim=1).clamp(min=1)
        return nodes + inbox / degree[..., None], edges + self.to_edge(message)


class NodeLayer(nn.Module):
    """Each node attends to all nodes of its graph, also to those that no triple joins it to.

    Pre-norm residual updates.
    """

    def __init__(self, dim: int, *, heads: int = 4) -> None:
        """``dim`` is a multiple of ``heads``."""
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.change = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(self, nodes: Tensor, mask: Tensor) -> Tensor:
        """(B, N, H) -> the same shape; nodes outside of the mask (B, N) are not attended to."""
        # A graph without nodes attends to its padding: attention to nothing is not a number.
        padding = ~mask & mask.any(dim=1, keepdim=True)
        normed = self.norm(nodes)
        found, _ = self.attention(
            normed, normed, normed, key_padding_mask=padding, need_weights=False
        )
        nodes = nodes + found
        return nodes + self.change(nodes)


def prefix_mask(lengths: list[int], size: int) -> Tensor:
    """(B, size) bool, the first ``lengths[b]`` of each row set."""
    return torch.arange(size)[None, :] < torch.tensor(lengths, dtype=torch.int64)[:, None]


def masked_mean(rows: Tensor, mask: Tensor) -> Tensor:
    """Mean of the masked rows of (B, n, H), (B, H); zero where there is none."""
    total = rows.masked_fill(~mask[..., None], 0.0).sum(dim=1)
    return total / mask.sum(dim=1, keepdim=True).clamp(min=1)


def number_features(number: Tensor, dim: int) -> Tensor:
    """Sinusoids of numbers, (B, n) -> (B, n, dim); exactly zero for number 0."""
    half = dim // 2
    rates = torch.exp(-math.log(100.0) * torch.arange(half, device=number.device) / half)
    angles = number[..., None] * rates
    return torch.cat([angles.sin(), 1 - angles.cos()], dim=-1)

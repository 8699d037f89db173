"""From scene graphs to features: the protocol, and an encoder that knows any word.

Shapes: B graphs; N nodes and K triples of the largest graph, at least 1; D_text the features of a
name, H the encoder's width. Everything is float32, also under autocast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.data.boxes import Layout
from sgflux.data.reading_order import reading_order
from sgflux.errors import SgfluxError
from sgflux.graphs.names import names_in_context, plain_name
from sgflux.graphs.predicates import (
    DEFAULT_VOCABULARY,
    PredicateVocabulary,
)
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.message_passing import (
    GraphBatch,
    TripleLayer,
    masked_mean,
    number_features,
    prefix_mask,
)
from sgflux.models.name_features import NameFeatures

if TYPE_CHECKING:
    from sgflux.models.layout import LayoutPredictor

BOX_RATES = 6
"""Number of frequencies at which each number of a box is read, from half a wave in the picture."""


@dataclass(frozen=True, eq=False)
class GraphFeatures:
    """What a graph encoder gives for B graphs.

    Attributes:
        local: one row a triple, (B, K, D_local).
        mask: True at the real rows, (B, K) bool. A null graph has none, and contributes nothing.
        global_: one vector a graph, (B, D_global).
        words: text-encoder features of subject, predicate and object as each triple's statement
            has them, (B, K, 3, D_text); None: the encoder has none.
        centers: Centers (x, y) of the boxes of subject, predicate and object in shares of the
            picture's sides, (B, K, 3, 2); None: the graph tokens are at no place. The center of
            the predicate is the middle between the two others.
        regions: Boxes (center x, center y, width, height) of subject, predicate and object,
            (B, K, 3, 4); the predicate's encloses the two others. Image tokens attend to each of
            these tokens as far as they lie in its box. None: wherever they lie.
        placed: True where the box is known, (B, K, 3) bool; None without centers and regions.
    """

    local: Tensor
    mask: Tensor
    global_: Tensor
    words: Tensor | None = None
    centers: Tensor | None = None
    regions: Tensor | None = None
    placed: Tensor | None = None

    @property
    def present(self) -> Tensor:
        """Which graphs are not null, (B,) bool."""
        return self.mask.any(dim=1)


class GraphEncoder(Protocol):
    """Reads scene graphs; ``nn.Module`` implementations are trained with the adapter."""

    local_dim: int
    global_dim: int

    def __call__(self, graphs: Sequence[SceneGraph]) -> GraphFeatures:
        """Features of B graphs, float32."""

    def config(self) -> dict[str, Any]:
        """What it takes to build the same one again, as JSON; ``kind`` names the class."""


def box_tensors(layouts: Sequence[Layout | None], nodes: int) -> tuple[Tensor, Tensor]:
    """B layouts as (center x, center y, width, height), and which boxes are known.

    Args:
        layouts: Box of each object of B graphs; None: none of a graph is known.
        nodes: N.

    Returns:
        (B, N, 4) float32 in shares of the picture's sides, zero where a box is unknown, and
        (B, N) bool.
    """
    boxes = [[[0.0] * 4 for _ in range(nodes)] for _ in layouts]
    known = [[False] * nodes for _ in layouts]
    for row, layout in enumerate(layouts):
        for node, box in enumerate(layout or ()):
            if box is not None:
                boxes[row][node] = [*box.center, box.width, box.height]
                known[row][node] = True
    shape = len(layouts), nodes
    return torch.tensor(boxes).view(*shape, 4), torch.tensor(known, dtype=torch.bool).view(shape)


class NativeGraphEncoder(nn.Module):
    """Message passing over triples whose words enter as text-encoder features.

    Open vocabulary, any number of triples, direction kept: a local row is
    [subject ‖ predicate ‖ object], each part in the light of the others. Equal names in one graph
    are different nodes, told apart by their number. Triples are numbered in reading order, in
    which texts state them: a picture takes shape in one layout of several, and which one must be
    known before anything is to be seen. Beside them go the text encoder's own features of every
    triple's statement.

    It may read a box of each object, give the triples the places of these boxes, limit the image's
    attention to them, and have a predictor of boxes; each is a setting of its own.
    """

    def __init__(
        self,
        *,
        name_features: NameFeatures,
        text_dim: int,
        hidden_dim: int = 256,
        layers: int = 2,
        number_triples: bool = True,
        read_boxes: bool = False,
        box_positions: bool = False,
        box_attention: bool = False,
        box_map: bool = False,
        layout: LayoutPredictor | None = None,
        vocabulary: PredicateVocabulary = DEFAULT_VOCABULARY,
    ) -> None:
        """Build it untrained.

        What boxes need is drawn aside from torch's global generator, so that all other weights are
        those of an encoder without boxes.

        Args:
            name_features: Source of the names' features; no part of the module's state.
            text_dim: D_text.
            hidden_dim: H; ``local_dim`` is 3 H, ``global_dim`` is H. Even.
            layers: rounds of messages, >= 1.
            number_triples: Number the triples in reading order; else their order is not encoded.
            read_boxes: Add features of an object's box to its node, from zero-initialised weights.
            box_positions: Give each triple the places of its objects' boxes.
            box_attention: Give each triple the regions of its objects' boxes.
            box_map: Say in :meth:`config` that the adapter draws a map of these regions, too.
            layout: Predictor of boxes; None: there is none.
            vocabulary: makes predicates canonical; other words are taken as they are.

        Raises:
            SgfluxError: if a size is impossible or the features are not ``text_dim`` wide.
        """
        super().__init__()
        if hidden_dim < 2 or hidden_dim % 2 or layers < 1:
            raise SgfluxError(
                "the graph encoder needs an even hidden_dim of at least 2 and at least 1 layer, "
                f"got hidden_dim {hidden_dim} and layers {layers}"
            )
        if name_features.dim != text_dim:
            raise SgfluxError(
                f"the graph encoder reads text features of width {text_dim}, "
                f"the name features have {name_features.dim}"
            )
        self.local_dim, self.global_dim = 3 * hidden_dim, hidden_dim
        self.text_dim = text_dim
        self._names = name_features
        self._vocabulary = vocabulary
        self.text_norm = nn.LayerNorm(text_dim)
        self.node_in = nn.Linear(text_dim, hidden_dim)
        self.edge_in = nn.Linear(text_dim, hidden_dim)
        self.number_in = nn.Linear(hidden_dim, hidden_dim, bias=False)
        self.rank_in = nn.Linear(hidden_dim, hidden_dim, bias=False) if number_triples else None
        self.layers = nn.ModuleList(TripleLayer(hidden_dim) for _ in range(layers))
        self.node_norm = nn.LayerNorm(hidden_dim)
        self.edge_norm = nn.LayerNorm(hidden_dim)
        self.fuse = nn.Sequential(
            nn.Linear(3 * hidden_dim, 2 * hidden_dim),
            nn.GELU(),
            nn.Linear(2 * hidden_dim, 3 * hidden_dim),
        )
        self.pool = nn.Linear(4 * hidden_dim, hidden_dim)
        self.box_positions, self.box_attention, self.layout = box_positions, box_attention, layout
        self.box_map = box_map
        self.box_in: nn.Linear | None = None
        if read_boxes:
            with torch.random.fork_rng(devices=[]):
                self.box_in = nn.Linear(8 * BOX_RATES, hidden_dim, bias=False)
            nn.init.zeros_(self.box_in.weight)

    @property
    def takes_layouts(self) -> bool:
        """Whether boxes have an effect on the features."""
        return self.box_in is not None or self.box_positions or self.box_attention

    def config(self) -> dict[str, Any]:
        """See :class:`GraphEncoder`."""
        return {
            "kind": "native",
            "text_dim": self.text_dim,
            "hidden_dim": self.global_dim,
            "layers": len(self.layers),
            "number_triples": self.rank_in is not None,
            # An adapter without boxes has the settings of one from before there were any.
            **({"read_boxes": True} if self.box_in is not None else {}),
            **({"box_positions": True} if self.box_positions else {}),
            **({"box_attention": True} if self.box_attention else {}),
            **({"box_map": True} if self.box_map else {}),
            **({"predict_layout": True} if self.layout is not None else {}),
        }

    def forward(
        self, graphs: Sequence[SceneGraph], layouts: Sequence[Layout | None] | None = None
    ) -> GraphFeatures:
        """Features of B graphs; a graph has the same ones alone and in a batch.

        Args:
            graphs: B graphs.
            layouts: Boxes of the objects of each graph, as far as they are known; None: of none.

        Raises:
            SgfluxError: if a word has no features, or there are boxes that would have no effect.
            ValueError: if the boxes are not those of the graphs' objects.
        """
        device = self.pool.weight.device
        layouts = [None] * len(graphs) if layouts is None else layouts
        self._check(graphs, layouts)
        with torch.autocast(device.type, enabled=False):
            batch = self.batch(graphs, device)
            given = box_tensors(layouts, batch.node_mask.shape[1])
            boxes, known = (part.to(device) for part in given)
            nodes = self.node_in(self.text_norm(batch.nodes))
            nodes = nodes + self.number_in(number_features(batch.number, self.global_dim))
            edges = self.edge_in(self.text_norm(batch.edges))
            if self.box_in is not None:
                nodes = nodes + known[..., None] * self.box_in(_box_features(boxes))
            if self.rank_in is not None:
                edges = edges + self.rank_in(number_features(batch.rank, self.global_dim))
            for layer in self.layers:
                nodes, edges = layer(nodes, edges, batch)
            nodes, edges = self.node_norm(nodes), self.edge_norm(edges)
            local = torch.cat([batch.subject @ nodes, edges, batch.object @ nodes], dim=-1)
            local = local + self.fuse(local)
            local = local.masked_fill(~batch.edge_mask[..., None], 0.0)
            pooled = torch.cat(
                [masked_mean(nodes, batch.node_mask), masked_mean(local, batch.edge_mask)], dim=-1
            )
            present = batch.edge_mask.any(dim=1, keepdim=True)
            global_ = self.pool(pooled).masked_fill(~present, 0.0)
            centers = regions = placed = None
            if (self.box_positions or self.box_attention) and given[1].any():
                placed = _placed(known, batch)
                centers = _centers(boxes, batch) if self.box_positions else None
                regions = _regions(boxes, batch) if self.box_attention else None
        return GraphFeatures(
            local=local,
            mask=batch.edge_mask,
            global_=global_,
            words=batch.words,
            centers=centers,
            regions=regions,
            placed=placed,
        )

    def _check(self, graphs: Sequence[SceneGraph], layouts: Sequence[Layout | None]) -> None:
        for graph, layout in zip(graphs, layouts, strict=True):
            if layout is None:
                continue
            if not self.takes_layouts:
                raise SgfluxError(
                    "the adapter reads no boxes, so that they have no effect; leave them out, or "
                    "train one with --read-boxes, --box-positions or --box-attention"
                )
            if len(layout) != len(graph.objects):
                raise ValueError(f"{len(layout)} boxes for {len(graph.objects)} objects")

    def batch(self, graphs: Sequence[SceneGraph], device: torch.device) -> GraphBatch:
        """The graphs as tensors on a device.

        Raises:
            SgfluxError: if a word has no features.
        """
        count = len(graphs)
        most_nodes = max([1, *(len(graph.objects) for graph in graphs)])
        most_edges = max([1, *(len(graph.relationships) for graph in graphs)])
        node_words: list[str] = []
        edge_words: list[str] = []
        stated: list[str] = []
        numbers = [[0] * most_nodes for _ in graphs]
        ranks = [[0] * most_edges for _ in graphs]
        # Index most_nodes is no node: its one-hot column is cut off below.
        ends = [[[most_nodes] * most_edges for _ in graphs] for _ in range(2)]
        for row, graph in enumerate(graphs):
            seen: dict[str, int] = {}
            objects = list(map(plain_name, graph.objects))
            for node, name in enumerate(objects):
                numbers[row][node] = seen[name] = seen.get(name, -1) + 1
                node_words.append(name)
            for rank, edge in enumerate(reading_order(graph, self._vocabulary)):
                ranks[row][edge] = rank
            for edge, (subject, predicate, object_) in enumerate(graph.relationships):
                ends[0][row][edge], ends[1][row][edge] = subject, object_
                edge_words.append(self._vocabulary.normalize(predicate))
                stated += names_in_context(objects[subject], edge_words[-1], objects[object_])
        words = list(dict.fromkeys([*node_words, *edge_words, *stated]))
        place = {word: index for index, word in enumerate(words)}
        table = self._names.lookup(words) if words else torch.zeros(0, self.text_dim)

        def spread(flat: list[str], mask: Tensor) -> Tensor:
            features = table.new_zeros(*mask.shape, self.text_dim)
            features[mask] = table[[place[word] for word in flat]]
            return features.to(device)

        node_mask = prefix_mask([len(graph.objects) for graph in graphs], most_nodes)
        edge_mask = prefix_mask([len(graph.relationships) for graph in graphs], most_edges)
        incidence = torch.tensor(ends, dtype=torch.int64).view(2, count, most_edges)
        subject, object_ = F.one_hot(incidence, most_nodes + 1)[..., :-1].float().to(device)
        return GraphBatch(
            nodes=spread(node_words, node_mask),
            number=torch.tensor(numbers, dtype=torch.float32).view(count, most_nodes).to(device),
            node_mask=node_mask.to(device),
            edges=spread(edge_words, edge_mask),
            rank=torch.tensor(ranks, dtype=torch.float32).view(count, most_edges).to(device),
            words=spread(stated, edge_mask[..., None].expand(-1, -1, 3)),
            edge_mask=edge_mask.to(device),
            subject=subject,
            object=object_,
        )


def _box_features(boxes: Tensor) -> Tensor:
    """Sinusoids of boxes, (B, N, 4) -> (B, N, 8 * BOX_RATES).

    Source:
        Tancik et al. 2020, arXiv:2006.10739, Eq. 4, with powers of two as frequencies.
    """
    rates = math.pi * 2 ** torch.arange(BOX_RATES, device=boxes.device)
    angles = (boxes[..., None] * rates).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _placed(known: Tensor, batch: GraphBatch) -> Tensor:
    """Whether the boxes of subject, both and object of each triple are known, (B, K, 3) bool."""
    subject, object_ = (
        (ends @ known[..., None].float()).squeeze(-1) > 0 for ends in (batch.subject, batch.object)
    )
    return torch.stack([subject, subject & object_, object_], dim=2)


def _centers(boxes: Tensor, batch: GraphBatch) -> Tensor:
    """Centers of subject and object of each triple, and between them its predicate's."""
    subject, object_ = batch.subject @ boxes[..., :2], batch.object @ boxes[..., :2]
    return torch.stack([subject, (subject + object_) / 2, object_], dim=2)


def _regions(boxes: Tensor, batch: GraphBatch) -> Tensor:
    """Boxes of subject and object of each triple, and its predicate's around both."""
    subject, object_ = batch.subject @ boxes, batch.object @ boxes
    starts = torch.minimum(*(box[..., :2] - box[..., 2:] / 2 for box in (subject, object_)))
    ends = torch.maximum(*(box[..., :2] + box[..., 2:] / 2 for box in (subject, object_)))
    both = torch.cat([(starts + ends) / 2, ends - starts], dim=-1)
    return torch.stack([subject, both, object_], dim=2)

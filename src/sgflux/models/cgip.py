"""SGDiff's CGIP encoder: its published weights, its arithmetic, its vocabulary.

A graph convolution over triples, to which every object adds one more: (object, ``__in_image__``,
``__image__``), after the graph's own.

Shapes: B graphs; N nodes (the image among them) and T triples (those into the image among them) of
the largest graph; D embedding width, H hidden width, R ``max_relations``.

Source:
    Yang et al. 2022, arXiv:2211.11138; graph convolution of Johnson et al. 2018, arXiv:1804.01622.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.errors import SgfluxError
from sgflux.files.finite import check_finite
from sgflux.files.tensors import module_from_state, read_torch_file
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.cgip_vocabulary import (
    IMAGE_OBJECT,
    IMAGE_PREDICATE,
    PUBLISHED_FINGERPRINT,
    PUBLISHED_SIZES,
    CGIPVocabulary,
)
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.models.message_passing import masked_mean, prefix_mask

_CLIP_PARTS = frozenset(
    "visual transformer token_embedding positional_embedding text_projection ln_final "
    "input_resolution context_length vocab_size".split()
)
"""What a CLIP model's keys begin with, where nothing stands before them."""


@dataclass(frozen=True)
class _Graphs:
    """B graphs as index tensors.

    Attributes:
        objects: rows of the object embeddings, (B, N).
        node_mask: (B, N) bool.
        predicates: rows of the predicate embeddings, (B, T).
        edge_mask: (B, T) bool.
        subject: one-hot over the nodes, zero for padding, (B, T, N).
        object: likewise.
        stated: True for the graphs that state a relation, (B,) bool.
    """

    objects: Tensor
    node_mask: Tensor
    predicates: Tensor
    edge_mask: Tensor
    subject: Tensor
    object: Tensor
    stated: Tensor


class _TripleConvolution(nn.Module):
    """[subject ‖ predicate ‖ object] -> three messages; an object is the mean of those it got."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.split = (hidden_dim, dim, hidden_dim)
        self.net1 = _mlp(3 * dim, hidden_dim, 2 * hidden_dim + dim)
        self.net2 = _mlp(hidden_dim, hidden_dim, dim)

    def forward(self, nodes: Tensor, edges: Tensor, graphs: _Graphs) -> tuple[Tensor, Tensor]:
        """(B, N, D) and (B, T, D) -> the same shapes."""
        triples = torch.cat([graphs.subject @ nodes, edges, graphs.object @ nodes], dim=-1)
        to_subject, edges, to_object = self.net1(triples).split(self.split, dim=-1)
        # Padded triples are zero in both incidence matrices and reach no node.
        inbox = graphs.subject.mT @ to_subject + graphs.object.mT @ to_object
        degree = (graphs.subject + graphs.object).sum(dim=1).clamp(min=1)
        return self.net2(inbox / degree[..., None]), edges


class _TripleNetwork(nn.Module):
    """The layers after the first; a module of its own because the checkpoint's keys say so."""

    def __init__(self, dim: int, hidden_dim: int, layers: int) -> None:
        super().__init__()
        self.gconvs = nn.ModuleList(_TripleConvolution(dim, hidden_dim) for _ in range(layers))


def _mlp(dim: int, hidden_dim: int, out_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, out_dim), nn.ReLU()
    )


class CGIPEncoder(nn.Module):
    """Reads graphs of its vocabulary's words as SGDiff does; float32, also under autocast.

    ``state_dict`` has the 53 keys that the published checkpoint has of it. A graph that states no
    relation is the null graph and has zero features, whatever objects it has; of every other graph
    the features are SGDiff's.

    Attributes:
        vocabulary: Words of the encoder.
        local_dim: 3 D.
        global_dim: D.
        trainable: whether it is trained with the adapter, or kept as it is.
    """

    def __init__(
        self,
        *,
        objects: Sequence[str],
        predicates: Sequence[str],
        synonyms: Mapping[str, str] | None = None,
        embed_dim: int = 512,
        hidden_dim: int = 512,
        layers: int = 5,
        max_relations: int = 15,
        trainable: bool = False,
    ) -> None:
        """Build it untrained.

        Args:
            objects, predicates, synonyms: Tables of the :class:`CGIPVocabulary`.
            embed_dim: D.
            hidden_dim: H.
            layers: graph convolutions after the first.
            max_relations: R; rows of a graph's local features, more triples are cut.
            trainable: False freezes every weight.

        Raises:
            SgfluxError: if a size is impossible or a word is missing.
        """
        super().__init__()
        for name, value, least in (
            ("embed_dim", embed_dim, 1),
            ("hidden_dim", hidden_dim, 1),
            ("layers", layers, 0),
            ("max_relations", max_relations, 1),
        ):
            if value < least:
                raise SgfluxError(f"{name} must be at least {least}, got {value}")
        self.vocabulary = CGIPVocabulary(objects=objects, predicates=predicates, synonyms=synonyms)
        self.local_dim, self.global_dim = 3 * embed_dim, embed_dim
        self.max_relations, self.trainable = max_relations, trainable
        self._hidden_dim = hidden_dim
        # SGDiff makes one row more than there are objects, and never reads it.
        self.obj_embeddings = nn.Embedding(len(objects) + 1, embed_dim)
        self.pred_embeddings = nn.Embedding(len(predicates), embed_dim)
        self.graph_conv = _TripleConvolution(embed_dim, hidden_dim)
        self.graph_net = _TripleNetwork(embed_dim, hidden_dim, layers)
        self.graph_projection = nn.Linear(2 * embed_dim, embed_dim)
        self.logit_scale = nn.Parameter(torch.zeros(()))
        self.requires_grad_(trainable)
        self.logit_scale.requires_grad_(False)  # of its contrastive training; no feature has it

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        *,
        vocab_path: str | os.PathLike[str],
        max_relations: int = 15,
        synonyms: Mapping[str, str] | None = None,
        trainable: bool = False,
        vocabulary_fingerprint: str | None = None,
    ) -> CGIPEncoder:
        """Load SGDiff's checkpoint, ``sip_vg.pt``; its sizes are read off its weights.

        Args:
            path: the checkpoint: ``state_dict`` with the encoder's keys and a CLIP model's.
            vocab_path: the ``vocab.json`` it was trained with.
            max_relations: R.
            synonyms: objects that the vocabulary lacks -> the object whose embedding they use.
            trainable: False freezes every weight.
            vocabulary_fingerprint: Expected :attr:`CGIPVocabulary.fingerprint`; None: for
                weights of the published sizes, that of the published vocabulary.

        Raises:
            SgfluxError: if a file cannot be read, a key of the encoder is missing, unknown or has
                another shape, or the vocabulary is not the checkpoint's; the message names it.
        """
        vocabulary = CGIPVocabulary.from_file(vocab_path, synonyms=synonyms)
        weights = _own_weights(path)
        sizes = _sizes(weights, path)
        rows = {
            "objects": (sizes.pop("object_rows") - 1, len(vocabulary.objects)),
            "predicates": (sizes.pop("predicate_rows"), len(vocabulary.predicates)),
        }
        for kind, (trained, given) in rows.items():
            if trained != given:
                raise SgfluxError(
                    f"{path} was trained with {trained} {kind}, {vocab_path} has {given}: "
                    "give the vocab.json of that training"
                )
        expected = vocabulary_fingerprint
        if expected is None and (rows["objects"][0], rows["predicates"][0]) == PUBLISHED_SIZES:
            expected = PUBLISHED_FINGERPRINT
        if expected is not None and vocabulary.fingerprint != expected:
            raise SgfluxError(
                f"{vocab_path} has the words of {path} in another order or other words "
                f"(fingerprint {vocabulary.fingerprint[:12]}, expected {expected[:12]}): its "
                "embeddings would be permuted. Give the vocab.json of that training; a regenerated "
                "one does not fit"
            )
        make = partial(
            cls,
            objects=vocabulary.objects,
            predicates=vocabulary.predicates,
            synonyms=vocabulary.synonyms,
            max_relations=max_relations,
            trainable=trainable,
            **sizes,
        )
        encoder = module_from_state(make, weights, where=f"{path} is no CGIP checkpoint")
        check_finite(weights, where=path)
        return encoder

    def config(self) -> dict[str, Any]:
        """See :class:`~sgflux.models.graph_encoder.GraphEncoder`."""
        return {
            "kind": "cgip",
            "objects": list(self.vocabulary.objects),
            "predicates": list(self.vocabulary.predicates),
            "synonyms": dict(self.vocabulary.synonyms),
            "embed_dim": self.global_dim,
            "hidden_dim": self._hidden_dim,
            "layers": len(self.graph_net.gconvs),
            "max_relations": self.max_relations,
            "trainable": self.trainable,
        }

    def forward(self, graphs: Sequence[SceneGraph]) -> GraphFeatures:
        """Features of B graphs: local (B, R, 3D), global (B, D).

        A local row is [subject ‖ predicate ‖ object] of a triple: the graph's own first, then those
        into the image, cut after R rows.

        Raises:
            OutOfVocabularyError: if a word has no embedding.
        """
        device = self.graph_projection.weight.device
        with torch.autocast(device.type, enabled=False):
            batch = self._batch(graphs, device)
            nodes, edges = (
                self.obj_embeddings(batch.objects),
                self.pred_embeddings(batch.predicates),
            )
            for layer in (self.graph_conv, *self.graph_net.gconvs):
                nodes, edges = layer(nodes, edges, batch)

            pooled = [masked_mean(nodes, batch.node_mask), masked_mean(edges, batch.edge_mask)]
            global_ = self.graph_projection(torch.cat(pooled, dim=-1))
            local = torch.cat([batch.subject @ nodes, edges, batch.object @ nodes], dim=-1)

            mask = batch.edge_mask & batch.stated[:, None]
            local = local.masked_fill(~mask[..., None], 0.0)
            missing = self.max_relations - mask.shape[1]  # negative where rows are to be cut
            return GraphFeatures(
                local=F.pad(local, (0, 0, 0, missing)),
                mask=F.pad(mask, (0, missing)),
                global_=global_.masked_fill(~batch.stated[:, None], 0.0),
            )

    def _batch(self, graphs: Sequence[SceneGraph], device: torch.device) -> _Graphs:
        vocabulary = self.vocabulary
        image = vocabulary.objects.index(IMAGE_OBJECT)
        in_image = vocabulary.predicates.index(IMAGE_PREDICATE)
        objects, subjects, predicates, targets = [], [], [], []
        for graph in graphs:
            count = len(graph.objects)
            objects.append([*map(vocabulary.object_id, graph.objects), image])
            stated = graph.relationships
            subjects.append([*(subject for subject, _, _ in stated), *range(count)])
            predicates.append(
                [*(vocabulary.predicate_id(word) for _, word, _ in stated), *[in_image] * count]
            )
            targets.append([*(target for _, _, target in stated), *[count] * count])
        most_nodes = max([1, *map(len, objects)])
        most_edges = max([1, *map(len, predicates)])

        def padded(rows: list[list[int]], size: int, filler: int) -> Tensor:
            filled = [row + [filler] * (size - len(row)) for row in rows]
            return torch.tensor(filled, dtype=torch.int64).view(len(graphs), size).to(device)

        def incidence(rows: list[list[int]]) -> Tensor:
            # Index most_nodes is no node: its one-hot column is cut off.
            one_hot = F.one_hot(padded(rows, most_edges, most_nodes), most_nodes + 1)
            return one_hot[..., :-1].to(self.graph_projection.weight.dtype)

        return _Graphs(
            objects=padded(objects, most_nodes, image),
            node_mask=prefix_mask(list(map(len, objects)), most_nodes).to(device),
            predicates=padded(predicates, most_edges, in_image),
            edge_mask=prefix_mask(list(map(len, predicates)), most_edges).to(device),
            subject=incidence(subjects),
            object=incidence(targets),
            stated=torch.tensor(
                [not graph.is_null for graph in graphs], dtype=torch.bool, device=device
            ),
        )


# --- the checkpoint -----------------------------------------------------------------------------


def _own_weights(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The weights of a checkpoint that are not CLIP's, as float32."""
    content = read_torch_file(path)
    weights = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise SgfluxError(f"{path}: expected a checkpoint with a 'state_dict', as sip_vg.pt is")
    own = {}
    for key, value in weights.items():
        if not isinstance(value, Tensor):
            raise SgfluxError(f"{path}: {key} is no tensor but {type(value).__name__}")
        first = key.partition(".")[0]
        if "clip" not in first and first not in _CLIP_PARTS:
            own[key] = value.float()
    return own


def _sizes(weights: Mapping[str, Tensor], path: str | os.PathLike[str]) -> dict[str, int]:
    """What the checkpoint's own shapes say."""
    needed = ("obj_embeddings.weight", "pred_embeddings.weight", "graph_conv.net1.0.weight")
    for key in needed:
        if key not in weights or weights[key].ndim != 2:
            raise SgfluxError(f"{path} is no CGIP checkpoint: it has no matrix {key}")
    objects, predicates, first = (weights[key].shape for key in needed)
    layers = {key.split(".")[2] for key in weights if key.startswith("graph_net.gconvs.")}
    return {
        "object_rows": objects[0],
        "predicate_rows": predicates[0],
        "embed_dim": objects[1],
        "hidden_dim": first[0],
        "layers": len(layers),
    }

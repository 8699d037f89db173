"""The examples of a run: both files, as they are read, and what validation judges."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.errors import SgfluxError
from sgflux.graphs.names import graph_names
from sgflux.graphs.predicates import CGIP_PREDICATES, vocabulary_of
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.bundle_folder import find_training_adapter
from sgflux.settings.data import DataSettings
from sgflux.settings.flow import FlowSettings
from sgflux.settings.graph_encoder import EncoderKind, GraphEncoderSettings
from sgflux.settings.losses import LossSettings
from sgflux.settings.validation import SelectBy
from sgflux.training.encoding.graph_encoder import readable_examples
from sgflux.training.terms.table import read_terms
from sgflux.training.terms.term import Needs, Sources, Term
from sgflux.training.validation import ValidationItem, choose_items

Say = Callable[[str], None]


@dataclass(frozen=True)
class Splits:
    """The two data sets, as read.

    Attributes:
        train: Training examples.
        items: Validation examples that are judged, with their negatives.
        val: Examples that the items are rows of.
        digests: Split -> SHA-256 of its JSONL as it was parsed; also of every other file that
            decides the training: a classifier, a training adapter, a cgip checkpoint with its
            vocabulary and the map of the objects that it lacks.
        terms: Terms of the loss.
        training_adapter: File of the training adapter; None without.
    """

    train: Sequence[SceneExample]
    val: Sequence[SceneExample]
    items: Sequence[ValidationItem]
    digests: dict[str, str]
    terms: Sequence[Term] = ()
    training_adapter: Path | None = None

    @property
    def needs(self) -> list[Needs]:
        """What each term needs."""
        return [term.needs() for term in self.terms]

    def names(self, encoder: EncoderKind) -> list[str]:
        """Every name and statement whose features a run with this graph encoder may look up."""
        is_native, needs = encoder == "native", self.needs
        if not is_native and not any(need.names for need in needs):
            return []  # the cgip encoder has embeddings of its own
        graphs: list[SceneGraph] = [example.graph for example in self.train]
        for item in self.items:
            graphs.append(item.graph)
            if item.negative is not None:
                graphs.append(item.negative.graph)
        if is_native:
            for need in needs:
                graphs += need.graphs([item.graph for item in self.items])
        words = [word for need in needs for word in need.words]
        return list(dict.fromkeys([*graph_names(graphs), *words]))


def read_splits(
    data: DataSettings,
    *,
    encoder: GraphEncoderSettings,
    val_examples: int,
    seed: int,
    say: Say,
) -> Splits:
    """Read both files and choose the validation examples.

    Args:
        data: Files of the run.
        encoder: Settings of the graph encoder, which has to read the graphs.
        val_examples: Number of validation examples; 0: all.
        seed: Random seed of their negatives.
        say: Function that shows a line to the user.

    Raises:
        SgfluxError: on a bad file.
    """
    known = vocabulary_of(data.vocabulary)

    def read(path: Path) -> tuple[list[SceneExample], str]:
        # What is hashed is what was parsed, whatever happens to the file in the meantime.
        parsed = hashlib.sha256()
        rows = readable_examples(path, encoder=encoder, known=known, say=say, digest=parsed)
        return rows, parsed.hexdigest()

    train, digest = read(data.train_jsonl)
    digests = {"training": digest}
    val: list[SceneExample] = []
    items: list[ValidationItem] = []
    if data.val_jsonl is not None:
        rows, digests["validation"] = read(data.val_jsonl)
        words = [p for row in train for _, p, _ in row.graph.relationships]
        if encoder.kind == "cgip" and len(set(words)) == 1:
            words = list(CGIP_PREDICATES)  # the other predicate of a negative must be readable
        chosen = choose_items(
            rows, count=val_examples, predicates=words, seed=seed, vocabulary=known
        )
        # Only these are encoded.
        val = [rows[item.row] for item in chosen]
        items = [replace(item, row=place) for place, item in enumerate(chosen)]
        _say_validation(data, train, val, items, say=say)
    own = data.vocabulary
    files = {
        "cgip checkpoint": encoder.cgip_ckpt,
        # A predicate vocabulary of the user's own has this name already.
        "vocabulary" if own is None else "cgip vocabulary": encoder.vocab_path,
        "map of objects that the encoder lacks": encoder.oov_map,
        **({} if own is None else {"vocabulary": own}),
    }
    digests |= {name: _digest(path) for name, path in files.items() if path is not None}
    return Splits(train=train, val=val, items=items, digests=digests)


def with_terms(
    splits: Splits,
    losses: LossSettings,
    *,
    seed: int,
    vocabulary: Path | None,
    say: Say,
    flow: FlowSettings | None = None,
) -> Splits:
    """The same data with the terms of a loss, and with the digests of the files that they read.

    ``flow`` has the settings of plain flow matching; None: its defaults.

    Raises:
        SgfluxError: if a term does not fit the data.
    """
    known = vocabulary_of(vocabulary)
    sources = Sources(examples=splits.train, seed=seed, vocabulary=known, say=say)
    terms = read_terms(losses, sources, flow=flow)
    files: dict[str, Path] = {}
    for term in terms:
        files |= term.needs().files
    digests = {**splits.digests, **{name: _digest(path) for name, path in files.items()}}
    return replace(splits, terms=terms, digests=digests)


def with_training_adapter(splits: Splits, name: str | None, *, allow_download: bool) -> Splits:
    """The same data with the file of a training adapter, and its digest.

    Raises:
        SgfluxError: if there is no such adapter on this machine.
    """
    if name is None:
        return splits
    path = find_training_adapter(name, allow_download=allow_download)
    digests = {**splits.digests, "training adapter": _digest(path)}
    return replace(splits, training_adapter=path, digests=digests)


def check_selection(splits: Splits, selection: SelectBy, *, jsonl: Path | None) -> None:
    """Check that validation can rank graphs, if the best adapter is chosen by that.

    Raises:
        SgfluxError: naming the file, if none of its examples has a negative graph.
    """
    ranked = any(item.negative is not None for item in splits.items)
    if splits.items and not ranked and selection == "ranking_accuracy":
        raise SgfluxError(
            f"{jsonl}: select_by is 'ranking_accuracy', but no example has a negative graph to be "
            "ranked against; use 'val_loss'"
        )


def _say_validation(
    data: DataSettings,
    train: Sequence[SceneExample],
    val: Sequence[SceneExample],
    items: Sequence[ValidationItem],
    *,
    say: Say,
) -> None:
    lonely = sum(item.negative is None for item in items)
    if lonely:
        say(f"{lonely} of {len(items)} validation examples have no negative graph")
    roots = [data.images_root(path) for path in data.files]
    seen = {resolve_image(example, roots[0]) for example in train}
    shared = sum(resolve_image(example, roots[1]) in seen for example in val)
    if shared:
        say(
            f"warning: {shared} of {len(val)} validation pictures are training pictures as well; "
            "what is selected on them is selected for remembering"
        )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

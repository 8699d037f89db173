"""The examples of a run: both files, as they are read, and what validation judges."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgflux.data.examples import SceneExample, resolve_image
from sgflux.errors import SgfluxError
from sgflux.graphs.names import graph_names
from sgflux.graphs.predicates import CGIP_PREDICATES, vocabulary_of
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.models.training_adapter import find_training_adapter
from sgflux.settings.training import TrainConfig
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
    terms: Sequence[Term]
    training_adapter: Path | None = None

    @property
    def needs(self) -> list[Needs]:
        """What each term needs."""
        return [term.needs() for term in self.terms]

    def names(self, config: TrainConfig) -> list[str]:
        """Every name and statement whose features the run may look up."""
        is_native, needs = config.encoder.kind == "native", self.needs
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


def read_splits(config: TrainConfig, *, say: Say) -> Splits:
    """Read both files and choose what validation judges.

    Raises:
        SgfluxError: on a bad file, or if validation has nothing to select the best checkpoint by.
    """
    # What is hashed is what was parsed, whatever happens to the file in the meantime.
    parsed = hashlib.sha256()
    train = readable_examples(config, config.data.train_jsonl, say=say, digest=parsed)
    digests = {"training": parsed.hexdigest()}
    val: list[SceneExample] = []
    items: list[ValidationItem] = []
    if config.data.val_jsonl is not None:
        parsed = hashlib.sha256()
        rows = readable_examples(config, config.data.val_jsonl, say=say, digest=parsed)
        digests["validation"] = parsed.hexdigest()
        words = [p for row in train for _, p, _ in row.graph.relationships]
        if config.encoder.kind == "cgip" and len(set(words)) == 1:
            words = list(CGIP_PREDICATES)  # the other predicate of a negative must be readable
        chosen = choose_items(
            rows,
            count=config.validation.val_examples,
            predicates=words,
            seed=config.run.seed,
            vocabulary=vocabulary_of(config.data.vocabulary),
        )
        # Only these are encoded.
        val = [rows[item.row] for item in chosen]
        items = [
            ValidationItem(row=place, graph=item.graph, negative=item.negative)
            for place, item in enumerate(chosen)
        ]
        _check_validation(config, train, val, items, say=say)
    sources = Sources(
        examples=train,
        seed=config.run.seed,
        vocabulary=vocabulary_of(config.data.vocabulary),
        say=say,
    )
    terms = read_terms(config.losses, sources)
    files = _given_files(config)
    for term in terms:
        files |= term.needs().files
    digests |= {name: _digest(path) for name, path in files.items()}
    training_adapter = None
    if config.start.training_adapter is not None:
        training_adapter = find_training_adapter(
            config.start.training_adapter, allow_download=config.model.allow_download
        )
        digests["training adapter"] = _digest(training_adapter)
    return Splits(
        train=train,
        val=val,
        items=items,
        digests=digests,
        terms=terms,
        training_adapter=training_adapter,
    )


def _check_validation(
    config: TrainConfig,
    train: Sequence[SceneExample],
    val: Sequence[SceneExample],
    items: Sequence[ValidationItem],
    *,
    say: Say,
) -> None:
    lonely = sum(item.negative is None for item in items)
    if lonely == len(items) and config.selection == "ranking_accuracy":
        raise SgfluxError(
            f"{config.data.val_jsonl}: select_by is 'ranking_accuracy', but no example has a "
            "negative graph to be ranked against; use 'val_loss'"
        )
    if lonely:
        say(f"{lonely} of {len(items)} validation examples have no negative graph")
    roots = [
        images_root(config, path)
        for path in (config.data.train_jsonl, config.data.val_jsonl)
        if path
    ]
    seen = {resolve_image(example, roots[0]) for example in train}
    shared = sum(resolve_image(example, roots[1]) in seen for example in val)
    if shared:
        say(
            f"warning: {shared} of {len(val)} validation pictures are training pictures as well; "
            "what is selected on them is selected for remembering"
        )


def images_root(config: TrainConfig, jsonl: Path) -> Path:
    """Where the pictures of a file are."""
    return jsonl.parent if config.data.images_dir is None else config.data.images_dir


def _given_files(config: TrainConfig) -> dict[str, Path]:
    """What else decides the training and was given as a file, by what messages call it."""
    own = config.data.vocabulary
    files = {
        "cgip checkpoint": config.encoder.cgip_ckpt,
        # A predicate vocabulary of the user's own has this name already.
        "vocabulary" if own is None else "cgip vocabulary": config.encoder.vocab_path,
        "map of objects that the encoder lacks": config.encoder.oov_map,
        **({} if own is None else {"vocabulary": own}),
    }
    return {name: path for name, path in files.items() if path is not None}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

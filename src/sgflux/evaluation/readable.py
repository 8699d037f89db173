"""The test set of an evaluation, as far as its adapter can read it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.expressible import keep_expressible
from sgflux.data.repairs import repairs
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import ALL_ARMS, Arm
from sgflux.graphs.predicates import vocabulary_of
from sgflux.models.bundle import read_config
from sgflux.models.cgip_vocabulary import CGIPVocabulary


@dataclass(frozen=True)
class ReadableExamples:
    """Examples on which an adapter is evaluated.

    Attributes:
        examples: The examples that the adapter can read, as far as it can.
        rows: Place of each of them in the file, from 0.
        every: All examples of the file, as they are.
        left_out: Numbers of the others, by reason; None for an adapter that reads all.
        sha256: SHA-256 of the file, in hex.
    """

    examples: Sequence[SceneExample]
    rows: Sequence[int]
    every: Sequence[SceneExample]
    left_out: dict[str, dict[str, int]] | None
    sha256: str


def readable_examples(
    data: Path,
    *,
    vocabulary: Path | None,
    adapter: Path | None,
    say: Callable[[str], None],
) -> ReadableExamples:
    """Read a test set, and leave out what the encoder of the adapter lacks.

    Args:
        data: Path of the JSONL file.
        vocabulary: Path of a file with further predicates; None: the known ones alone.
        adapter: Bundle of the adapter; None: none.
        say: Function that gets lines for the user.

    Raises:
        SgfluxError: on bad data, or if no example is left.
    """
    digest = hashlib.sha256()
    examples = read_examples(
        data, vocabulary=vocabulary_of(vocabulary), open_vocabulary=True, digest=digest
    )
    if (line := repairs(examples)) is not None:
        say(f"{data.name}: {line}")
    encoder = {} if adapter is None else read_config(adapter).encoder
    if encoder.get("kind") != "cgip":
        return ReadableExamples(examples, range(len(examples)), examples, None, digest.hexdigest())
    words = CGIPVocabulary(
        objects=encoder["objects"],
        predicates=encoder["predicates"],
        synonyms=encoder["synonyms"],
    )
    kept = keep_expressible(
        examples,
        predicates=words.canonical_predicates,
        knows_object=words.knows_object,
    )
    for line in kept.lines():
        say(f"{data.name}: {line}")
    if not kept.examples:
        raise SgfluxError(
            f"{data}: the adapter's cgip graph encoder can read none of its {kept.of} examples"
        )
    return ReadableExamples(kept.examples, kept.rows, examples, kept.to_json(), digest.hexdigest())


def expect_no_adapter_needed(arms: Sequence[str]) -> None:
    """Check that no arm needs an adapter, where there is none.

    Raises:
        SgfluxError: naming the arms that need one.
    """
    adapted = [name for name in arms if Arm(name).uses_adapter]
    if adapted:
        raise SgfluxError(
            f"the arms {adapted} need an adapter: give adapter, or only the arms "
            f"{[str(arm) for arm in ALL_ARMS if not arm.uses_adapter]}"
        )

"""The words of SGDiff's CGIP encoder: which rows of its two embedding tables they are.

The order is everything. sg2im's preprocessing orders a regenerated vocabulary by count, so that the
same words get other rows and a pretrained encoder reads nonsense without any error; therefore a
vocabulary has a fingerprint, and the published weights know the one they were trained with.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from sgflux.data.visual_genome.vocabulary import read_vocabulary, words_digest
from sgflux.errors import SgfluxError, located
from sgflux.files.reading import read_json_object
from sgflux.graphs.names import plain_name
from sgflux.graphs.predicates import (
    CGIP_PREDICATES,
    DEFAULT_VOCABULARY,
    UnknownPredicateError,
)

IMAGE_OBJECT = "__image__"
IMAGE_PREDICATE = "__in_image__"

PUBLISHED_SIZES = (179, 46)
"""Objects and predicates of the vocabulary of SGDiff's published Visual Genome weights."""
PUBLISHED_FINGERPRINT = "ca15aca26f27831edd2f5e45279a918c3a4172586ce997a99e93dc27312644ed"
"""Its fingerprint, see :attr:`CGIPVocabulary.fingerprint`."""

_WRITTEN_AS = {"around/near": "near", "hanging from": "hanging on"}
"""Canonical predicates that Visual Genome writes differently; the other 14 are written alike."""


class OutOfVocabularyError(SgfluxError):
    """A word without a row in the encoder's tables; the message names the nearest that have one."""


class CGIPVocabulary:
    """Objects and predicates in the order of their embeddings; does not change.

    Attributes:
        objects: names; the first is ``__image__``.
        predicates: names; ``__in_image__`` is among them.
        synonyms: other names -> the object whose embedding they use.
    """

    def __init__(
        self,
        *,
        objects: Sequence[str],
        predicates: Sequence[str],
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        """Check the words.

        Raises:
            SgfluxError: on a repeated or missing word, or a synonym of nothing.
        """
        self.objects, self.predicates = tuple(objects), tuple(predicates)
        for words, kind, special in (
            (self.objects, "objects", IMAGE_OBJECT),
            (self.predicates, "predicates", IMAGE_PREDICATE),
        ):
            if special not in words:
                raise SgfluxError(f"the vocabulary's {kind} lack {special!r}")
            repeated = sorted({word for word in words if words.count(word) > 1})
            if repeated:
                raise SgfluxError(f"the vocabulary's {kind} list {repeated[0]!r} twice")
        self._object_ids = {name: index for index, name in enumerate(self.objects)}
        self._predicate_ids = {name: index for index, name in enumerate(self.predicates)}
        self.synonyms: Mapping[str, str] = MappingProxyType(
            {plain_name(name): plain_name(target) for name, target in (synonyms or {}).items()}
        )
        for name, target in self.synonyms.items():
            if target not in self._object_ids or target == IMAGE_OBJECT:
                raise OutOfVocabularyError(
                    f"{name!r} cannot stand for {target!r}, which is no object of the vocabulary; "
                    + _nearest(target, self.objects)
                )

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], *, synonyms: Mapping[str, str] | None = None
    ) -> CGIPVocabulary:
        """Read a ``vocab.json`` as sg2im's preprocessing writes it.

        Raises:
            SgfluxError: if it cannot be read, or its two directions contradict each other; the
                message names the file and the entry.
        """
        words = read_vocabulary(path, both_ways=True)
        with located(path):
            return cls(objects=words.objects, predicates=words.predicates, synonyms=synonyms)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the words in their order."""
        return words_digest(self.objects, self.predicates)

    def knows_object(self, name: str) -> bool:
        """Whether :meth:`object_id` has an answer."""
        name = plain_name(name)
        return name != IMAGE_OBJECT and (name in self._object_ids or name in self.synonyms)

    def object_id(self, name: str) -> int:
        """The row of an object's embedding.

        Raises:
            OutOfVocabularyError: if there is none.
        """
        if not self.knows_object(name):
            raise OutOfVocabularyError(
                f"the cgip graph encoder has no object {name!r}; "
                + _nearest(plain_name(name), self.objects)
                + ". Use one of its words, let a synonym stand for it (--oov map --oov-map FILE), "
                "or take the native encoder, which reads any word"
            )
        cleaned = plain_name(name)
        return self._object_ids[self.synonyms.get(cleaned, cleaned)]

    def predicate_id(self, name: str) -> int:
        """The row of a predicate's embedding: of the word itself, else of what it means.

        Raises:
            OutOfVocabularyError: if there is none.
        """
        cleaned = plain_name(name)
        if cleaned in self._predicate_ids and cleaned != IMAGE_PREDICATE:
            return self._predicate_ids[cleaned]
        try:
            canonical = DEFAULT_VOCABULARY.canonical(name)
        except UnknownPredicateError:
            canonical = cleaned
        written = _WRITTEN_AS.get(canonical, canonical)
        if written in self._predicate_ids and written != IMAGE_PREDICATE:
            return self._predicate_ids[written]
        raise OutOfVocabularyError(
            f"the cgip graph encoder has no predicate {name!r}; "
            + _nearest(cleaned, self.predicates)
            + ". The native encoder reads any word"
        )

    @property
    def canonical_predicates(self) -> tuple[str, ...]:
        """Those of the canonical predicates that have a row; 16 in the published vocabulary."""
        written = {name: _WRITTEN_AS.get(name, name) for name in CGIP_PREDICATES}
        return tuple(name for name, word in written.items() if word in self._predicate_ids)


def read_synonyms(path: str | os.PathLike[str]) -> dict[str, str]:
    """Names that the vocabulary lacks, and the object each stands for, from a JSON object.

    Raises:
        SgfluxError: if the file cannot be read or holds something else.
    """
    content = read_json_object(path)
    for name, target in content.items():
        if not isinstance(target, str):
            raise SgfluxError(f"{path}: {name!r} must be given an object's name, got {target!r}")
    return content


def _nearest(word: str, known: Iterable[str]) -> str:
    words = [name for name in known if not name.startswith("__")]
    near = difflib.get_close_matches(word, words, n=3, cutoff=0.5)
    near += [name for name in words if name in word.split() and name not in near]
    if not near:
        return "no word of its vocabulary is near it"
    return "nearest: " + ", ".join(map(repr, near[:3]))

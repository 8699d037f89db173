"""The words of Visual Genome as sg2im's preprocessing writes them: ``vocab.json``."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sgflux.errors import SgfluxError
from sgflux.files.reading import read_json_object


@dataclass(frozen=True)
class Vocabulary:
    """The words of a preprocessed form.

    Attributes:
        objects: Names by their index.
        predicates: Predicates by their index.
    """

    objects: tuple[str, ...]
    predicates: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Digest of the two lists, see :func:`words_digest`."""
        return words_digest(self.objects, self.predicates)


def words_digest(objects: Sequence[str], predicates: Sequence[str]) -> str:
    """Return the SHA-256 of words in their order, on which a pretrained encoder depends."""
    text = json.dumps([objects, predicates], ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def read_vocabulary(path: str | os.PathLike[str], *, both_ways: bool = False) -> Vocabulary:
    """Read a ``vocab.json``.

    Args:
        path: Path of the file.
        both_ways: Whether the file must also have the tables from words to indices.

    Raises:
        SgfluxError: naming the file and the key, if it is no such file, or the two directions of
            a table contradict each other.
    """
    content = read_json_object(path)
    lists: list[tuple[str, ...]] = []
    for kind in ("object", "pred"):
        forward, back = f"{kind}_idx_to_name", f"{kind}_name_to_idx"
        words, table = content.get(forward), content.get(back)
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise SgfluxError(f"{path}: {forward!r} must be a list of words; is it a vocab.json?")
        if both_ways and not isinstance(table, dict):
            raise SgfluxError(f"{path}: {back!r} must be an object; is it a vocab.json?")
        if table is not None and table != {word: index for index, word in enumerate(words)}:
            ids = table if isinstance(table, dict) else {}
            wrong = [word for index, word in enumerate(words) if ids.get(word) != index]
            where = f"about {wrong[0]!r}" if wrong else "in their number"
            raise SgfluxError(f"{path}: {forward!r} and {back!r} contradict each other {where}")
        lists.append(tuple(words))
    return Vocabulary(*lists)

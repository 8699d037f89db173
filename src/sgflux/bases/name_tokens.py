"""How T5's tokenizer reads names and statements: what a text encoder is given of them.

The encoder itself is not needed, so that every name of a data set can be checked beforehand.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.graphs.names import CONTEXT_MARKS, is_statement

STATEMENT = "a photo of {}"
"""The prompt in which a triple's statement is read."""

_CHUNK = 1024  # statements tokenised at once


def name_ids(tokenizer: Any, name: str) -> list[int]:
    """The tokens of a name that is read alone, its end token among them.

    Raises:
        SgfluxError: if it has no token of its own, or more than the tokenizer allows.
    """
    ids = list(tokenizer(name, truncation=False)["input_ids"])
    if len(ids) > tokenizer.model_max_length:
        raise SgfluxError(
            f"the name {name!r} has {len(ids)} tokens, the text encoder reads at most "
            f"{tokenizer.model_max_length}"
        )
    if all(token in special_ids(tokenizer) for token in ids):
        raise SgfluxError(f"the name {name!r} has no token the text encoder could read")
    return ids


def special_ids(tokenizer: Any) -> set[int]:
    """The tokens that stand for no text."""
    return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


def statement_parts(names: Sequence[str]) -> tuple[list[str], list[tuple[int, int]]]:
    """Prompts of statements without their marks, and where the marked part of each lies."""
    opened, closed = CONTEXT_MARKS
    prompts = [STATEMENT.format(name) for name in names]
    spans = [(text.index(opened), text.index(closed) - 1) for text in prompts]
    return [text.replace(opened, "").replace(closed, "") for text in prompts], spans


def unreadable(name: str, *, max_sequence_length: int) -> SgfluxError:
    """The error about a statement whose marked part has no token within the length."""
    opened, closed = CONTEXT_MARKS
    part = name[name.index(opened) + 1 : name.index(closed)]
    statement = name.replace(opened, "").replace(closed, "")
    return SgfluxError(
        f"the statement {statement!r} cannot be read as far as {part!r}: it has no token there, "
        f"or not within the text encoder's {max_sequence_length} tokens"
    )


def unreadable_names(
    tokenizer: Any, names: Iterable[str], *, max_sequence_length: int
) -> Iterator[tuple[str, SgfluxError]]:
    """The names that a text encoder could not read, each with what is wrong with it."""
    alone: list[str] = []
    statements: list[str] = []
    for name in names:
        (statements if is_statement(name) else alone).append(name)
    for name in alone:
        try:
            name_ids(tokenizer, name)
        except SgfluxError as error:
            yield name, error
    for start in range(0, len(statements), _CHUNK):
        chunk = statements[start : start + _CHUNK]
        prompts, spans = statement_parts(chunk)
        encoded = tokenizer(
            prompts, max_length=max_sequence_length, truncation=True, return_offsets_mapping=True
        )
        for name, (first, last), offsets in zip(
            chunk, spans, encoded["offset_mapping"], strict=True
        ):
            if not any(end > first and start < last and end > start for start, end in offsets):
                yield name, unreadable(name, max_sequence_length=max_sequence_length)

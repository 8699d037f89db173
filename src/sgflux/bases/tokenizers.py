"""Whether a tokenizer is whole and belongs to its text encoder.

Since transformers 5, FLUX's tokenizer classes do not fail where their vocabulary files are missing:
they come as stubs of 104 (T5) and 2 (CLIP) tokens, and every prompt reads alike.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from sgflux.errors import SgfluxError

_SPARE_ROWS, _SPARE_SHARE = 128, 0.05
"""Rows without a token that an encoder may have: T5 has 28 of 32,128."""

_VOCABULARIES = (
    ("tokenizer.json",),
    ("vocab.json", "merges.txt"),
    ("spiece.model",),
    ("tokenizer.model",),
)
"""Files that a tokenizer can be made of."""


def expect_vocabulary(folder: Path) -> None:
    """Check that a tokenizer's folder has a vocabulary.

    Raises:
        SgfluxError: naming the files of which one is missing.
    """
    for files in _VOCABULARIES:
        if all((folder / file).is_file() for file in files):
            return
    wanted = ", or ".join(" and ".join(files) for files in _VOCABULARIES)
    raise SgfluxError(
        f"{folder}: has no vocabulary ({wanted}), perhaps after an interrupted download; download "
        "the folder again"
    )


def check_tokenizer(
    tokenizer: Any, *, embeddings: int, where: str | os.PathLike[str], part: str
) -> None:
    """Compare a tokenizer's number of tokens with the rows of its encoder's embedding.

    Args:
        tokenizer: the tokenizer.
        embeddings: rows of the embedding.
        where: the model, for the message.
        part: the tokenizer's subfolder, for the message.

    Raises:
        SgfluxError: if it has more tokens than there are rows, or far fewer.
    """
    tokens = len(tokenizer)
    if tokens > embeddings:
        raise SgfluxError(
            f"{os.fspath(where)}: {part} has {tokens:,} tokens, but its text encoder embeds "
            f"{embeddings:,}: they do not belong together"
        )
    if embeddings - tokens > max(_SPARE_ROWS, _SPARE_SHARE * embeddings):
        files = ", ".join(sorted(set(getattr(tokenizer, "vocab_files_names", {}).values())))
        raise SgfluxError(
            f"{os.fspath(where)}: {part} knows {tokens:,} of the {embeddings:,} tokens that its "
            f"text encoder embeds: its vocabulary ({files or 'tokenizer.json'}) is missing or not "
            "whole, perhaps after an interrupted download; download the folder again"
        )

"""The text of an adapter's model card, as an export changes it."""

from __future__ import annotations

import re

_OF_BEFORE = (
    "The count of weights, the samples and the validation on this card are those of before that; "
    "judged pictures, where it has any, are those of after it."
)


def without_section(text: str, title: str) -> str:
    """A card's text without the sections of a title."""
    return "".join(part for part in _parts(text) if part.splitlines()[:1] != [f"## {title}"])


def with_reduction(text: str, rank: int, said: str) -> str:
    """A card's text after a reduction of the LoRA's rank.

    Args:
        text: Text of the card before.
        rank: New rank, which is alpha as well.
        said: Sentence on the reduction, which is put before the first section, below the table.
            Sentences on earlier reductions stay above it.
    """
    row = rf"\g<1>rank {rank}, alpha {rank},"
    text = re.sub(r"(?m)^(\| LoRA \| )rank \S+, alpha [^,|]+,", row, text)
    parts = _parts(text.replace(f" {_OF_BEFORE}", ""))
    first = next((i for i, part in enumerate(parts) if part.startswith("## ")), len(parts))
    lead, sections = "".join(parts[:first]), "".join(parts[first:])
    return f"{lead.rstrip()}\n\n{said} {_OF_BEFORE}\n\n{sections}"


def _parts(text: str) -> list[str]:
    """A text that is cut before every heading of its first two levels, outside of code."""
    parts, is_code = [""], False
    for line in text.splitlines(keepends=True):
        is_code ^= line.startswith("```")
        if not is_code and line.startswith(("# ", "## ")):
            parts.append("")
        parts[-1] += line
    return parts

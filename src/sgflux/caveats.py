"""Caveats that are shown beside an evaluation's figures.

The report, the printed headline and a published card say the same of the same results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Results = Mapping[str, Any]
"""The content of ``evaluation_results.json``."""


def base_note(results: Results) -> str:
    """Say that the base is not known to be the adapter's own; empty if it is the adapter's own."""
    if (results.get("adapter") or {}).get("fingerprint") is None:
        return ""
    check = (results.get("model") or {}).get("base_check")
    if check is None:
        return "base not verified: these results do not say what it was"
    return "" if check["status"] == "same" else str(check["text"])


def overlap_note(results: Results) -> str:
    """Say how much of the test data the adapter has seen, or that it was not checked."""
    found = results["data"].get("overlap") or {}
    return found.get("text") or "overlap with training data not checked"


def has_seen(results: Results) -> bool:
    """Whether the adapter was trained or selected on any of the test data."""
    found = results["data"].get("overlap") or {}
    return any(isinstance(counts, Mapping) and any(counts.values()) for counts in found.values())


def uses_true_boxes(results: Results) -> bool:
    """Whether arms were given the true boxes of the test pictures."""
    return (results.get("settings") or {}).get("boxes") == "oracle"


def caveats(results: Results) -> list[str]:
    """Return sentences about another base, seen test data or true boxes; none without these."""
    notes = []
    if note := base_note(results):
        notes.append(f"{note[0].upper()}{note[1:]}.")
    if has_seen(results):
        notes.append(f"The test data are not new to the adapter: {overlap_note(results)}.")
    if uses_true_boxes(results):
        notes.append(
            "The arms with the true graph were given the true boxes of the test pictures, which "
            "reveal the relations: their figures are an upper bound."
        )
    return notes

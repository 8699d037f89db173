"""The table of loss terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.settings.flow import FlowSettings
from sgflux.settings.losses import (
    AnchorSettings,
    LayoutSettings,
    LossSettings,
    RankingSettings,
    WeightingSettings,
    WordsSettings,
    weight_of,
)
from sgflux.training.terms.anchor import Anchor
from sgflux.training.terms.flow_matching import FlowMatching
from sgflux.training.terms.layout import BoxPrediction
from sgflux.training.terms.ranking.ranking import Ranking
from sgflux.training.terms.relation_weighting import RelationWeighting
from sgflux.training.terms.term import Sources, Term
from sgflux.training.terms.words import Words

TERMS: dict[type, Callable[[Any, Sources], Term]] = {
    WeightingSettings: RelationWeighting,  # in the place of plain flow matching
    RankingSettings: Ranking,
    WordsSettings: Words,
    AnchorSettings: Anchor,
    LayoutSettings: BoxPrediction,
}
"""Settings of a term -> the term. Terms are summed in this order."""


def read_terms(
    losses: LossSettings, sources: Sources, *, flow: FlowSettings | None = None
) -> list[Term]:
    """The terms of a run: flow matching, and every term whose weight is not 0.

    Args:
        losses: Settings of the terms.
        sources: Data that a term may look at.
        flow: Settings of plain flow matching; None: the defaults.

    Raises:
        SgfluxError: if the table and the settings do not have the same terms, or as the terms.
    """
    settings = {type(term): term for term in losses.terms}
    if settings.keys() != TERMS.keys():
        raise SgfluxError(
            f"{type(losses).__name__} has the terms {sorted(map(_name, settings))}, and the table "
            f"TERMS has {sorted(map(_name, TERMS))}; each term needs its settings in the one and a "
            "line in the other"
        )
    terms = [
        make(settings[kind], sources) for kind, make in TERMS.items() if weight_of(settings[kind])
    ]
    if weight_of(losses.weighting):
        return terms
    return [FlowMatching(flow or FlowSettings(), sources), *terms]


def _name(kind: type) -> str:
    return kind.__name__

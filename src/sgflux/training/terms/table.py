"""The table of loss terms."""

from __future__ import annotations

from collections.abc import Callable

from sgflux.errors import SgfluxError
from sgflux.settings.losses import LossConfig
from sgflux.training.terms.anchor import Anchor
from sgflux.training.terms.flow_matching import FlowMatching
from sgflux.training.terms.ranking.ranking import Ranking
from sgflux.training.terms.relation_weighting import RelationWeighting
from sgflux.training.terms.term import Sources, Term
from sgflux.training.terms.words import Words

TERMS: dict[str, Callable[[LossConfig, Sources], Term]] = {
    "alpha_gen_rel": RelationWeighting,  # in the place of plain flow matching
    "lambda_rel_rank": Ranking,
    "lambda_words": Words,
    "lambda_anchor": Anchor,
}
"""Setting of the term's weight -> the term. They are summed in this order."""


def read_terms(losses: LossConfig, sources: Sources) -> list[Term]:
    """The terms of a run: flow matching, and every term whose weight is not 0.

    Raises:
        SgfluxError: if the table lacks a term that is switched on, or as the terms.
    """
    weights = losses.weights()
    if weights.keys() != TERMS.keys():
        raise SgfluxError(
            f"the settings have the weights {sorted(weights)} of loss terms, and the table TERMS "
            f"has {sorted(TERMS)}; give each weight one line in the table"
        )
    terms = [make(losses, sources) for name, make in TERMS.items() if weights[name]]
    return terms if losses.alpha_gen_rel else [FlowMatching(), *terms]

"""From a judge's answers to the figures of its calibration, each with its 95 % interval."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sgflux.evaluation.judges.judge import Judge, not_covered
from sgflux.evaluation.known.pictures import KnownPicture, Source
from sgflux.evaluation.known.questions import Answer, Asked
from sgflux.evaluation.metrics import NOTHING, Estimate, Row, Rows, macro_estimate, mean_estimate

_TRUST = ("no", "open", "yes")
POSITIONS = ("left of", "right of", "above", "below", "on", "in")
"""Predicates of the overall figures over statements that people judged, unless others are named."""


def calibration_of(
    judge: Judge,
    pictures: Sequence[KnownPicture],
    answers: Sequence[Answer],
    *,
    predicates: Sequence[str] = POSITIONS,
) -> dict[str, Any]:
    """Return the figures of a calibration file.

    Args:
        judge: The judge that answered.
        pictures: Known pictures.
        answers: Answers of the judge.
        predicates: Predicates that the overall figures of statements judged by people are over.
    """
    stated = [one.triple for picture in pictures for one in picture.statements]
    figures: dict[str, Any] = {
        "judge": judge.identity.to_json(),
        "pictures": len({answer.cluster for answer in answers}),
        "statements": len(stated),
        "not_covered": dict(sorted(not_covered(judge, stated).items())),
    }
    for source in Source:
        own = [answer for answer in answers if answer.question.source is source]
        if not own:
            continue
        counted = sorted({answer.question.predicate for answer in own})
        if source is Source.HUMAN:
            counted = [name for name in counted if name in predicates] or counted
        overall = section([one for one in own if one.question.predicate in counted])
        each = {name: section(group) for name, group in _by_predicate(own).items()}
        figures[source] = {**overall, "predicates": counted, "per_predicate": each}
    figures["standing"] = _standings(figures)
    return figures


def _by_predicate(answers: Sequence[Answer]) -> dict[str, list[Answer]]:
    groups: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        groups[answer.question.predicate].append(answer)
    return dict(sorted(groups.items()))


def section(answers: Sequence[Answer]) -> dict[str, Any]:
    """Return the figures of some answers of one source; what was not asked has no figure.

    Shares are of statements both of whose objects the judge found, except the coverage and the
    foreign statements, which are of all. The judge is better than the majority answer only if it
    also tells true statements apart from those of other pictures: who does not look, and knows
    which statements are likely, accepts both alike.
    """

    def rows(*kinds: Asked, found: bool = True) -> list[Answer]:
        return [a for a in answers if a.question.asked in kinds and (a.is_found or not found)]

    said = rows(Asked.TRUE, Asked.FALSE, found=False)
    labelled = rows(Asked.TRUE, Asked.FALSE)
    true = rows(Asked.TRUE)
    false = rows(Asked.SWAPPED) or rows(Asked.FOREIGN, found=False)
    shares: dict[str, Rows] = {
        "coverage": [(float(a.is_found), "all", a.cluster) for a in said],
        "confirmed": _accepted(true),
        "contradicted": [(1 - value, g, c) for value, g, c in _accepted(true)],
        "swapped_accepted": _accepted(rows(Asked.SWAPPED)),
        "foreign_accepted": _accepted(rows(Asked.FOREIGN, found=False)),
    }
    result: dict[str, Any] = {"n": len(said), "found": len(labelled)}
    people_said_no = any(a.question.asked is Asked.FALSE for a in answers)
    if people_said_no:
        right = [
            (float((a.accepted == 1) == (a.question.asked is Asked.TRUE)), "all", a.cluster)
            for a in labelled
        ]
        shares = {"agreement": right, **shares, "false_accepted": _accepted(rows(Asked.FALSE))}
    estimates = {name: mean_estimate(own) for name, own in shares.items()}
    if not people_said_no:
        # Where all that is stated is true, "yes" is the majority answer: half of what is asked.
        estimates["balanced"] = _balanced(true, false)
    estimates["told_apart"] = _balanced(true, rows(Asked.FOREIGN, found=False))
    result |= {name: estimate.value for name, estimate in estimates.items()}
    majority = 0.5
    if people_said_no and labelled:
        share = len(true) / len(labelled)
        majority = max(share, 1 - share)
    measured = estimates["agreement" if people_said_no else "balanced"]
    return {
        **result,
        "majority": majority,
        "better_than_majority": min(
            _better(measured, majority), _better(estimates["told_apart"], 0.5), key=_TRUST.index
        ),
        "counts": {name: estimate.n for name, estimate in estimates.items()},
        "ci95": {
            name: None if estimate.ci95 is None else list(estimate.ci95)
            for name, estimate in estimates.items()
        },
    }


def _accepted(answers: Sequence[Answer]) -> Rows:
    return [(answer.accepted, "all", answer.cluster) for answer in answers]


def _balanced(true: Sequence[Answer], false: Sequence[Answer]) -> Estimate:
    """Return the mean of true statements accepted and false ones rejected, if there are both."""
    if not true or not false:
        return NOTHING
    accepted: list[Row] = [(value, "true", cluster) for value, _, cluster in _accepted(true)]
    rejected: list[Row] = [(1 - value, "false", cluster) for value, _, cluster in _accepted(false)]
    return macro_estimate(accepted + rejected).overall


def _better(measured: Estimate, majority: float) -> str:
    """Compare with the majority: "yes" if the interval is above it, "no" if the value is not."""
    if measured.value is None or measured.ci95 is None:
        return "open"
    if measured.value <= majority:
        return "no"
    return "yes" if measured.ci95[0] > majority else "open"


def _standings(figures: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return predicate -> trust in the judge, by people's statements where there are any."""
    standings: dict[str, dict[str, Any]] = {}
    for source in Source:
        for name, own in figures.get(source, {}).get("per_predicate", {}).items():
            measured = "agreement" if "agreement" in own else "balanced"
            if name in standings or own[measured] is None:
                continue
            standings[name] = {
                "source": str(source),
                "figure": measured,
                "value": own[measured],
                "ci95": own["ci95"][measured],
                "n": own["counts"][measured],
                "majority": own["majority"],
                "told_apart": {
                    "value": own["told_apart"],
                    "ci95": own["ci95"]["told_apart"],
                    "n": own["counts"]["told_apart"],
                },
                "better_than_majority": own["better_than_majority"],
            }
    return dict(sorted(standings.items()))

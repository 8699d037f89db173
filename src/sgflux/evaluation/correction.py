"""Relation accuracy, corrected for what is known of the errors of the judge that read it.

For each predicate ``sgflux eval calibrate`` has measured which share ``s`` of true statements a
judge accepts (its sensitivity), and which share ``f`` of false ones (its false positives). Of
statements of which the share ``theta`` is true it therefore accepts

    a = theta s + (1 - theta) f,        so that        theta = (a - f) / (s - f).

All of these are shares of *decided* statements: those on which the judge does not say *not found*.
About the others a correction knows nothing; :func:`corrected_figures` says what they leave open.

The interval carries what is not known of all three shares. Each end of an interval of ``a``, ``s``
and ``f`` moves ``theta`` by some amount while the other two stay; the roots of the summed squares
of these amounts are the distances of the ends from ``theta`` (method of variance recovery). Over
predicates the amounts of ``s`` and ``f`` are summed likewise, since each predicate was calibrated
by itself; the observed shares have the interval of their mean, which respects pictures, stretched
by how much the correction stretches its spread. ``benchmarks/correction_coverage.py`` measures how
often these intervals hold.

Sources: Rogan and Gladen 1978, doi:10.1093/oxfordjournals.aje.a112510 (the correction); Zou and
Donner 2008, doi:10.1002/sim.3095 (the recovery of variances).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.known.file import is_of
from sgflux.evaluation.metrics import Estimate, MacroEstimate, Row, Rows, macro_estimate
from sgflux.intervals import Layout

FALSE_POSITIVES = {
    "false_accepted": "statements that people judged false",
    "swapped_accepted": "true statements with their objects swapped",
}
"""Figures of a calibration that are a false-positive rate, the preferred one first -> what they
count. All are of pictures that show both objects, as those do that are drawn from the item's text;
statements about objects of another picture (``foreign_accepted``) are not among them."""

_SOURCES = ("human", "geometric", "stated")


@dataclass(frozen=True)
class ErrorRates:
    """What is known of a judge's errors about one predicate.

    Attributes:
        sensitivity: Share of true statements that the judge accepts, with its interval.
        false_positives: Share of false statements that it accepts, with its interval.
        source: Authority on what is true, as in a calibration file.
        false_kind: Key of :data:`FALSE_POSITIVES`.
    """

    sensitivity: Estimate
    false_positives: Estimate
    source: str = ""
    false_kind: str = ""

    @property
    def gain(self) -> float:
        """Sensitivity less false positives: how much a true share moves the observed one."""
        return _ends(self.sensitivity)[0] - _ends(self.false_positives)[0]

    @property
    def least_gain(self) -> float:
        """Lower end of the 95 % interval of the gain."""
        (s, s_low, _), (f, _, f_high) = map(_ends, (self.sensitivity, self.false_positives))
        return s - f - math.hypot(s - s_low, f_high - f)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON."""
        return {
            "source": self.source,
            "sensitivity": self.sensitivity.to_json(),
            "false_positives": {"of": self.false_kind, **self.false_positives.to_json()},
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> ErrorRates:
        """Read what :meth:`to_json` wrote."""
        sensitivity, false_positives = (
            Estimate(own["value"], tuple(own["ci95"]), own["n"], own["clusters"])
            for own in (entry["sensitivity"], entry["false_positives"])
        )
        return cls(sensitivity, false_positives, entry["source"], entry["false_positives"]["of"])


def correction_of(
    calibration: Mapping[str, Any], predicates: Iterable[str], judge: Judge
) -> dict[str, Any]:
    """Say by which error rates figures are corrected, and which cannot be.

    Args:
        calibration: Content of a calibration file.
        predicates: Canonical predicates of the evaluation.
        judge: The judge of the evaluation, which may ask others than the calibrated one.

    Returns:
        Plain JSON: ``rates`` has predicate -> the error rates, and ``impossible`` predicate -> why
        its figures cannot be corrected.
    """
    rates: dict[str, Any] = {}
    impossible: dict[str, str] = {}
    for name in sorted(set(predicates)):
        is_own = is_of(calibration, judge, name)
        if is_own is None:
            continue  # nobody judges it
        found = _rates(calibration, name) if is_own else "a judge that was not calibrated decides"
        if isinstance(found, str):
            impossible[name] = found
        else:
            rates[name] = found.to_json()
    return {"rates": rates, "impossible": impossible}


def _rates(calibration: Mapping[str, Any], predicate: str) -> ErrorRates | str:
    """Return the error rates about a predicate, or why there are none that help."""
    why = "the calibration has no true statement with this predicate both of whose objects it finds"
    for source in _SOURCES:
        entry = (calibration.get(source) or {}).get("per_predicate", {}).get(predicate)
        if entry is None or entry.get("confirmed") is None:
            continue
        kind = next((name for name in FALSE_POSITIVES if entry.get(name) is not None), None)
        if kind is None:
            why = "the calibration has no false statements about two objects of one picture"
            continue
        rates = ErrorRates(_share(entry, "confirmed"), _share(entry, kind), source, kind)
        if rates.least_gain > 0:
            return rates
        return (
            f"the judge accepts {100 * entry['confirmed']:.0f} % of true statements "
            f"(n = {entry['counts']['confirmed']}) and {100 * entry[kind]:.0f} % of false ones "
            f"(n = {entry['counts'][kind]}), which do not differ for certain"
        )
    return why


def _share(entry: Mapping[str, Any], name: str) -> Estimate:
    low, high = entry["ci95"][name]
    count = entry["counts"][name]
    return Estimate(entry[name], (low, high), n=count, clusters=count)


def corrected(rows: Rows, errors: Mapping[str, ErrorRates]) -> MacroEstimate:
    """Correct the mean over predicates, and that of every predicate.

    Args:
        rows: Observations of decided statements, with the predicate as group; at least one.
        errors: Predicate -> error rates, with a gain above 0; one for every group.
    """
    raw = macro_estimate(rows)
    each = {
        name: _corrected([row for row in rows if row[1] == name], own, errors)
        for name, own in raw.per_group.items()
    }
    return MacroEstimate(_corrected(rows, raw.overall, errors), each)


def _corrected(rows: Rows, raw: Estimate, errors: Mapping[str, ErrorRates]) -> Estimate:
    """Correct the mean over the groups of some rows, of which ``raw`` is the uncorrected one."""
    values, groups, clusters = zip(*rows, strict=True)
    observed = np.asarray(values, float)[None]
    layout = Layout(groups, clusters)
    known = [errors[str(name)] for name in layout.names]
    true, below, above = [], 0.0, 0.0
    for a, own in zip(layout.means(observed)[0], known, strict=True):
        (s, s_low, s_high), (f, f_low, f_high) = map(_ends, (own.sensitivity, own.false_positives))
        theta = (a - f) / (s - f)
        moved = np.array(
            [(a - f) / (end - f) - theta for end in (s_low, s_high)]
            + [(a - end) / (s - end) - theta for end in (f_low, f_high)]
        )
        true.append(theta)
        below += float((np.minimum(moved, 0) ** 2).sum())
        above += float((np.maximum(moved, 0) ** 2).sum())
    gains = np.array([own.gain for own in known])
    spread, stretched = (
        float(np.sqrt((layout.spread(values) ** 2).sum()))
        for values in (observed, observed / gains[layout.group_of])
    )
    stretch = stretched / spread if spread > 1e-10 else float((1 / gains).mean())
    a, low, high = _ends(raw)
    theta, count = float(np.mean(true)), len(true)
    lower = theta - math.hypot(stretch * (a - low), math.sqrt(below) / count)
    upper = theta + math.hypot(stretch * (high - a), math.sqrt(above) / count)
    return replace(raw, value=_share_of(theta), ci95=(_share_of(lower), _share_of(upper)))


def _ends(figure: Estimate) -> tuple[float, float, float]:
    """Return a share with the ends of its interval."""
    assert figure.value is not None
    assert figure.ci95 is not None
    return figure.value, *figure.ci95


def _share_of(value: float) -> float:
    return min(1.0, max(0.0, float(value)))


def corrected_figures(
    said: Iterable[tuple[Row, bool]], correction: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the corrected figures of one arm, as ``evaluation_results.json`` has them.

    Args:
        said: Observations of the arm's statements, and whether each is decided.
        correction: Content of :func:`correction_of`.

    Returns:
        The corrected relation accuracy over decided statements with predicates that can be
        corrected; ``raw`` is that of the same statements without correction, ``decided`` how many
        of all statements with these predicates they are, and ``of_all`` what share of all of them
        may be true: the least if none of the others is, the largest if all are. None if nothing
        can be corrected.
    """
    errors = {name: ErrorRates.from_json(own) for name, own in correction["rates"].items()}
    every = [(row, is_decided) for row, is_decided in said if row[1] in errors]
    rows = [row for row, is_decided in every if is_decided]
    if not rows:
        return None
    found = corrected(rows, errors)
    decided = macro_estimate([(float(flag), group, image) for (_, group, image), flag in every])
    shares = [
        (own.value or 0.0, found.per_group.get(name)) for name, own in decided.per_group.items()
    ]
    least = math.fsum(share * (own.value or 0.0) for share, own in shares if own) / len(shares)
    return {
        **found.to_json(),
        "raw": macro_estimate(rows).to_json(),
        "decided": decided.overall.to_json(),
        "of_all": [least, least + 1 - (decided.overall.value or 0.0)],
    }

"""Figures that are computed again from ``results.jsonl``, and compared with those on record."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm
from sgflux.evaluation.comparing import differing
from sgflux.evaluation.evaluator import RESULTS
from sgflux.evaluation.judges.judge import predicate_of
from sgflux.evaluation.metrics import Row, difference_estimate, macro_estimate
from sgflux.evaluation.report.data import Evaluation


def aggregate(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """Relation accuracy of every arm, and the differences to the arm with the true graph.

    Returns:
        ``"arms"`` and ``"differences"`` as ``evaluation_results.json`` has them.
    """
    rows: dict[Arm, list[Row]] = defaultdict(list)
    for picture in evaluation.pictures:
        rows[picture.arm] += [
            (float(said.holds), predicate_of(triple), picture.image_rel_path)
            for triple, said in picture.own.items()
        ]
    graph = rows.get(Arm.GRAPH)
    return {
        "arms": {
            str(arm): {"relation_accuracy": macro_estimate(own).to_json()}
            for arm, own in rows.items()
        },
        "differences": {
            f"graph_minus_{arm}": difference_estimate(graph, own).to_json()
            for arm, own in rows.items()
            if graph and arm is not Arm.GRAPH
        },
    }


def check_figures(evaluation: Evaluation) -> int:
    """Compare the figures of :func:`aggregate` with those on record.

    Returns:
        Number of figures that were compared.

    Raises:
        SgfluxError: naming the first figure that differs.
    """
    count = 0
    for key, entries in aggregate(evaluation).items():
        for name, entry in entries.items():
            recorded = evaluation.results.get(key, {}).get(name)
            line = next(differing(f"{key}.{name}", entry, recorded, further=False), None)
            if line is not None:
                raise SgfluxError(
                    f"{RESULTS}: {line}: the two files are of different runs, or one was changed; "
                    "run the same 'sgflux eval' again"
                )
            count += 1
    return count

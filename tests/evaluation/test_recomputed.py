"""Point values recomputed from ``results.jsonl`` and the test file alone, by other code.

If one of these failed, the published point values would not follow from the readings that stand
beside them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers.evaluated import make_evaluation

Observed = list[tuple[float, str]]
"""(value, predicate)."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_evaluation(tmp_path_factory.mktemp("recomputed"))


def macro(rows: Observed) -> float:
    groups = defaultdict(list)
    for value, group in rows:
        groups[group].append(value)
    return float(np.mean([np.mean(own) for own in groups.values()]))


def mean(rows: Observed) -> float:
    return float(np.mean([value for value, _ in rows]))


def test_figures_are_those_of_the_judges_scores(folder: Path) -> None:
    results = json.loads((folder / "evaluation_results.json").read_text())
    classes = results["judge"]["classes"]
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    rows = [json.loads(line) for line in Path(results["data"]["path"]).read_text().splitlines()]

    def scores(line: dict[str, Any], triple: Any) -> np.ndarray:
        (own,) = (
            entry["log_probabilities"]
            for entry in line["judge"]["scores"]
            if (entry["subject"], entry["object"]) == (triple[0].casefold(), triple[2].casefold())
        )
        return np.array(own)

    def right(line: dict[str, Any], triple: Any) -> float:
        return float(classes[int(np.argmax(scores(line, triple)))] == triple[1])

    truth = []
    for row in rows:
        names = row["graph"]["objects"]
        truth.append([(names[s], p, names[o]) for s, p, o in row["graph"]["relationships"]])
    arms = defaultdict(list)
    for line in lines:
        arms[line["arm"]].append(line)
    compared = 0
    for arm, own in arms.items():
        found = results["arms"][arm]
        said = [(line, triple) for line in own for triple in truth[line["row"]]]
        observed = [(right(line, triple), triple[1]) for line, triple in said]
        assert found["relation_accuracy"]["macro"] == pytest.approx(macro(observed), abs=1e-9)
        assert found["relation_accuracy"]["n"] == len(observed)
        assert found["relation_accuracy"]["predicates"] == len({group for _, group in observed})
        there = [
            {triple[0].casefold(), triple[2].casefold()} <= set(line["judge"]["present"])
            for line, triple in said
        ]
        both = [(value * seen, group) for (value, group), seen in zip(observed, there, strict=True)]
        split = found["relation_by_objects"]
        assert split["right_and_found"]["macro"] == pytest.approx(macro(both), abs=1e-9)
        for name, wanted in (("right_if_found", True), ("right_if_missing", False)):
            part = [one for one, seen in zip(observed, there, strict=True) if seen is wanted]
            assert split[name]["n"] == len(part)
            if part:
                assert split[name]["value"] == pytest.approx(mean(part), abs=1e-9)
        for held_out, name in ((True, "held_out"), (False, "seen")):
            part = [
                (right(line, triple), triple[1])
                for line in own
                if rows[line["row"]]["meta"]["held_out_combination"] is held_out
                for triple in [
                    tuple(
                        rows[line["row"]]["triple"][k] for k in ("subject", "predicate", "object")
                    )
                ]
            ]
            value = found["held_out_combinations"][name]
            assert value["macro"] == pytest.approx(macro(part), abs=1e-9)
        compared += 1
    assert compared == 7
    wins = defaultdict(list)
    negative = {line["row"]: line for line in arms["negative_graph"]}
    for line in arms["graph"]:
        other = negative[line["row"]]
        names = other["graph"]["objects"]
        false = [(names[s], p, names[o]) for s, p, o in other["graph"]["relationships"]]
        ((ours, theirs),) = (
            pair for pair in zip(truth[line["row"]], false, strict=True) if pair[0] != pair[1]
        )

        def gap(picture: dict[str, Any], one: Any, two: Any) -> float:
            said, denied = (scores(picture, t)[classes.index(t[1])] for t in (one, two))
            return 0.5 + 0.5 * float(np.sign(said - denied))

        win = (gap(line, ours, theirs) + gap(other, theirs, ours)) / 2
        wins[line["negative"]["kind"]].append((win, ours[1]))
    assert set(results["win_rate_by_kind"]) == set(wins)
    for kind, observed in wins.items():
        entry = results["win_rate_by_kind"][kind]
        assert entry["value"] == pytest.approx(mean(observed), abs=1e-9)
        assert entry["ci95"][0] < entry["ci95"][1], "whatever comes out has a width"

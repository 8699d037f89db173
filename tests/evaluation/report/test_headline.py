"""The headline: every row shows the figure of the arm that it names.

If one of these failed, a row of the headline would show the figure of another arm.
"""

from __future__ import annotations

from typing import Any

from sgflux.evaluation.arms import ALL_ARMS, Arm
from sgflux.evaluation.report.headline import ARM_TITLES, arm_figure, headline


def results() -> dict[str, Any]:
    """Results in which every arm has a relation accuracy of its own."""
    return {
        "arms": {
            str(arm): {
                "relation_accuracy": {"macro": 0.1 * place, "ci95": [0.0, 1.0], "n": 10 + place}
            }
            for place, arm in enumerate(ALL_ARMS, start=1)
        }
    }


def test_each_arm_has_its_own_figure_under_its_own_name() -> None:
    """The negative graph's figure under the true one's name would publish the control as result."""
    rows = {row.arm: row for row in headline(results()) if row.arm is not None}
    for place, arm in enumerate(ALL_ARMS, start=1):
        assert arm_figure(results(), arm).value == 0.1 * place
        if arm in ARM_TITLES:
            assert rows[arm].label == ARM_TITLES[arm][0]
            assert (rows[arm].figure.value, rows[arm].figure.n) == (0.1 * place, 10 + place)
    assert "true graph" in ARM_TITLES[Arm.GRAPH][0]
    assert "negative graph" in ARM_TITLES[Arm.NEGATIVE_GRAPH][0]

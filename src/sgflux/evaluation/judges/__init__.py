"""Judges: who decides whether a picture shows a relation. A judge is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.judges.router import Router
from sgflux.evaluation.judges.world import WorldJudgeAdapter

JUDGES: dict[str, Callable[[], Judge]] = {
    "world": WorldJudgeAdapter.load,
}
"""Name on the command line -> what makes the judge."""

NO_JUDGE = "none"
"""What the command line takes where nobody is to judge."""


def make_judge(names: str) -> Judge | None:
    """Return the judge that ``--judge`` names; None where nobody is to judge.

    Args:
        names: a key of :data:`JUDGES`; several, with commas between, are a router in this order.

    Raises:
        SgfluxError: on an unknown name.
    """
    if names == NO_JUDGE:
        return None
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in JUDGES]
    if unknown or len(set(wanted)) < len(wanted):
        raise SgfluxError(
            f"judge must be {NO_JUDGE!r} or different ones of {list(JUDGES)}, with commas between, "
            f"got {names!r}"
        )
    judges = [JUDGES[name]() for name in wanted]
    return judges[0] if len(judges) == 1 else Router(judges)

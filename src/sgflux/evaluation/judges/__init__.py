"""Judges: who decides whether a picture shows a relation. A judge is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sgflux.bases.devices import resolve_device
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors import make_detector
from sgflux.evaluation.judges.detectors.detector import Detector
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.judges.router import Router
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.settings.judges import JudgeSettings


@dataclass(frozen=True, kw_only=True)
class Means:
    """What judges are made from.

    Attributes:
        settings: Models that the user names.
        device: Device on which they run, as settings name it.
        boxes: Detector to use in place of the named one, such as annotated boxes.
    """

    settings: JudgeSettings = field(default_factory=JudgeSettings)
    device: str = "auto"
    boxes: Detector | None = None


def _geometry(means: Means) -> Judge:
    if means.boxes is not None:
        return GeometryJudge(means.boxes)
    if means.settings.detector is None:
        raise SgfluxError(
            "judge 'geometry' needs a detector: give its folder or hub id (--detector)"
        )
    device = str(resolve_device(means.device))
    return GeometryJudge(make_detector(means.settings.detector, device=device))


JUDGES: dict[str, Callable[[Means], Judge]] = {
    "world": lambda _: WorldJudgeAdapter.load(),
    "geometry": _geometry,
}
"""Name on the command line -> what makes the judge."""

NO_JUDGE = "none"
"""What the command line takes where nobody is to judge."""


def make_judge(names: str, means: Means) -> Judge | None:
    """Return the judge that ``--judge`` names; None where nobody is to judge.

    Args:
        names: a key of :data:`JUDGES`; several, with commas between, are a router in this order.
        means: Models, device and boxes that the judges are made from.

    Raises:
        SgfluxError: on an unknown name, or as the makers.
    """
    wanted = [] if names == NO_JUDGE else [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in JUDGES]
    if unknown or len(set(wanted)) < len(wanted):
        raise SgfluxError(
            f"judge must be {NO_JUDGE!r} or different ones of {list(JUDGES)}, with commas between, "
            f"got {names!r}"
        )
    if means.settings.detector is not None and "geometry" not in wanted:
        raise SgfluxError(f"detector has no effect with judge {names!r}; leave it out")
    judges = [JUDGES[name](means) for name in wanted]
    if not judges:
        return None
    return judges[0] if len(judges) == 1 else Router(judges)

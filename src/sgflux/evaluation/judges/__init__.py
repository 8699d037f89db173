"""Judges: who decides whether a picture shows a relation. A judge is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from sgflux.bases.devices import resolve_device
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.clip import ClipJudge
from sgflux.evaluation.judges.detectors import make_detector
from sgflux.evaluation.judges.detectors.detector import Detector
from sgflux.evaluation.judges.geometry import GeometryJudge
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.judges.router import Router
from sgflux.evaluation.judges.vision_language import VisionLanguageModel
from sgflux.evaluation.judges.vqa import VqaJudge
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.settings.checks import expect_defaults
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

    @cached_property
    def detector(self) -> Detector | None:
        """The boxes or the named detector, the same one for every judge; None without both."""
        if self.boxes is not None or self.settings.detector is None:
            return self.boxes
        return make_detector(self.settings.detector, device=str(resolve_device(self.device)))

    def model_of(self, judge: str) -> str:
        """Return the folder or hub id of a judge's model.

        Raises:
            SgfluxError: if none is named.
        """
        if self.settings.judge_model is None:
            raise SgfluxError(
                f"judge {judge!r} needs a model: give its folder or hub id (--judge-model)"
            )
        return self.settings.judge_model


def _geometry(means: Means) -> Judge:
    if means.detector is None:
        raise SgfluxError(
            "judge 'geometry' needs a detector: give its folder or hub id (--detector)"
        )
    return GeometryJudge(means.detector)


def _vqa(means: Means) -> Judge:
    model = VisionLanguageModel.load(means.model_of("vqa"), resolve_device(means.device))
    return VqaJudge(model, means.detector, batch_size=means.settings.judge_batch_size)


def _clip(means: Means) -> Judge:
    device = str(resolve_device(means.device))
    return ClipJudge(means.model_of("clip"), device, batch_size=means.settings.judge_batch_size)


JUDGES: dict[str, Callable[[Means], Judge]] = {
    "world": lambda _: WorldJudgeAdapter.load(),
    "geometry": _geometry,
    "vqa": _vqa,
    "clip": _clip,
}
"""Name on the command line -> what makes the judge."""

LOOKING = frozenset({"geometry", "vqa"})
"""Judges that use a detector."""
ASKING = frozenset({"vqa", "clip"})
"""Judges that use a model of their own, of which one is named."""

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
    without = f"with judge {names!r}"
    if not LOOKING.intersection(wanted):
        expect_defaults(means.settings, without, "detector")
    if not ASKING.intersection(wanted):
        expect_defaults(means.settings, without, "judge_model", "judge_batch_size")
    if ASKING.issubset(wanted):
        raise SgfluxError(
            f"judge {names!r} needs two models, and judge_model names one; ask one of "
            f"{sorted(ASKING)} at a time"
        )
    judges = [JUDGES[name](means) for name in wanted]
    if not judges:
        return None
    return judges[0] if len(judges) == 1 else Router(judges)

"""What ``evaluation_results.json`` holds, as far as a report reads it: the types that are checked.

Fields without a default stand in every file that any version of sgflux wrote. What a newer or older
version has beside them is ignored.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from sgflux.evaluation.arms import Arm
from sgflux.evaluation.figure_shapes import (
    Count,
    DistanceShape,
    FigureShape,
    LevelShape,
    MacroShape,
    Number,
    Share,
    Words,
)
from sgflux.evaluation.known.shapes import CalibratedShape, CalibrationShape


class FalseAcceptanceShape(FigureShape):
    """How often the judge names a relation that is not there."""

    pairs: Words = ""


class JudgeShape(Struct):
    """The judge and its calibration."""

    name: Words
    accuracy: Share | None
    model: Words | None = None
    sha256: Words | None = None
    judges: list[CalibratedShape] = []
    ci95: tuple[Share, Share] | None = None
    n: Count = 0
    per_predicate: dict[str, FigureShape] = {}
    false_acceptance: dict[str, FalseAcceptanceShape] = {}
    not_covered: dict[str, Count] = {}
    classes: list[Words] = []
    calibrated_on: Words = ""
    note: Words | None = None

    def __post_init__(self) -> None:
        """Check that it says on what it was calibrated, or why it was not."""
        if not self.note and not self.calibrated_on:
            raise ValueError("the judge has neither calibrated_on nor a note")


class HeldOutShape(Struct):
    """Combinations that were not trained on beside the others."""

    held_out: MacroShape
    seen: MacroShape


class ByObjectsShape(Struct):
    """Relations by whether both of their objects are found."""

    right_and_found: MacroShape | None = None
    right_if_found: FigureShape | None = None
    right_if_missing: FigureShape | None = None


class CorrectedShape(MacroShape, kw_only=True):
    """Relation accuracy corrected for the judge's errors, and what it was corrected from."""

    raw: MacroShape
    decided: FigureShape
    of_all: tuple[Share, Share]


class ArmShape(Struct):
    """One arm."""

    relation_accuracy: MacroShape
    corrected: CorrectedShape | None = None
    objects_right: FigureShape | None = None
    all_triples_right: dict[str, FigureShape] = {}
    given_graph_accuracy: MacroShape | None = None
    held_out_combinations: HeldOutShape | None = None
    relation_by_objects: ByObjectsShape | None = None


class WinRateShape(FigureShape):
    """A win rate and the kind of its negatives."""

    negatives: Words = ""


class RankingShape(FigureShape):
    """The ranking accuracy, the errors behind it and their gaps."""

    error_graph: Number | None = None
    error_null_graph: Number | None = None
    errors: dict[str, LevelShape] = field(default_factory=dict)
    gap: dict[str, LevelShape] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check that there are both errors or neither."""
        if (self.error_graph is None) != (self.error_null_graph is None):
            raise ValueError("error_graph and error_null_graph belong together")


class ComparisonShape(Struct):
    """A paired comparison of two arms, with an exact sign test over pictures."""

    difference: Share
    ci95: tuple[Share, Share]
    p_sign: Share
    p_holm: Share
    n: Count
    clusters: Count
    n_discordant: Count
    better: Count
    smallest_detectable_difference: Share | None = None


class RateShape(Struct):
    """How many statements of a kind a judge accepts."""

    value: Share
    ci95: tuple[Share, Share]
    n: Count
    clusters: Count


class FalsePositivesShape(RateShape):
    """How many false statements a judge accepts, and which they were."""

    of: Literal["false_accepted", "swapped_accepted"]


class RatesShape(Struct):
    """Error rates of a judge about one predicate."""

    source: Words
    sensitivity: RateShape
    false_positives: FalsePositivesShape


class CorrectionShape(Struct):
    """By which error rates figures are corrected, and why others are not."""

    rates: dict[str, RatesShape]
    impossible: dict[str, Words]


class ChanceShape(Struct):
    """What no graph reaches."""

    random_drawing: FigureShape | None = None


class CutShape(Struct):
    """How many prompts of an arm are longer than the text encoder reads."""

    cut: Count
    pictures: Count


class CutsShape(Struct):
    """The same of all arms."""

    arms: dict[str, CutShape]
    limit: Count


class ItemsShape(Struct):
    """What was evaluated."""

    rows: Count
    of: Count
    seeds_per_item: Count


class BaseCheckShape(Struct):
    """Whether the base is the adapter's."""

    status: Literal["same", "other", "unverified"]
    text: str


class ModelShape(Struct):
    """The base."""

    model_id: Words | None
    fingerprint: Words | None
    base_check: BaseCheckShape | None = None


class AdapterShape(Struct):
    """The adapter."""

    path: Words | None
    fingerprint: Words | None


class OverlapShape(Struct):
    """What of the test data the adapter has seen."""

    text: Words | None = None


class DataShape(Struct):
    """The test data."""

    path: Words
    sha256: Words
    overlap: OverlapShape | None = None


class SeedsShape(Struct):
    """The random numbers."""

    seed: int
    noise: Words


class SettingsShape(Struct):
    """How pictures were drawn."""

    steps: Count
    graph_scale: Number
    height: Count | None = None
    width: Count | None = None
    images_dir: Words | None = None


class TimingShape(Struct):
    """How long it took."""

    seconds: Number


class PictureResultsShape(Struct):
    """The ``results.jsonl`` from which the figures were made."""

    lines: Count
    sha256: Words


class BasePromptsShape(Struct):
    """Wordings in which the base was told graphs, and those that were chosen."""

    data: Words
    rows: Count
    chosen: dict[str, Words]
    wordings: dict[str, dict[str, Any]]


class WholeGraphShape(Struct):
    """How many pictures of one arm show whole graphs."""

    all_right: FigureShape


class GraphKindShape(Struct):
    """Figures of graphs of one kind."""

    arms: dict[Arm, WholeGraphShape]
    contradiction: dict[str, FigureShape] | None = None


class ResultsShape(Struct):
    """``evaluation_results.json``."""

    judge: JudgeShape
    arms: dict[Arm, ArmShape]
    ranking_accuracy: RankingShape
    items: ItemsShape
    generator: Words
    adapter: AdapterShape
    model: ModelShape
    data: DataShape
    seeds: SeedsShape
    settings: SettingsShape
    command: Words
    versions: dict[str, Words]
    timing: TimingShape
    win_rate: WinRateShape | None = None
    win_rate_by_kind: dict[str, WinRateShape] = {}
    differences: dict[str, FigureShape] = {}
    contradiction: dict[str, FigureShape] | None = None
    chance: ChanceShape | None = None
    prompts_cut: CutsShape | None = None
    base_prompts: BasePromptsShape | None = None
    calibration: CalibrationShape | None = None
    correction: CorrectionShape | None = None
    graph_sensitivity: dict[str, dict[str, LevelShape]] = {}
    quality: dict[str, dict[Arm, DistanceShape]] | None = None
    comparisons: dict[Arm, ComparisonShape] = {}
    picture_results: PictureResultsShape | None = None
    graph_kinds: dict[str, GraphKindShape] = {}

    def __post_init__(self) -> None:
        """Check what the report names."""
        if "sgflux" not in self.versions:
            raise ValueError("versions does not name sgflux")

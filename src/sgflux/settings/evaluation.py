"""Settings of ``sgflux eval``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from sgflux.errors import SgfluxError
from sgflux.settings.checks import expect_least, from_flat
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import DrawingSettings, SizeSettings
from sgflux.settings.flat import Group, Input
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import AdaptedModel, ModelSource
from sgflux.settings.quality import QualitySettings
from sgflux.settings.shared import Crop, ImagesDir, OutputDir, VocabularyFile
from sgflux.settings.trained_adapter import TrainedAdapter

ArmName = Literal[
    "base_neutral",
    "base_relational",
    "null_graph",
    "graph",
    "negative_graph",
    "shuffled_graph",
    "contradiction",
]
"""The arms; :class:`sgflux.evaluation.arms.Arm` says what each of them is."""

ARM_NAMES: tuple[ArmName, ...] = get_args(ArmName)
"""All of them, in the order in which they are drawn."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Measure whether pictures show the relation that the graph states."""

    data: Input[Path]
    """Test examples as a JSONL file, of pictures that were used neither for training nor for
    selection."""
    images_dir: ImagesDir = None
    vocabulary: VocabularyFile = None
    output_dir: OutputDir = Path("evaluation")
    """Folder of the pictures, the figures and the report. Pictures that are there already are kept
    if they were made as is asked for now."""
    judge: str = "world"
    """Judge that reads the pictures: 'world' is that of the bundled world, 'geometry' compares the
    boxes of a detector, 'vqa' asks a vision-language model, 'clip' compares captions, and 'none'
    leaves the pictures unread. Several judges with commas between them share the predicates, and
    the first one that covers a predicate takes it (docs/judges.md)."""
    calibration: Input[Path | None] = None
    """File of 'sgflux eval calibrate' with the figures of this judge. They stand beside its
    verdicts, and predicates for which it does not beat the majority answer are marked."""
    arms: tuple[ArmName, ...] = ARM_NAMES
    """Arms that are drawn (docs/evaluation.md)."""
    base_prompts: Input[Path | None] = None
    """Validation examples as a JSONL file, other ones than the test examples. The base draws them
    in several wordings, and in the arm with relational text it is then told each test graph in the
    wording that the judge finds best for its number of statements (docs/evaluation.md). By default
    the wording is plain, like "a photo of man riding horse and man wearing hat"."""
    items: int = 0
    """Number of test examples, balanced by predicate; 0 means all."""
    seeds_per_item: int = 1
    """Number of pictures of each test example in each arm, with different noise."""
    crop: Crop = "auto"
    """Way in which a real photo is brought to the size of the pictures for the ranking accuracy: as
    in training (see 'sgflux train --help')."""
    ranking_sigmas: int = 4
    """Number of noise levels of the ranking accuracy, spread evenly over 0..1; 0 leaves it out."""
    seed: int = 0
    """Random seed of noise, negatives and the false statements that the judge is asked about."""
    boxes: Literal["predicted", "none", "oracle"] | None = None
    """Boxes of the objects, for an adapter that reads boxes: 'predicted' from the graph that an arm
    is given, or 'none'. 'oracle' gives the arms with the true graph the boxes of the test pictures,
    which reveal the relations, so their figures are an upper bound. By default boxes are predicted
    if the adapter has a predictor."""
    generator: Literal["model", "oracle", "blind", "swapped"] = "model"
    """Source of the pictures: 'model' is the model under test, and the three others test the
    evaluation itself on the bundled world's data."""
    allow_seen_data: bool = False
    """Evaluate although the adapter was trained or selected on part of the test data. The report
    then says on how much (docs/measurement.md)."""
    judges: Group[JudgeSettings] = field(default_factory=JudgeSettings)
    """Judges."""
    trained: Group[TrainedAdapter] = field(default_factory=TrainedAdapter)
    """Adapter."""
    model: AdaptedModel = field(default_factory=ModelSource)
    """Base model."""
    drawing: Group[DrawingSettings] = field(default_factory=DrawingSettings)
    """Drawing."""
    size: Group[SizeSettings] = field(default_factory=SizeSettings)
    """Size and guidance."""
    quality: Group[QualitySettings] = field(default_factory=QualitySettings)
    """Quality."""
    compute: Group[SamplingCompute] = field(default_factory=SamplingCompute)
    """Device and precision."""
    memory: Group[MemorySettings] = field(default_factory=MemorySettings)
    """Memory."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        unknown = [name for name in self.arms if name not in ARM_NAMES]
        if unknown or not self.arms or len(set(self.arms)) < len(self.arms):
            raise SgfluxError(
                f"arms must be different ones of {list(ARM_NAMES)}, got {list(self.arms)}"
            )
        expect_least(self, 0, "items", "ranking_sigmas", "seed")
        expect_least(self, 1, "seeds_per_item")
        if self.generator != "model" and self.trained.adapter is not None:
            raise SgfluxError(f"adapter has no effect with generator {self.generator!r}")
        if self.boxes is not None and self.trained.adapter is None:
            raise SgfluxError(f"boxes {self.boxes!r} have no effect without an adapter")

        if self.base_prompts is not None:
            for name, without, is_there in (
                ("generator", self.generator, self.generator == "model"),
                ("judge", self.judge, self.judge != "none"),
                ("arms", list(self.arms), "base_relational" in self.arms),
            ):
                if not is_there:
                    raise SgfluxError(
                        f"base_prompts has no effect with {name} {without!r}: it chooses, by a "
                        "judge, what the model is told in the arm 'base_relational'"
                    )
        for name, arm in (("quality_features", "base_neutral"), ("lpips", "graph")):
            given = getattr(self.quality, name) is not None
            if given and (arm not in self.arms or len(self.arms) < 2):
                raise SgfluxError(
                    f"{name} has no effect without the arm {arm!r} and another one to compare it "
                    f"with, got {list(self.arms)}"
                )

    @classmethod
    def from_flat(cls, **settings: Any) -> EvalConfig:
        """Build from the settings of all groups side by side.

        Raises:
            ConfigError: on an unknown or missing setting, or as the constructors.
        """
        return from_flat(cls, settings)

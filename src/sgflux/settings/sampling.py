"""Settings of ``sgflux sample`` and ``sgflux saliency``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tyro

from sgflux.errors import SgfluxError
from sgflux.settings.checks import expect_defaults, expect_least, from_flat
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import DrawingSettings, SizeSettings
from sgflux.settings.flat import Group, Input
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model import expect_seeds
from sgflux.settings.model_source import AdaptedModel, ModelSource
from sgflux.settings.shared import OutputDir
from sgflux.settings.trained_adapter import TrainedAdapter
from sgflux.settings.vocabulary import VocabularySettings


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Draw pictures from scene graphs, or from text alone."""

    graph: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Graph to draw, like "man, riding, horse; man, wearing, hat", or in JSON. The flag may be
    given several times."""
    graph_file: Input[Path | None] = None
    """File with one or many graphs to draw: JSON as sg2im writes it, JSON lines such as the rows of
    a data set, or one graph a line in the form of --graph."""
    prompt: str | None = None
    """Text of all pictures. By default it names the objects of each graph, like "a photo of man and
    horse"."""
    output_dir: OutputDir = Path("samples")
    """Folder of the pictures and their contact sheet. Files of the same names are replaced."""
    num_images: int = 4
    """Number of pictures of each graph. Picture i has the noise of the seed --seed + i, for every
    graph."""
    seed: int = 0
    """Random seed of the first picture's noise."""
    boxes: str | None = None
    """Boxes of the objects, for an adapter that reads boxes: 'predicted', 'none', or a JSON table
    of left, top, width and height as shares of the picture, like {"man": [0.1, 0.2, 0.3, 0.5]}. By
    default boxes are predicted if the adapter has a predictor."""
    max_sequence_length: int | None = None
    """Number of text tokens of a prompt. By default it is as many as the adapter was trained with,
    or without an adapter as many as the tokenizer allows, at most 256."""
    compare: bool = False
    """Draw each picture also without the graph, and by the base model without the adapter."""
    vocabulary: Group[VocabularySettings] = field(default_factory=VocabularySettings)
    """Vocabulary."""
    trained: Group[TrainedAdapter] = field(default_factory=TrainedAdapter)
    """Adapter."""
    model: AdaptedModel = field(default_factory=ModelSource)
    """Base model."""
    drawing: Group[DrawingSettings] = field(default_factory=DrawingSettings)
    """Drawing."""
    size: Group[SizeSettings] = field(default_factory=SizeSettings)
    """Size and guidance."""
    compute: Group[SamplingCompute] = field(default_factory=SamplingCompute)
    """Device and precision."""
    memory: Group[MemorySettings] = field(default_factory=MemorySettings)
    """Memory."""

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that every setting has an effect."""
        has_graph = bool(self.graph) or self.graph_file is not None
        if not has_graph and self.prompt is None:
            raise SgfluxError("there is nothing to draw: give a graph, a prompt or both")
        if has_graph and self.trained.adapter is None:
            raise SgfluxError("a graph needs an adapter to read it: give adapter, too")
        if self.compare and not has_graph:
            raise SgfluxError("compare needs a graph to compare with")
        if not has_graph:
            expect_defaults(self, "without a graph", "boxes")
            if self.drawing.graph_scale != 1:
                expect_defaults(self.drawing, "without a graph", "graph_scale")
            expect_defaults(self.vocabulary, "without a graph", "vocabulary")
        expect_least(self, 1, "num_images", "max_sequence_length")
        expect_seeds(self.seed, self.num_images)

    @classmethod
    def from_flat(cls, **settings: Any) -> SampleConfig:
        """Build from the settings of all groups side by side.

        Raises:
            ConfigError: on an unknown setting, or as the constructors.
        """
        return from_flat(cls, settings)


SaliencyMethod = Literal["difference", "attention"]


@dataclass(frozen=True, kw_only=True)
class SaliencyConfig:
    """Show which parts of a picture depend on which parts of a scene graph."""

    image: Input[Path]
    """Picture whose saliency maps are drawn."""
    graph: str
    """Graph to look for, like "man, riding, horse; man, wearing, hat"."""
    prompt: str | None = None
    """Text that the model is given. By default it names the objects, like "a photo of man and
    horse"."""
    output_dir: OutputDir = Path("saliency")
    """Folder of the heat maps and their contact sheet. Files of the same names are replaced."""
    method: SaliencyMethod = "difference"
    """Kind of the maps: 'difference' shows how far the velocities of the model with and without the
    word are apart, and 'attention' is concept attention, which the saliency losses read."""
    sigma: float = 0.5
    """Noise level at which the model sees the picture: 0 is the picture, 1 is pure noise."""
    seed: int = 0
    """Random seed of the noise."""
    blocks: tuple[int, ...] = ()
    """Indices of the double blocks whose concept attention is averaged. By default they are the
    later half, 9 to 18 of FLUX's 19."""
    raw: bool = False
    """Take the softmax of the raw scores of concept attention, as the paper does, which is mostly 0
    or 1 in each block."""
    vocabulary: Group[VocabularySettings] = field(default_factory=VocabularySettings)
    """Vocabulary."""
    trained: Group[TrainedAdapter] = field(default_factory=TrainedAdapter)
    """Adapter."""
    model: AdaptedModel = field(default_factory=ModelSource)
    """Base model."""
    size: Group[SizeSettings] = field(default_factory=SizeSettings)
    """Size and guidance."""
    compute: Group[SamplingCompute] = field(default_factory=SamplingCompute)
    """Device and precision."""
    memory: Group[MemorySettings] = field(default_factory=MemorySettings)
    """Memory of the device."""

    def __post_init__(self) -> None:
        """Check the noise level, the seed, and that every setting has an effect."""
        if self.method == "attention" and self.memory.offload_blocks:
            raise SgfluxError(
                "offload_blocks does not work with method 'attention', which looks into all "
                "blocks; drop one, or give quantize"
            )
        if self.method != "attention":
            expect_defaults(self, "without method 'attention'", "blocks", "raw")
        if not 0 <= self.sigma <= 1:
            raise SgfluxError(f"sigma must lie between 0 and 1, got {self.sigma}")
        expect_seeds(self.seed, 1)

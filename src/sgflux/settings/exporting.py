"""Settings of ``sgflux export`` and ``sgflux import``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from sgflux.errors import SgfluxError
from sgflux.settings.adapter import GraphMode, LoraFormat
from sgflux.settings.checks import Count, Must, expect_defaults, typed
from sgflux.settings.drawing import RecommendedDrawing, RecommendedScale, RecommendedSteps
from sgflux.settings.flat import Flag, Group, Input
from sgflux.settings.model_source import ModelSource
from sgflux.settings.shared import OptionalOutputFile, OutputDir

Strength = Annotated[float, Must("not be 0, which leaves no LoRA", lambda value: value != 0)]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write an adapter's LoRA for other programs, or publish the whole adapter."""

    adapter: Path
    """Folder of a trained adapter (final/ of a run), or 'tiny', which comes with sgflux."""
    format: LoraFormat | None = None
    """Layout of the file of --output. 'kohya' is read by ComfyUI, sd-scripts and diffusers, with
    alpha beside each layer. 'diffusers' is read by diffusers, ComfyUI, ai-toolkit and sd-scripts'
    converter, with alpha in the weights. 'comfyui' is read by ComfyUI alone, with alpha in the
    weights."""
    output: OptionalOutputFile = None
    """File of weights (.safetensors) to write in the layout of --format, outside of --output-dir. A
    file that is there is replaced, unless it is in the adapter's folder."""
    scale: Strength = 1.0
    """Strength of the LoRA in the file of --output, relative to what was trained. It is in the
    weights and so acts in every program that reads the file."""
    lora_rank: Count | None = None
    """Rank to which the LoRA is reduced in all that is written: of every layer, the nearest change
    of that rank is kept, by singular value decomposition. By default the LoRA keeps its rank."""
    output_dir: Annotated[Path | None, Flag(former=("folder",))] = None
    """Folder for the whole adapter as it is published: weights, model card, and pipeline.py, with
    which diffusers draws graphs. It must be new, empty, or hold an older adapter."""
    half: bool = False
    """Round the weights of the published adapter to float16, which halves its files."""
    default_steps: RecommendedSteps | None = None
    """Number of steps with which the published adapter is drawn where the user gives none. By
    default it is as the adapter has it."""
    default_graph_scale: RecommendedScale | None = None
    """Graph scale with which the published adapter is drawn where the user gives none. By default
    it is as the adapter has it."""
    default_stochastic_sampling: bool | None = None
    """Whether the published adapter is drawn with new noise in each step where the user does not
    say it. By default it is as the adapter has it."""
    push_to_hub: str | None = None
    """Repository on the hub (user/name) as which the whole adapter is published."""
    evaluation: Input[Path | None] = None
    """File evaluation_results.json of this very adapter, or its folder. Its judged figures stand in
    the published model card."""
    license: str | None = None
    """Licence in the published model card, by the hub's name (apache-2.0, cc-by-4.0, other). By
    default it is the base's where that is known."""
    private: bool = False
    """Make the repository of --push-to-hub private if it is created."""

    def __post_init__(self) -> None:
        """Check that there is something to do, and that every setting has an effect."""
        if (self.format is None) != (self.output is None):
            raise SgfluxError("format and output belong together: give both or neither")
        if self.format is None and not self.publishes:
            raise SgfluxError(
                "there is nothing to export: give --format and --output, --output-dir, or "
                "--push-to-hub"
            )
        if not self.publishes:
            of_published = ("evaluation", "license", "half")
            defaults = ("default_steps", "default_graph_scale", "default_stochastic_sampling")
            expect_defaults(self, "without output_dir or push_to_hub", *of_published, *defaults)
        typed("scale", self.scale, Strength)
        typed("lora_rank", self.lora_rank, Count | None)
        typed("default_steps", self.default_steps, RecommendedSteps | None)
        typed("default_graph_scale", self.default_graph_scale, RecommendedScale | None)
        changing = " and ".join(name for name in ("half", "lora_rank") if getattr(self, name))
        if changing and self.evaluation is not None:
            raise SgfluxError(
                f"evaluation has the figures of the weights before {changing}; export with "
                f"{changing} and without evaluation, evaluate that folder, and then export it "
                "with its own evaluation"
            )
        if self.format is None:
            expect_defaults(self, "without format and output", "scale")
        if self.push_to_hub is None:
            expect_defaults(self, "without push_to_hub", "private")

    @property
    def publishes(self) -> bool:
        """Whether the whole adapter is published."""
        return self.push_to_hub is not None or self.output_dir is not None

    @property
    def drawing(self) -> RecommendedDrawing:
        """How the published adapter is to be drawn."""
        return RecommendedDrawing(
            steps=self.default_steps,
            graph_scale=self.default_graph_scale,
            stochastic_sampling=self.default_stochastic_sampling,
        )


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Make an adapter of a .pt file of the earlier training script."""

    legacy: Input[Path]
    """Checkpoint (.pt) that the earlier training script wrote."""
    output_dir: OutputDir
    """Folder of the adapter. It must be new, empty, or hold an older adapter."""
    cgip_ckpt: Input[Path]
    """Checkpoint of SGDiff's encoder (sip_vg.pt) with which the adapter was trained."""
    vocab_path: Input[Path]
    """File vocab.json that the cgip checkpoint was trained with."""
    graph_mode: GraphMode = "token"
    """Way in which the graph entered the model in the earlier training: 'token' added tokens to the
    text stream, and 'temb' added to the timestep embedding."""
    lora_alpha: float | None = None
    """Alpha of the LoRA in the earlier training, which the checkpoint does not name. By default it
    is the rank."""
    max_sequence_length: int = 256
    """Number of text tokens of a prompt in the earlier training."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """Base model."""

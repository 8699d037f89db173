"""The whole configuration of ``sgflux train``: groups of settings, checked one against another.

Users write the settings side by side, as flags or in a file, and so do checkpoints; see
:mod:`sgflux.settings.flat`. Code below the run takes the one group that it reads.
"""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import Any

from sgflux.settings.adapter import AdapterSettings
from sgflux.settings.blocks import BlockSettings
from sgflux.settings.checks import ConfigError, expect_defaults, from_flat, settings
from sgflux.settings.compute import ComputeSettings
from sgflux.settings.conditions import ConditionSettings
from sgflux.settings.data import DataSettings
from sgflux.settings.files import read_settings_file
from sgflux.settings.flat import Group, Prefixless, as_json, flat_values
from sgflux.settings.flow import FlowSettings
from sgflux.settings.graph_encoder import BOX_SETTINGS, BOX_SETTINGS_OF_TOKENS, GraphEncoderSettings
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.losses import LossSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.optimizer import OptimizerSettings
from sgflux.settings.pictures import PictureSettings
from sgflux.settings.processes import ProcessSettings
from sgflux.settings.run import RunSettings
from sgflux.settings.samples import SampleGraphSettings
from sgflux.settings.start import StartSettings
from sgflux.settings.validation import SelectBy, ValidationSettings


@settings
class TrainConfig:
    """Train a scene-graph adapter on JSONL + images."""

    data: Group[DataSettings]
    """Data."""
    pictures: Group[PictureSettings] = field(default_factory=PictureSettings)
    """Picture size."""
    conditions: Group[ConditionSettings] = field(default_factory=ConditionSettings)
    """Prompt and graph."""
    model: Group[ModelSource] = field(default_factory=ModelSource)
    """Base model."""
    start: Group[StartSettings] = field(default_factory=StartSettings)
    """Start and resume."""
    encoder: Group[GraphEncoderSettings] = field(default_factory=GraphEncoderSettings)
    """Graph encoder."""
    adapter: Group[AdapterSettings] = field(default_factory=AdapterSettings)
    """LoRA adapter."""
    flow: Group[FlowSettings] = field(default_factory=FlowSettings)
    """Noise level."""
    losses: Prefixless[LossSettings] = field(default_factory=LossSettings)
    """Losses."""
    optimizer: Group[OptimizerSettings] = field(default_factory=OptimizerSettings)
    """Training length and optimizer."""
    compute: Group[ComputeSettings] = field(default_factory=ComputeSettings)
    """Device and precision."""
    memory: Group[MemorySettings] = field(default_factory=MemorySettings)
    """Memory."""
    blocks: Group[BlockSettings] = field(default_factory=BlockSettings)
    """Checkpointing and compilation."""
    processes: Group[ProcessSettings] = field(default_factory=ProcessSettings)
    """Several processes."""
    validation: Group[ValidationSettings] = field(default_factory=ValidationSettings)
    """Validation."""
    samples: Group[SampleGraphSettings] = field(default_factory=SampleGraphSettings)
    """Sample graphs."""
    judges: Group[JudgeSettings] = field(default_factory=JudgeSettings)
    """Judge of the sample graphs."""
    run: Group[RunSettings]
    """Output and logging."""

    def __post_init__(self) -> None:
        """Check the groups against each other."""
        # What is stored says which base was meant, whatever a later version means by default.
        object.__setattr__(self, "model", self.model.named())
        self._check_samples()
        self._check_validation()
        self._check_memory()
        self._check_pairs()
        if self.start.init_from is None:  # which says itself how its boxes are read
            self.check_boxes()

    def _check_validation(self) -> None:
        if self.validation.early_stopping_patience and self.selection == "last":
            raise ConfigError(
                "early_stopping_patience needs a figure that can get better, and select_by is "
                "'last', which is the default with lambda_words; give another select_by"
            )
        if self.data.val_jsonl is not None:
            return
        if self.losses.ranking.measures_confusion:
            raise ConfigError(
                "hard negatives of the model's own errors are measured on the validation set: give "
                "val_jsonl, or hard_negatives_from 'classifier'"
            )
        names = ["val_examples", "val_sigmas"]
        if self.samples.sample_graphs is None:
            names.append("val_every")
        if self.selection != "obeyed":
            names += ["select_by", "early_stopping_patience"]
        expect_defaults(self.validation, "without val_jsonl", *names, more=" or give val_jsonl")

    def _check_samples(self) -> None:
        given = self.samples.sample_graphs is not None
        if not given:
            names = ("detector", "judge_model", "judge_batch_size")
            expect_defaults(self.judges, "without sample_graphs", *names)
        elif self.run.sample_steps == 0:
            raise ConfigError("sample_graphs are drawn in sample_steps steps; give at least 1")
        if self.selection == "obeyed" and (not given or self.judge is None):
            raise ConfigError(
                "select_by 'obeyed' is the share of statements that a judge reads in the pictures "
                "of sample_graphs; give sample_graphs, and a judge other than 'none'"
            )

    def _check_memory(self) -> None:
        if self.blocks.recompute_every == 1:
            return
        if self.memory.quantize in ("int8", "float8"):
            # Measured: what torchao keeps for the backward pass is each matrix at full size.
            raise ConfigError(
                f"quantize {self.memory.quantize!r} saves memory only with gradient_checkpointing "
                "of every block: otherwise each matrix is kept at full size for the backward pass"
            )
        if self.memory.offload_blocks:
            raise ConfigError(
                "offload_blocks saves memory only with gradient_checkpointing of every block: "
                "otherwise what was fetched is kept on the device for the backward pass"
            )

    def _check_pairs(self) -> None:
        """Refuse settings that do not work with one another."""
        quantize, ranker = self.memory.quantize, self.losses.ranking.ranker
        quantized = quantize != "none" and f"quantize {quantize!r}"
        compiled = self.blocks.compile and "compile"
        offload = self.memory.offload_blocks and "offload_blocks"
        saliency = self.losses.reads_saliency and "saliency (ranker, gen_rel_from)"
        shard = self.processes.shard_base and "shard_base"
        buckets = self.data.aspect_buckets and "aspect_buckets"
        power = self.optimizer.statement_power and "statement_power"
        squashed = self.pictures.crop == "none" and "crop 'none'"
        classifier = ranker != "flow" and f"ranker {ranker!r}"
        flow_scale = self.flow.flow_scale != 1 and "flow_scale"
        object_share = self.flow.object_share and "object_share"
        weighted = self.losses.weighting.alpha_gen_rel and "alpha_gen_rel"
        for one, other, why in (
            (compiled, quantized, "drop one"),
            (offload, compiled, "a compiled block does not fetch its weights; drop one"),
            (offload, saliency, "concepts look into blocks whose weights are away; drop one"),
            (shard, quantized, "quantised matrices cannot be divided; drop one"),
            (shard, offload, "both keep the weights elsewhere; drop one"),
            (buckets, squashed, "each picture keeps its shape by a crop; use 'auto'"),
            (buckets, power, "every batch has pictures of one shape; drop one"),
            (buckets, classifier, "a classifier is trained on pictures of one size; use 'flow'"),
            (flow_scale, weighted, "its target is that of the unweighted error; drop one"),
            (object_share, weighted, "both weight the error of the same tokens; drop one"),
            (buckets, compiled, "the blocks would be compiled again for every shape; drop one"),
        ):
            if one and other:
                raise ConfigError(f"{one} does not work with {other}: {why}")

    def check_boxes(self) -> None:
        """Check that boxes are read where a setting is about them, and places are those of tokens.

        A run with ``init_from`` has its box settings from the adapter, and is checked after that.

        Raises:
            ConfigError: naming a setting without effect, or two that do not go together.
        """
        self.encoder.check_boxes()
        if self.losses.layout.lambda_layout and not self.encoder.takes_layouts:
            raise ConfigError(
                "lambda_layout trains a predictor of boxes that nothing would read; give "
                f"{' or '.join(BOX_SETTINGS)} as well"
            )
        for name in BOX_SETTINGS_OF_TOKENS:
            if getattr(self.encoder, name) and self.adapter.graph_mode != "token":
                raise ConfigError(
                    f"{name} concerns graph tokens, of which graph_mode "
                    f"{self.adapter.graph_mode!r} has none; drop one"
                )

    @property
    def selection(self) -> SelectBy:
        """What ``select_by`` says, after the default is applied."""
        return self.validation.select_by or self.losses.select_by

    @property
    def judge(self) -> str | None:
        """Names of the judges of the sample graphs; None where nobody judges."""
        own = "world" if self.model.model_id == "tiny" else "none"
        names = self.samples.judge or own
        return None if self.samples.sample_graphs is None or names == "none" else names

    @classmethod
    def from_flat(cls, **settings: Any) -> TrainConfig:
        """Build from the settings of all groups side by side, as flags and files have them.

        Raises:
            ConfigError: on an unknown or missing setting, or as the constructors.
        """
        return from_flat(cls, settings)

    def changed(self, **settings: Any) -> TrainConfig:
        """The same configuration with some settings, named without their group, changed.

        Raises:
            ConfigError: as :meth:`from_flat`.
        """
        return from_flat(type(self), {**flat_values(self), **settings})

    def to_json(self) -> dict[str, Any]:
        """Every setting as plain JSON, side by side; :meth:`from_flat` gives an equal config."""
        return as_json(flat_values(self))


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a training run in a JSON or TOML file, which need not be all of them.

    Raises:
        ConfigError: as :func:`sgflux.settings.files.read_settings_file`.
    """
    return read_settings_file(path, TrainConfig)

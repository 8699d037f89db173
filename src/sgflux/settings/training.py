"""Typed, frozen settings: checked when built, shown by ``--help``, stored in every checkpoint.

Only the command line, the trainer and the evaluator read them; every other room takes plain keyword
arguments. A setting that would have no effect is an error here, not a shrug.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sgflux.settings import ConfigError, expect, expect_known, is_number, typed_fields
from sgflux.settings.files import read_settings_file
from sgflux.settings.losses import LossConfig
from sgflux.settings.model import FLUX_SCHNELL
from sgflux.settings.model_source import ModelSource
from sgflux.settings.training_checks import (
    check_buckets,
    check_memory_savers,
    check_noise_levels,
    check_resume,
)

__all__ = [
    "DEFAULT_EPOCHS",
    "FLUX_SCHNELL",
    "ConfigError",
    "EncoderKind",
    "GraphMode",
    "LossConfig",
    "PromptKind",
    "PromptMix",
    "TrainConfig",
    "read_settings",
]

DEFAULT_EPOCHS = 20

GraphMode = Literal["token", "temb"]
EncoderKind = Literal["native", "cgip"]
PromptKind = Literal["neutral", "relational", "empty"]


@dataclass(frozen=True, kw_only=True)
class PromptMix:
    """How often each kind of text accompanies an example; the weights need not sum to 1."""

    neutral: float = 1.0
    """Weight of "a photo of man and horse": the relation is left to the graph."""
    relational: float = 0.0
    """Weight of "a photo of man riding horse": text that already says what the graph says."""
    empty: float = 0.0
    """Weight of the empty prompt."""

    def __post_init__(self) -> None:
        """Check the weights."""
        for name, weight in self.weights().items():
            expect(is_number(weight) and weight >= 0, f"prompt_mix.{name}", weight, "be >= 0")
        if not self.kinds():
            raise ConfigError("prompt_mix: at least one of the three weights must be > 0")

    def weights(self) -> dict[PromptKind, float]:
        """Kind -> weight, in the order of the fields."""
        return {
            "neutral": self.neutral,
            "relational": self.relational,
            "empty": self.empty,
        }

    def kinds(self) -> tuple[PromptKind, ...]:
        """The kinds that occur, in the order of the fields."""
        return tuple(kind for kind, weight in self.weights().items() if weight > 0)

    @property
    def heaviest(self) -> PromptKind:
        """The most frequent kind; of equally frequent ones, the first."""
        weights = self.weights()
        return max(weights, key=lambda kind: weights[kind])


SelectBy = Literal["val_loss", "ranking_accuracy", "last"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a scene-graph adapter on JSONL + images."""

    # -- data ----------------------------------------------------------------------------------
    train_jsonl: Path
    """Training examples, one JSON object a line."""
    val_jsonl: Path | None = None
    """Validation examples, disjoint by image; without them no best checkpoint is chosen."""
    output_dir: Path
    """Folder of the run: checkpoints, logs and the finished adapter; must be new or empty."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of each JSONL."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    height: int | None = None
    """Height of the training images in pixels, a multiple of 16 for FLUX; None: the model's own
    size, at most 512 (512 for FLUX, 64 for tiny)."""
    width: int | None = None
    """Width of the training images in pixels; None: the model's own size, at most 512."""
    crop: Literal["auto", "none", "center", "union"] = "auto"
    """How a photo gets that shape: 'auto' keeps its own (a window around the boxes of its objects
    where there are any, else the middle); 'none' squashes all of it."""
    aspect_buckets: bool = False
    """Give every picture the size of the nearest ratio among several of about the area height x
    width, with ratios up to 2:1, so that less of it is cut off; each batch has one size."""
    latent_cache_dir: Path | None = None
    """Folder that keeps latents and text features between runs; None: keep them in memory."""
    prompt_mix: PromptMix = field(default_factory=PromptMix)
    """Which text goes with an example."""
    prompt_relation_dropout: float = 0.0
    """Probability that a relational text is replaced by the neutral one."""
    null_graph_probability: float = 0.1
    """Probability that an example is shown without its graph."""

    # -- model ---------------------------------------------------------------------------------
    model_id: str = FLUX_SCHNELL
    """FLUX on the hub, a diffusers folder, or 'tiny', the model that comes with the package."""
    components: str | None = None
    """If model_id is a single .safetensors file: the folder or hub id that has all else."""
    autoencoder: Path | None = None
    """The autoencoder as a file of its own (ae.safetensors), if model_id is a single file."""
    text_encoder: Path | None = None
    """The first text encoder, CLIP, as a file of its own (clip_l.safetensors), if model_id is a
    single file."""
    text_encoder_2: Path | None = None
    """The second text encoder, T5, as a file of its own (t5xxl_fp16.safetensors), if model_id is a
    single file."""
    revision: str | None = None
    """Branch, tag or commit of the hub's repository; None: its main branch."""
    allow_other_base: bool = False
    """With --resume or --init-from: take an adapter that was trained on another base; log and
    bundle then name both (docs/resume.md)."""
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'; 'auto' takes an accelerator if there is one."""
    encoder_device: str | None = None
    """Device of the text encoders and the autoencoder; 'cpu' leaves the accelerator's memory free;
    None: that of --device."""
    dtype: Literal["fp32", "bf16"] = "bf16"
    """Precision of the frozen weights and of the arithmetic; trained weights stay in float32."""
    max_sequence_length: int | None = None
    """Text tokens per prompt; None: what the tokenizer allows, at most 256."""
    guidance: float | None = None
    """Guidance that a guidance-distilled model (FLUX.1-dev) is told; None: 1.0 for such a one."""
    training_adapter: str | None = None
    """A frozen LoRA that is active in training and absent in sampling, against the blur that plain
    training brings to a few-step model: a .safetensors file, a folder, or a hub id[@revision]. The
    teacher of lambda_words has it, too."""

    # -- adapter -------------------------------------------------------------------------------
    graph_mode: GraphMode = "token"
    """How the graph enters: as tokens of the text stream, or added to the timestep embedding."""
    graph_encoder: EncoderKind | None = None
    """'native' (any words) or 'cgip'; None: 'cgip' if its checkpoint is given, else 'native'."""
    cgip_ckpt: Path | None = None
    """SGDiff's sip_vg.pt, for the cgip encoder."""
    vocab_path: Path | None = None
    """The vocab.json that the cgip checkpoint was trained with."""
    oov: Literal["error", "skip", "map"] = "error"
    """What to do about objects that the cgip encoder lacks: stop, leave out, or use oov_map."""
    oov_map: Path | None = None
    """For oov 'map': a JSON object {object: the cgip encoder's object that stands for it}."""
    train_graph_encoder: bool = False
    """Train the cgip encoder further; else it stays as published. The native one is trained."""
    freeze_graph_encoder: bool = False
    """Ablation: keep the native encoder at its random initial weights."""
    number_triples: bool = True
    """Number the native encoder's triples in the order in which texts state them; off: an
    ablation."""
    block_start: int | None = None
    """First double block that the adapter changes; None: the middle third (7 of FLUX's 19)."""
    block_end: int | None = None
    """One past the last double block that the adapter changes; None: the middle third (13 of FLUX's
    19)."""
    lora_rank: int = 16
    """Rank of the LoRA matrices."""
    lora_alpha: float = 16.0
    """LoRA's scale is lora_alpha / lora_rank."""
    lora_targets: Literal["all", "image"] = "all"
    """LoRA on both streams' attention projections, or on the image stream's alone."""

    # -- objective -----------------------------------------------------------------------------
    t_min: float = 0.0
    """Lowest sigma that is trained on (0 is the image)."""
    t_max: float = 1.0
    """Highest sigma that is trained on (1 is pure noise)."""
    sigma_scheme: Literal["uniform", "logit_normal", "schnell"] = "uniform"
    """Distribution of sigma between t_min and t_max; 'schnell': only 1, 3/4, 1/2 and 1/4, at which
    FLUX.1-schnell samples."""
    sigma_shift: Literal["auto", "none", "resolution"] = "auto"
    """Whether sigmas are shifted towards noise for larger pictures; 'auto': if the model samples so
    (FLUX.1-dev does)."""
    losses: Annotated[LossConfig, tyro.conf.arg(name="")] = field(default_factory=LossConfig)
    """What is learned from beside the flow-matching error; on the command line without prefix."""

    # -- optimization --------------------------------------------------------------------------
    epochs: int | None = None
    """Passes over the data; None: 20 of them, unless max_steps is given."""
    max_steps: int | None = None
    """Optimizer steps, instead of epochs."""
    batch_size: int = 2
    """Examples in one forward pass of one process."""
    gradient_accumulation_steps: int = 1
    """Forward passes per optimizer step."""
    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    gate_lr_scale: float = 1.0
    """Learning rate of the gates that let the graph in, relative to lr."""
    weight_decay: float = 0.01
    """Decoupled weight decay of matrices; gates, norms and biases have none."""
    warmup_steps: int | None = None
    """Steps of linear warmup; None: 5 % of all steps, at most 100."""
    lr_floor: float = 0.1
    """Learning rate at the end of the cosine decay, relative to lr."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm; 0: never."""
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the trained weights (with a warm-up); 0: no
    average."""
    seed: int = 0
    """Random seed of the run."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a quarter slower."""
    checkpoint_every: int = 1
    """With --gradient-checkpointing: recompute only every n-th block; 1 recomputes all."""
    quantize: Literal["none", "int8", "float8", "nf4"] = "none"
    """Quantise the base's frozen matrices to 8 bits (torchao) or 4 (bitsandbytes): less memory,
    slower."""
    offload_blocks: bool = False
    """Keep the weights of all but the adapted blocks off the device until they are used."""
    offload_folder: Path | None = None
    """With --offload-blocks: keep the weights in files in this folder (as large as the model)
    instead of in the CPU's memory."""
    compile: bool = False
    """Compile the transformer's repeated blocks: minutes at the start, faster steps."""

    # -- validation and output -----------------------------------------------------------------
    log_every: int = 10
    """Steps between two lines of metrics."""
    val_every: int = 250
    """Steps between two validations; 0: only after the last step."""
    val_examples: int = 64
    """Validation examples used, spread evenly over the file; 0: all."""
    val_sigmas: int = 4
    """Noise levels at which each validation example is measured, spread evenly over
    t_min..t_max."""
    select_by: SelectBy | None = None
    """Which adapter the run ends with: that of the lowest validation loss, of the highest ranking
    accuracy, or the last one; None: 'val_loss', but 'last' with lambda_words, whose guided teacher
    raises that loss."""
    save_every: int = 500
    """Steps between two checkpoints to resume from; 0: only after the last step."""
    keep_checkpoints: int = 3
    """Number of latest checkpoints that are kept; 0: all."""
    sample_steps: int = 4
    """Euler steps of the picture that goes with the finished adapter; 0: draw none."""
    init_from: str | None = None
    """Start from an adapter: a bundle's folder or hub id[@revision], or anybody's LoRA of FLUX
    (.safetensors); sizes follow it, while data, rates and everything else are this run's own."""
    resume: str | None = None
    """A step{N}.pt to go on from, or 'auto' for the output folder's latest, if there is one."""
    dry_run: bool = False
    """Check what can be checked without loading weights or encoding (the base's files by their
    headers, tokenizers, pictures, boxes, every word, the training adapter, room on the disk), say
    what was checked and what was not, print the settings and the plan, and write nothing."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        typed_fields(self)
        self._check_ranges()
        self._check_combinations()
        check_noise_levels(self)
        check_resume(self)
        check_memory_savers(self)
        check_buckets(self)
        _ = self.source  # checks that the model's parts go together

    def _check_ranges(self) -> None:
        for name in (
            "height",
            "width",
            "lora_rank",
            "batch_size",
            "gradient_accumulation_steps",
            "checkpoint_every",
            "log_every",
            "val_sigmas",
            "epochs",
            "max_steps",
            "max_sequence_length",
        ):
            value = getattr(self, name)
            expect(value is None or value >= 1, name, value, "be at least 1")
        for name in (
            "val_every",
            "val_examples",
            "save_every",
            "keep_checkpoints",
            "warmup_steps",
            "weight_decay",
            "max_grad_norm",
            "guidance",
            "sample_steps",
            "seed",
        ):
            value = getattr(self, name)
            expect(value is None or value >= 0, name, value, "be at least 0")
        for name in ("lr", "lora_alpha", "gate_lr_scale"):
            expect(getattr(self, name) > 0, name, getattr(self, name), "be greater than 0")
        for name in ("ema_decay", "null_graph_probability", "prompt_relation_dropout"):
            value = getattr(self, name)
            expect(0 <= value < 1, name, value, "be at least 0 and less than 1")
        expect(0 <= self.lr_floor <= 1, "lr_floor", self.lr_floor, "lie between 0 and 1")

    def _check_combinations(self) -> None:
        if self.epochs is not None and self.max_steps is not None:
            raise ConfigError(
                f"epochs ({self.epochs}) and max_steps ({self.max_steps}) both set the length of "
                "the run; give one of them"
            )
        if (self.block_start is None) != (self.block_end is None):
            raise ConfigError("block_start and block_end belong together: give both or neither")
        start, end = self.block_start, self.block_end
        if start is not None and end is not None and not 0 <= start < end:
            raise ConfigError(
                f"block_start and block_end must satisfy 0 <= block_start < block_end, "
                f"got {start} and {end}"
            )
        steps, warmup = self.max_steps, self.warmup_steps
        if steps is not None and warmup is not None and warmup >= steps:
            raise ConfigError(
                f"warmup_steps ({warmup}) must be less than max_steps ({steps}): the learning "
                "rate would never reach lr"
            )
        if self.graph_encoder == "native" and self.cgip_ckpt is not None:
            raise ConfigError("cgip_ckpt has no effect with graph_encoder 'native'; drop one")
        if self.vocab_path is not None and self.encoder_kind == "native":
            raise ConfigError("vocab_path has no effect with the native graph encoder")
        if self.encoder_kind == "native":
            self._expect_default(
                "with the native graph encoder", "oov", "oov_map", "train_graph_encoder"
            )
        else:
            self._expect_default(
                "with the cgip graph encoder, which stays as published",
                "freeze_graph_encoder",
                "number_triples",
            )
        if (self.oov == "map") != (self.oov_map is not None):
            raise ConfigError("oov 'map' and oov_map belong together: give both or neither")
        if self.graph_encoder == "cgip" and self.cgip_ckpt is None:
            raise ConfigError("graph_encoder 'cgip' needs cgip_ckpt, SGDiff's sip_vg.pt")
        if self.prompt_relation_dropout and not self.prompt_mix.relational:
            raise ConfigError(
                f"prompt_relation_dropout ({self.prompt_relation_dropout}) has no effect: "
                "prompt_mix.relational is 0"
            )
        if self.val_jsonl is None and self.losses.measures_confusion:
            raise ConfigError(
                "hard negatives of the model's own errors are measured on the validation set: give "
                "val_jsonl, or hard_negatives_from 'classifier'"
            )
        if self.val_jsonl is None:
            self._expect_default(
                "without val_jsonl",
                "val_every",
                "val_examples",
                "val_sigmas",
                "select_by",
                more=" or give val_jsonl",
            )
        if not self.gradient_checkpointing:
            self._expect_default("without gradient_checkpointing", "checkpoint_every")
        if self.save_every == 0:
            self._expect_default("with save_every 0", "keep_checkpoints")

    def _expect_default(self, when: str, *names: str, more: str = "") -> None:
        defaults = {entry.name: entry.default for entry in fields(self)}
        for name in names:
            value = getattr(self, name)
            if value != defaults[name]:
                raise ConfigError(f"{name} ({value!r}) has no effect {when}; leave it out{more}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the training images.

        Raises:
            ConfigError: if one is left to the model; see :func:`sgflux.training.size.with_size`.
        """
        if self.height is None or self.width is None:
            raise ConfigError("height and width are the model's own, which nobody has read yet")
        return self.height, self.width

    @property
    def texts(self) -> PromptMix:
        """Which text goes with an example, after the relation dropout."""
        mix, dropped = self.prompt_mix, self.prompt_relation_dropout
        if not dropped:
            return mix
        return PromptMix(
            neutral=mix.neutral + dropped * mix.relational,
            relational=(1 - dropped) * mix.relational,
            empty=mix.empty,
        )

    @property
    def recompute_every(self) -> int:
        """Which blocks are recomputed in the backward pass: every n-th; 0: none."""
        return self.checkpoint_every if self.gradient_checkpointing else 0

    @property
    def source(self) -> ModelSource:
        """Where the model's parts are."""
        return ModelSource(
            **{entry.name: getattr(self, entry.name) for entry in fields(ModelSource)}
        )

    @property
    def encoder_kind(self) -> EncoderKind:
        """The graph encoder, after the default is applied."""
        if self.graph_encoder is not None:
            return self.graph_encoder
        return "native" if self.cgip_ckpt is None else "cgip"

    @property
    def selection(self) -> SelectBy:
        """What ``select_by`` says, after the default is applied."""
        return self.select_by or ("last" if self.losses.lambda_words else "val_loss")

    def to_json(self) -> dict[str, Any]:
        """Every setting as plain JSON; :meth:`from_json` reads it back to an equal config."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, settings: Mapping[str, Any]) -> TrainConfig:
        """Build from plain JSON; what is not mentioned has its default.

        Raises:
            ConfigError: on an unknown or missing setting, or as the constructor.
        """
        expect_known(settings, cls)
        missing = [
            entry.name
            for entry in fields(cls)
            if entry.default is MISSING
            and entry.default_factory is MISSING
            and entry.name not in settings
        ]
        if missing:
            raise ConfigError(f"missing settings: {', '.join(missing)}")
        return cls(**settings)


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings of a training run in a JSON or TOML file, which need not be all of them.

    Raises:
        ConfigError: as :func:`sgflux.settings.files.read_settings_file`.
    """
    return read_settings_file(path, TrainConfig)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return str(value) if isinstance(value, Path) else value

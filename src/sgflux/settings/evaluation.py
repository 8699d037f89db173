"""Settings of ``sgflux eval``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from sgflux.errors import SgfluxError

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

    data: Path
    """Test examples, one JSON object a line: pictures that neither trained nor selected."""
    out_dir: Path = Path("evaluation")
    """Folder of pictures and figures; pictures that are there already are kept if their records and
    pixels are what is asked for."""
    adapter: Path | None = None
    """Folder of a trained adapter (a run's final/); None: base arms only."""
    model_id: str | None = None
    """The base: an id on the hub, a diffusers folder, a single .safetensors file, or 'tiny'; None:
    the base that the adapter's bundle names, or FLUX.1-schnell without an adapter."""
    images_dir: Path | None = None
    """Root of the examples' image paths; None: the folder of the JSONL."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    judge: str = "world"
    """Judge that reads the pictures: 'world', that of the bundled world, or 'none' (for photos);
    several judges with commas between share the predicates, and the first that covers one takes it
    (docs/extending.md)."""
    arms: tuple[ArmName, ...] = ARM_NAMES
    """Which arms are drawn."""
    items: int = 0
    """Number of test examples, balanced by predicate; 0: all."""
    seeds_per_item: int = 1
    """Pictures of each item in each arm, with different noise."""
    steps: int = 8
    """Euler steps: 4 suit FLUX.1-schnell, 8 the bundled model."""
    graph_scale: float = 1.0
    """Strength of the graph: 1 is as trained, 0 ignores it, larger values exaggerate; any value but
    1 takes a second pass a step."""
    guidance: float | None = None
    """For a guidance-distilled model (FLUX.1-dev) only; None: 3.5 for such a one."""
    height: int | None = None
    """Height of the pictures in pixels; None: the model's own size (1024 for FLUX)."""
    width: int | None = None
    """Width of the pictures in pixels; None: the model's own size."""
    crop: Literal["auto", "none", "center", "union"] = "auto"
    """How real pictures get that shape for the ranking accuracy; as in training."""
    ranking_sigmas: int = 4
    """Noise levels of the ranking accuracy, spread evenly over 0..1; 0: do not measure it."""
    batch_size: int = 32
    """Pictures drawn at once."""
    seed: int = 0
    """Random seed of noise, negatives and the false statements that the judge is asked about."""
    generator: Literal["model", "oracle", "blind", "swapped"] = "model"
    """What draws the pictures: the model, or one of three generators that test the evaluation
    itself on the bundled world's data."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'; 'auto' takes a GPU if there is one."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision; 'auto' is bf16 on an accelerator and fp32 on the CPU."""
    encoder_device: str | None = None
    """Device of the text encoders and the autoencoder; 'cpu' leaves the accelerator's memory free;
    None: that of --device."""
    quantize: Literal["none", "int8", "float8", "nf4"] = "none"
    """Quantise the base's frozen matrices to 8 bits (torchao) or 4 (bitsandbytes): less memory,
    slower."""
    offload_blocks: bool = False
    """Keep the weights of all but the adapted blocks off the device until they are used."""
    offload_folder: Path | None = None
    """With --offload-blocks: keep the weights in files in this folder (as large as the model)
    instead of in the CPU's memory."""
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
    """Take an adapter that was trained on another base (a merge, a fine-tune); records and report
    then say so (docs/resume.md)."""
    allow_seen_data: bool = False
    """Evaluate although the adapter was trained or selected on part of the test data; the report
    then says on how much (docs/measurement.md)."""
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""

    def __post_init__(self) -> None:
        """Check every value, and that every value given has an effect."""
        unknown = [name for name in self.arms if name not in ARM_NAMES]
        if unknown or not self.arms or len(set(self.arms)) < len(self.arms):
            raise SgfluxError(
                f"arms must be different ones of {list(ARM_NAMES)}, got {list(self.arms)}"
            )
        for name, least in (
            ("items", 0),
            ("ranking_sigmas", 0),
            ("seed", 0),
            ("seeds_per_item", 1),
            ("steps", 1),
            ("batch_size", 1),
        ):
            if getattr(self, name) < least:
                raise SgfluxError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.generator != "model" and self.adapter is not None:
            raise SgfluxError(f"adapter has no effect with generator {self.generator!r}")

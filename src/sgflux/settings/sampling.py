"""Settings of ``sgflux sample`` and ``sgflux saliency``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sgflux.errors import SgfluxError
from sgflux.settings.model import expect_seeds


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Draw pictures from scene graphs, or from text alone."""

    graph: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A graph, like "man, riding, horse; man, wearing, hat", or in JSON; may be given several
    times."""
    graph_file: Path | None = None
    """File with one or many graphs: JSON as sg2im writes it, JSON lines (a data set's rows, too),
    or one graph a line like --graph."""
    prompt: str | None = None
    """The text of all pictures; None: the objects of each graph, "a photo of man and horse"."""
    adapter: Path | None = None
    """Folder of a trained adapter (a run's final/), or its hub id[@revision]; None: the base alone,
    which knows no graph."""
    model_id: str | None = None
    """The base: an id on the hub, a diffusers folder, a single .safetensors file, or 'tiny'; None:
    the base that the adapter's bundle names, or FLUX.1-schnell without an adapter."""
    out_dir: Path = Path("samples")
    """Where pictures and their contact sheet go; names that are there already are replaced."""
    num_images: int = 4
    """Pictures of each graph; picture i has the noise of seed + i, for every graph."""
    seed: int = 0
    """Seed of the first picture's noise."""
    steps: int = 4
    """Euler steps: 4 suit FLUX.1-schnell, 8 the bundled model."""
    graph_scale: float = 1.0
    """Strength of the graph: 1 is as trained, 0 ignores it, larger values exaggerate; any value but
    1 takes a second pass a step."""
    guidance: float | None = None
    """For a guidance-distilled model (FLUX.1-dev) only; None: 3.5 for such a one."""
    compare: bool = False
    """Draw each picture without the graph, and by the base, as well."""
    open_vocabulary: bool = False
    """Accept predicates that are not among the 24 and their aliases."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    height: int | None = None
    """Height of the pictures in pixels; None: the model's own size (1024 for FLUX)."""
    width: int | None = None
    """Width of the pictures in pixels; None: the model's own size."""
    batch_size: int = 8
    """Pictures drawn at once."""
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
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that every setting has an effect."""
        has_graph = bool(self.graph) or self.graph_file is not None
        if not has_graph and self.prompt is None:
            raise SgfluxError("there is nothing to draw: give a graph, a prompt or both")
        if has_graph and self.adapter is None:
            raise SgfluxError("a graph needs an adapter to read it: give adapter, too")
        if self.compare and not has_graph:
            raise SgfluxError("compare needs a graph to compare with")
        if self.graph_scale != 1 and not has_graph:
            raise SgfluxError(f"graph_scale ({self.graph_scale}) has no effect without a graph")
        if not math.isfinite(self.graph_scale):
            raise SgfluxError(f"graph_scale must be a finite number, got {self.graph_scale}")
        expect_seeds(self.seed, self.num_images)
        if self.vocabulary is not None and not has_graph:
            raise SgfluxError("vocabulary has no effect without a graph")
        for name in ("num_images", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise SgfluxError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class SaliencyConfig:
    """Show where a model sees the parts of a scene graph in a picture."""

    image: Path
    """The picture."""
    graph: str
    """What to look for, like "man, riding, horse; man, wearing, hat"."""
    adapter: Path | None = None
    """Folder of a trained adapter, which gets the graph; None: the base, without a graph."""
    model_id: str | None = None
    """The base: an id on the hub, a diffusers folder, a single .safetensors file, or 'tiny'; None:
    the base that the adapter's bundle names, or FLUX.1-schnell without an adapter."""
    prompt: str | None = None
    """The text that the model is told; None: the objects, "a photo of man and horse"."""
    out_dir: Path = Path("saliency")
    """Where the heat maps and their contact sheet go; names that are there are replaced."""
    sigma: float = 0.5
    """How noisy the picture is when the model looks at it: 0 not at all, 1 nothing but noise."""
    seed: int = 0
    """Random seed of the noise."""
    blocks: tuple[int, ...] = ()
    """Double blocks to average over; none named: the later half, 9 to 18 of FLUX's 19."""
    raw: bool = False
    """Softmax of the raw scores, as the paper has it, which is mostly 0 or 1 in each block."""
    guidance: float | None = None
    """For a guidance-distilled model (FLUX.1-dev) only; None: 3.5 for such a one."""
    open_vocabulary: bool = False
    """Accept predicates that are not among the 24 and their aliases."""
    vocabulary: Path | None = None
    """JSON file with predicates and aliases of your own, beside the 24 (docs/graphs.md)."""
    height: int | None = None
    """Height of the pictures in pixels; None: the model's own size (1024 for FLUX)."""
    width: int | None = None
    """Width of the pictures in pixels; None: the model's own size."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'; 'auto' takes a GPU if there is one."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision; 'auto' is bf16 on an accelerator and fp32 on the CPU."""
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
    allow_download: bool = False
    """Download from the hub what is not on this machine yet."""

    def __post_init__(self) -> None:
        """Check the noise level and the seed."""
        if not 0 <= self.sigma <= 1:
            raise SgfluxError(f"sigma must lie between 0 and 1, got {self.sigma}")
        expect_seeds(self.seed, 1)

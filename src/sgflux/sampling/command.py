"""``sgflux sample``: pictures of graphs given on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro

from sgflux.data.examples import prompts_for_graph
from sgflux.data.pictures import contact_sheet, save_picture
from sgflux.errors import SgfluxError
from sgflux.graphs.predicates import DEFAULT_VOCABULARY, UnknownPredicateError
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling.inputs import loading_settings, resolve_device, resolve_dtype
from sgflux.sampling.pipeline import SceneGraphFluxPipeline


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Draw pictures from scene graphs, or from text alone."""

    graph: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A graph, like "man, riding, horse; man, wearing, hat"; may be given several times."""
    prompt: str | None = None
    """The text of all pictures; None: the objects of each graph, "a photo of man and horse"."""
    adapter: Path | None = None
    """Folder of a trained adapter (a run's final/), or its hub id[@revision]; None: the base alone,
    which knows no graph."""
    model_id: str = "black-forest-labs/FLUX.1-schnell"
    """What the adapter was trained on: an id on the hub, a diffusers folder, or 'tiny'."""
    out_dir: Path = Path("samples")
    """Where pictures and their contact sheet go; names that are there already are replaced."""
    num_images: int = 4
    """Pictures of each graph; picture i has the noise of seed + i, for every graph."""
    seed: int = 0
    """Seed of the first picture's noise."""
    steps: int = 4
    """Euler steps: 4 suit FLUX.1-schnell, 8 the bundled model."""
    graph_scale: float = 1.0
    """How far to go towards what the graph says; other values than 1 take more time."""
    guidance: float | None = None
    """For a guidance-distilled model (FLUX.1-dev) only; None: 3.5 for such a one."""
    compare: bool = False
    """Draw each picture without the graph, and by the base, as well."""
    open_vocabulary: bool = False
    """Accept predicates that are not among the 24 and their aliases."""
    height: int | None = None
    """In pixels; None: the model's own size (1024 for FLUX)."""
    width: int | None = None
    """In pixels; None: the model's own size."""
    batch_size: int = 8
    """Pictures drawn at once."""
    device: str = "auto"
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps'; 'auto' takes a GPU if there is one."""
    dtype: Literal["auto", "fp32", "bf16"] = "auto"
    """Precision; 'auto' is bf16 on an accelerator and fp32 on the CPU."""
    encoder_device: str | None = None
    """Where text encoders and autoencoder run instead: 'cpu' needs no memory on the device."""
    quantize: Literal["none", "int8", "float8", "nf4"] = "none"
    """The base's frozen matrices in 8 bits (torchao) or 4 (bitsandbytes): less memory, slower."""
    offload_blocks: bool = False
    """Keep the weights of all but the adapted blocks off the device until they are used."""
    offload_folder: Path | None = None
    """Keep them in files there, as large as the model, instead of in the CPU's memory."""
    components: str | None = None
    """If model_id is a single .safetensors file: the folder or hub id that has all else."""
    autoencoder: Path | None = None
    """Then also: the autoencoder as a file of its own (ae.safetensors)."""
    text_encoder: Path | None = None
    """Likewise the first text encoder, CLIP (clip_l.safetensors)."""
    text_encoder_2: Path | None = None
    """Likewise the second one, T5 (t5xxl_fp16.safetensors)."""
    revision: str | None = None
    """Branch, tag or commit of the hub's repository; None: its main branch."""
    allow_download: bool = False
    """Fetch from the hub what is not on this machine yet."""

    def __post_init__(self) -> None:
        """Check that there is something to draw, and that every setting has an effect."""
        if not self.graph and self.prompt is None:
            raise SgfluxError("there is nothing to draw: give a graph, a prompt or both")
        if self.graph and self.adapter is None:
            raise SgfluxError("a graph needs an adapter to read it: give adapter, too")
        if self.compare and not self.graph:
            raise SgfluxError("compare needs a graph to compare with")
        if self.graph_scale != 1 and not self.graph:
            raise SgfluxError(f"graph_scale ({self.graph_scale}) has no effect without a graph")
        for name in ("num_images", "steps", "batch_size"):
            if getattr(self, name) < 1:
                raise SgfluxError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class _Row:
    """What one row of the contact sheet shows."""

    caption: str
    graph: SceneGraph | None
    prompt: str
    use_adapter: bool


def sample(config: SampleConfig) -> list[Path]:
    """Draw what the config asks for: one PNG a picture and ``contact_sheet.png``.

    Returns:
        The pictures' paths, then the sheet's.

    Raises:
        SgfluxError: on a bad graph, model or adapter.
    """
    rows = _rows(config)
    device = resolve_device(config.device)
    pipeline = SceneGraphFluxPipeline.from_pretrained(
        config.model_id,
        adapter=config.adapter,
        dtype=resolve_dtype(config.dtype, device),
        device=device,
        **loading_settings(config),
    )
    settings: dict[str, Any] = {
        "steps": config.steps,
        "guidance": config.guidance,
        "height": config.height,
        "width": config.width,
    }
    seeds = range(config.seed, config.seed + config.num_images)
    pictures: list[np.ndarray] = []
    captions, paths = [], []
    for number, row in enumerate(rows):
        own = {
            **settings,
            "use_adapter": row.use_adapter,
            "graph_scale": 1.0 if row.graph is None else config.graph_scale,
        }
        for start in range(0, len(seeds), config.batch_size):
            batch = seeds[start : start + config.batch_size]
            count = len(batch)
            drawn = pipeline.sample_batch([row.graph] * count, [row.prompt] * count, batch, **own)
            for picture, seed in zip(drawn, batch, strict=True):
                path = config.out_dir / f"{number:03d}-seed{seed}.png"
                info = pipeline.record(graph=row.graph, prompt=row.prompt, seed=seed, **own)
                save_picture(path, picture, info)
                pictures.append(picture)
                captions.append(f"{row.caption}\nseed {seed}")
                paths.append(path)
    sheet = config.out_dir / "contact_sheet.png"
    rows_said = [{"row": row.caption, "prompt": row.prompt} for row in rows]
    save_picture(
        sheet, contact_sheet(pictures, captions, columns=config.num_images), {"rows": rows_said}
    )
    return [*paths, sheet]


def _rows(config: SampleConfig) -> list[_Row]:
    if not config.graph:
        prompt = config.prompt or ""
        return [_Row(prompt, None, prompt, config.adapter is not None)]
    rows = []
    for text in config.graph:
        graph = read_graph(text, open_vocabulary=config.open_vocabulary)
        prompt = prompts_for_graph(graph, "neutral") if config.prompt is None else config.prompt
        rows.append(_Row(text, graph, prompt, True))
        if config.compare:
            rows.append(_Row(f"without graph: {prompt}", None, prompt, True))
            rows.append(_Row(f"base: {prompt}", None, prompt, False))
    return rows


def read_graph(text: str, *, open_vocabulary: bool) -> SceneGraph:
    """The graph of a text, with its predicates' canonical names."""
    graph = SceneGraph.parse(text)
    if graph.is_null:
        raise SgfluxError(f'graph {text!r} states no relation; write one like "man, riding, horse"')
    words = DEFAULT_VOCABULARY.normalize if open_vocabulary else DEFAULT_VOCABULARY.canonical
    try:
        relationships = tuple((s, words(p), o) for s, p, o in graph.relationships)
    except UnknownPredicateError as error:
        raise SgfluxError(f"graph {text!r}: {error} (open_vocabulary takes any word)") from error
    return SceneGraph(objects=graph.objects, relationships=relationships)

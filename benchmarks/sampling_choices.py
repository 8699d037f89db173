"""Compare ways to draw graphs of three and four statements, on validation pictures.

    python benchmarks/sampling_choices.py --adapter tiny
    python benchmarks/sampling_choices.py --table benchmarks/results/sampling_choices.json

Every way draws the same scenes from the same noise, and the world's judge says which pictures show
every statement: Euler steps and stochastic ones, more steps, graph scales, a graph scale at some
noise levels only (Kynkaanniemi et al. 2024, arXiv:2404.07724), guidance away from a weaker adapter
(Karras et al. 2024, arXiv:2406.02507), and other adapters (``--others``). The scenes are of a world
that no training and no reported table uses.

Of some of the scenes, four pictures each are drawn by the first way. The table says how often a
model's own flow-matching error would choose a right one of the four: by the adapter, the error with
the graph less that without it; by the base, the error with the relational text less that with the
neutral one. Beside it stand the first picture of each, their mean, and the share of scenes of which
one of the four is right.

Writes ``benchmarks/results/sampling_choices.json``, or ``--out``, and prints its tables, as the
second command does. Ways that are finished are kept in ``--folder``, and a run goes on with the
others.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from from_noise import right_pictures, shares_by_size
from hard_graphs import cell, given_command, make_world, without_folders
from measuring import ROOT, machine
from peft.tuners.lora import LoraLayer
from result_files import write_json
from torch import Tensor

from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.prompts import prompts_for_graph
from sgflux.evaluation.arms import batches
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.metrics import mean_estimate
from sgflux.flow_matching import noise_latents, velocity_target
from sgflux.models.adapter import GraphLoraModel, adapter_disabled
from sgflux.models.errors import flow_matching_loss
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.boxes import layouts_for

WORLD: Mapping[str, Any] = {
    "triples": "3,4",
    "twins": 0.4,
    "seed": 20261202,
    "train_per_class": 0,
    "val_per_class": 20,
    "test_per_class": 0,
    "hold_out_combinations": 0,
}
SEED = 1000
"""Seed of the first scene's noise."""

PICTURES = 4
"""Number of pictures of a scene of which one is chosen."""

SIGMAS = (0.3, 0.45, 0.6, 0.75, 0.88)
"""Noise levels of the errors that choose."""


@dataclass(frozen=True)
class Way:
    """How a picture is drawn.

    Attributes:
        steps: Number of steps.
        stochastic: Whether each step puts new noise on the picture that it foresees.
        graph_scale: Extrapolation from the velocity without a graph towards the one with it.
        sigmas: Noise levels, from and to, at which a scale other than 1 holds.
        weaker: Scale of the LoRA in the weaker adapter that ``graph_scale`` leads away from; None
            leads away from the same adapter without a graph.
    """

    steps: int = 8
    stochastic: bool = True
    graph_scale: float = 1.0
    sigmas: tuple[float, float] = (0.0, 1.0)
    weaker: float | None = None

    @property
    def is_guided(self) -> bool:
        """Whether ``sgflux sample`` cannot draw so, and :func:`guided` must."""
        return self.sigmas != (0.0, 1.0) or self.weaker is not None


WAYS: Mapping[str, Way] = {
    "8 stochastic steps": Way(),
    "8 Euler steps": Way(stochastic=False),
    "12 stochastic steps": Way(steps=12),
    "16 stochastic steps": Way(steps=16),
    "graph scale 1.3": Way(graph_scale=1.3),
    "graph scale 1.6": Way(graph_scale=1.6),
    "graph scale 1.6 at noise levels of 0.4 to 0.9": Way(graph_scale=1.6, sigmas=(0.4, 0.9)),
    "away from the adapter with its LoRA at 0.8, scale 1.5": Way(graph_scale=1.5, weaker=0.8),
    "the same at noise levels of 0.4 to 0.9": Way(graph_scale=1.5, sigmas=(0.4, 0.9), weaker=0.8),
}
"""Label -> way; the first is what the bundled adapter recommends, and others are compared to it."""

CHOICES: Mapping[str, str] = {
    "first": "the first of the four",
    "mean": "all of them",
    "adapter": "chosen by the adapter's error",
    "base": "chosen by the base's error",
    "any": "at least one of the four is right",
}
"""How one of four pictures is chosen -> label."""


@contextlib.contextmanager
def guided(model: GraphLoraModel, way: Way) -> Iterator[None]:
    """Guide each velocity of the model as the way says, while the context is open.

    Args:
        model: Model with its adapter switched on.
        way: Way with a scale at some noise levels, or with a weaker adapter.
    """
    flux, (low, high) = model.flux, way.sigmas
    loras = [one for one in flux.transformer.modules() if isinstance(one, LoraLayer)]
    strong = [dict(one.scaling) for one in loras]
    latest: dict[str, Any] = {}

    def scale_loras(factor: float) -> None:
        for lora, scales in zip(loras, strong, strict=True):
            lora.scaling.update({name: factor * scale for name, scale in scales.items()})

    def prefix(inputs: Any) -> Any:
        latest["inputs"] = inputs
        return type(flux).prefix(flux, inputs)

    def suffix(state: Any, graph: Any) -> Tensor:
        velocity = type(flux).suffix(flux, state, graph)
        if not low <= float(latest["sigma"]) <= high:
            return velocity
        if way.weaker is None:
            other = type(flux).suffix(flux, state, None)
        else:
            scale_loras(way.weaker)
            other = type(flux).suffix(flux, type(flux).prefix(flux, latest["inputs"]), graph)
            scale_loras(1.0)
        return other + way.graph_scale * (velocity - other)

    network = flux.network
    inputs_of = network.inputs

    def inputs(latents: Tensor, text: Any, sigma: Tensor, **rest: Any) -> Any:
        latest["sigma"] = sigma[0]
        return inputs_of(latents, text, sigma, **rest)

    replaced: list[tuple[Any, str, Callable[..., Any]]] = [
        (flux, "prefix", prefix),
        (flux, "suffix", suffix),
        (network, "inputs", inputs),
    ]
    for owner, name, function in replaced:
        owner.__dict__[name] = function
    try:
        yield
    finally:
        for owner, name, _ in replaced:
            del owner.__dict__[name]
        scale_loras(1.0)


def draw(
    pipeline: SceneGraphFluxPipeline,
    way: Way,
    examples: Sequence[SceneExample],
    seeds: Sequence[int],
) -> np.ndarray:
    """Draw B pictures, (B, H, W, 3) uint8, from neutral text."""
    model = pipeline.model
    assert model is not None  # an adapter was given
    with guided(model, way) if way.is_guided else contextlib.nullcontext():
        return pipeline.sample_batch(
            [example.graph for example in examples],
            [prompts_for_graph(example.graph, "neutral") for example in examples],
            seeds,
            steps=way.steps,
            stochastic_sampling=way.stochastic,
            graph_scale=1.0 if way.is_guided else way.graph_scale,
        )


def rights_of(
    pipeline: SceneGraphFluxPipeline,
    judge: Judge,
    way: Way,
    examples: Sequence[SceneExample],
    *,
    batch_size: int,
) -> dict[str, Any]:
    """Draw every row once: which pictures are right, and the CPU seconds of drawing one."""
    right: list[bool] = []
    seconds = 0.0
    for part in batches(range(len(examples)), batch_size):
        started = time.process_time()
        rows = [examples[scene] for scene in part]
        pictures = draw(pipeline, way, rows, [SEED + scene for scene in part])
        seconds += time.process_time() - started
        right += right_pictures(judge, pictures, rows)
    return {"right": right, "cpu_seconds": round(seconds / len(examples), 3)}


@torch.no_grad()
def own_errors(
    pipeline: SceneGraphFluxPipeline,
    latents: Tensor,
    examples: Sequence[SceneExample],
    seeds: Sequence[int],
) -> dict[str, Tensor]:
    """How badly models explain B drawn pictures: name of a model -> (B,) float32; less is better.

    Args:
        pipeline: Base and adapter.
        latents: Latents of the pictures, (B, c, h, w), scaled.
        examples: B rows.
        seeds: Seeds that the pictures were drawn with, whose predicted boxes are used again.
    """
    model, network = pipeline.model, pipeline.network
    assert model is not None
    graphs = [example.graph for example in examples]
    text, words = (
        pipeline.encode_text([prompts_for_graph(graph, style) for graph in graphs])
        for style in ("neutral", "relational")
    )
    totals = {name: torch.zeros(len(graphs)) for name in ("adapter", "base")}
    with pipeline.mixed_precision():
        features = model.features(graphs, layouts_for(model, graphs, seeds, None))
        for number, level in enumerate(SIGMAS):
            noises = [torch.Generator().manual_seed(seed + 7919 * number) for seed in seeds]
            noise = torch.stack([torch.randn(latents.shape[1:], generator=one) for one in noises])
            sigma = torch.full((len(graphs),), level)
            noisy = noise_latents(latents, noise, sigma)
            target = network.pack(velocity_target(latents, noise))

            def error(told: Any, graph: Any, at: Any = (noisy, sigma, target)) -> Tensor:
                prefix = model.flux.prefix(network.inputs(at[0], told, at[1], guidance=None))
                return flow_matching_loss(model.flux.suffix(prefix, graph), at[2])

            totals["adapter"] += error(text, features) - error(text, None)
            with adapter_disabled(model):
                totals["base"] += error(words, None) - error(text, None)
    return {name: total / len(SIGMAS) for name, total in totals.items()}


def choose(
    pipeline: SceneGraphFluxPipeline,
    judge: Judge,
    examples: Mapping[int, SceneExample],
    *,
    batch_size: int,
) -> dict[str, list[float]]:
    """Draw four pictures of every row: way to choose one -> the share of it that is right.

    Args:
        pipeline: Base and adapter.
        judge: Judge of the pictures.
        examples: Number of a scene -> its row. The first picture is that of the first way.
        batch_size: Number of pictures that are drawn at once.
    """
    found: dict[str, list[float]] = {name: [] for name in CHOICES}
    side = pipeline.default_size // pipeline.autoencoder.downsample
    for part in batches(list(examples), max(1, batch_size // PICTURES)):
        rows = [examples[scene] for scene in part for _ in range(PICTURES)]
        seeds = [SEED + scene + 100_000 * number for scene in part for number in range(PICTURES)]
        packed = pipeline(
            [row.graph for row in rows],
            [prompts_for_graph(row.graph, "neutral") for row in rows],
            num_inference_steps=Way().steps,
            stochastic_sampling=Way().stochastic,
            graph_scale=Way().graph_scale,
            seed=seeds,
            open_vocabulary=True,
            output_type="latent",
        ).images
        pictures = np.stack([np.asarray(picture) for picture in pipeline.decode(packed)])
        right = np.array(right_pictures(judge, pictures, rows)).reshape(-1, PICTURES)
        errors = own_errors(pipeline, pipeline.network.unpack(packed, side, side), rows, seeds)
        for name, chosen in (
            ("first", right[:, 0]),
            ("mean", right.mean(axis=1)),
            ("any", right.any(axis=1)),
            *((model, picked(right, error)) for model, error in errors.items()),
        ):
            found[name] += [float(value) for value in chosen]
    return found


def picked(right: np.ndarray, errors: Tensor) -> np.ndarray:
    """Whether the picture of the least error is right, of each scene.

    Args:
        right: Whether each picture is right, (scenes, pictures) bool.
        errors: Error of each picture, (scenes * pictures,).
    """
    least = errors.numpy().reshape(right.shape).argmin(axis=1)
    return right[np.arange(len(right)), least]


# --- figures --------------------------------------------------------------------------------------


def shares(right: Sequence[float], sizes: Sequence[int]) -> dict[str, Any]:
    """Return number of statements, or "all" -> the share of right pictures with its interval."""
    return {
        **shares_by_size(right, sizes),
        "all": mean_estimate(
            [(float(share), "all", str(number)) for number, share in enumerate(right)]
        ).to_json(),
    }


def against(right: Sequence[bool], first: Sequence[bool]) -> dict[str, int]:
    """Number of scenes that are right by this way only, and by the first way only."""
    pairs = list(zip(right, first, strict=True))
    return {
        "won": sum(own and not other for own, other in pairs),
        "lost": sum(other and not own for own, other in pairs),
    }


def as_markdown(record: Mapping[str, Any]) -> str:
    """One table of ways and adapters, and one of the choices among four pictures."""
    first = next(iter(record["ways"].values()))
    sizes = [name for name in first["shares"] if name != "all"]
    heads = [*(f"{size} statements" for size in sizes), "all", "won / lost", "CPU time"]
    lines = [f"| adapter and way | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name, entry in record["ways"].items():
        cells = [cell(entry["shares"][size]) for size in (*sizes, "all")]
        versus = entry.get("against")
        cells.append(f"{versus['won']} / {versus['lost']}" if versus else "–")
        cells.append(f"{entry['cpu_seconds'] / first['cpu_seconds']:.1f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| of {PICTURES} pictures a scene | {' | '.join(heads[: len(sizes) + 1])} |"]
    lines.append("|---|" + "---|" * (len(sizes) + 1))
    for name, label in CHOICES.items():
        entry = record["choices"][name]
        lines.append(f"| {label} | {' | '.join(cell(entry[size]) for size in (*sizes, 'all'))} |")
    return "\n".join(lines)


# --- the run --------------------------------------------------------------------------------------


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """Return what a JSON file holds; write what is made first if there is none."""
    if not path.is_file():
        write_json(path, make())
    return json.loads(path.read_text(encoding="utf-8"))


def measure(
    adapters: Sequence[str],
    examples: Sequence[SceneExample],
    *,
    folder: Path,
    ways: Mapping[str, Way],
    of_four: int,
    batch_size: int,
) -> dict[str, Any]:
    """Draw and judge all ways.

    Args:
        adapters: Bundles; the first draws in all ways, the others in the first way only.
        examples: Rows of the scenes.
        folder: Folder of what is finished.
        ways: Label -> way.
        of_four: Number of scenes of which four pictures are drawn.
        batch_size: Number of pictures that are drawn at once.
    """
    judge = WorldJudgeAdapter.load()
    sizes = [len(example.graph.relationships) for example in examples]
    found: dict[str, Any] = {}
    record: dict[str, Any] = {"adapters": [], "ways": {}}
    for path in adapters:
        is_first = not found
        pipeline = SceneGraphFluxPipeline.from_pretrained("tiny", adapter=path)
        fingerprint = pipeline.adapter_fingerprint or ""
        record["adapters"].append({"path": without_folders(path), "fingerprint": fingerprint})
        for name, way in ways.items() if is_first else [next(iter(ways.items()))]:
            key = json.dumps([fingerprint, asdict(way), len(examples), batch_size])
            file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
            own = kept(
                file,
                functools.partial(rights_of, pipeline, judge, way, examples, batch_size=batch_size),
            )
            title = name if is_first else f"{without_folders(path)}, {name}"
            found[title] = own["right"]
            record["ways"][title] = {
                "settings": asdict(way),
                "cpu_seconds": own["cpu_seconds"],
                "shares": shares(own["right"], sizes),
            }
            if len(found) > 1:
                compared = against(own["right"], next(iter(found.values())))
                record["ways"][title]["against"] = compared
            print(f"{title}: {cell(record['ways'][title]['shares']['all'])}", flush=True)
        if is_first:
            some = sorted(np.random.default_rng(SEED).permutation(len(examples))[:of_four].tolist())
            chosen = kept(
                folder / f"choices_{fingerprint[:16]}_{of_four}_of_{len(examples)}.json",
                functools.partial(
                    choose,
                    pipeline,
                    judge,
                    {index: examples[index] for index in some},
                    batch_size=batch_size,
                ),
            )
            record["choices"] = {
                name: shares(values, [sizes[index] for index in some])
                for name, values in chosen.items()
            }
    return record


def main() -> None:
    """Measure and print, or print what was measured."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    add = parser.add_argument
    add("--adapter", default="tiny", help="Bundle of the adapter, or 'tiny'.")
    add("--others", nargs="*", default=[], help="Bundles of other adapters to draw with.")
    add("--folder", type=Path, default=Path("runs/sampling_choices"), help="Folder of this run.")
    add("--of-four", type=int, default=120, help="Scenes of which four pictures are drawn.")
    add("--items", type=int, default=0, help="Scenes that are drawn; 0 draws all.")
    add("--batch-size", type=int, default=32, help="Pictures that are drawn at once.")
    add("--out", type=Path, default=ROOT / "benchmarks" / "results" / "sampling_choices.json")
    add("--table", type=Path, metavar="JSON", help="Print the tables of a finished measurement.")
    given = parser.parse_args()
    if given.table is not None:
        print(as_markdown(json.loads(given.table.read_text(encoding="utf-8"))))
        return
    make_world(given.folder / "world", WORLD)
    examples = read_examples(given.folder / "world" / "validation.jsonl")
    examples = examples[: given.items or len(examples)]
    record = {
        "command": given_command("sampling_choices.py"),
        **machine(),
        "world": dict(WORLD),
        **measure(
            [given.adapter, *given.others],
            examples,
            folder=given.folder,
            ways=WAYS,
            of_four=min(given.of_four, len(examples)),
            batch_size=given.batch_size,
        ),
    }
    write_json(given.out, record)
    print(as_markdown(record))


if __name__ == "__main__":
    main()

"""Compare training steps and sampling of sgflux with plain diffusers on a CPU.

    python benchmarks/step.py --out benchmarks/results/step.json     (or: make bench)

The ways A, A*, B, B2, B+, C, C3 and S of :mod:`ways` take turns in one process, on one thread, for
each model and precision; with compiled blocks only A, B and B2 do. A turn's CPU time is divided by
A's in the same turn, and the median of these is the ratio. Other programs on the machine change CPU
time less than wall time, which is recorded as well. Sampling compares ``FluxPipeline`` with sgflux
at graph scale 1 and 1.5; both include text encoders and autoencoder.

    tiny-flux   the bundled model, 24 examples, 64 image + 24 text tokens, adapter in blocks 0 to 5
    wide        random weights: inner width 384, 4 + 4 blocks, 2 examples, 192 image + 64 text
                tokens, adapter in blocks 1 and 2

Each part runs in a process of its own, and the JSON is written after every part.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel
from diffusers.utils.logging import disable_progress_bar
from measuring import ROOT, Action, Place, Way, alternate, machine
from result_files import write_json
from ways import LOSSES, VANILLA, VANILLA_MATH, Ours, Task, Vanilla

from sgflux.bases.flux1.load import load_transformer
from sgflux.bases.hub import resolve_model_id
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.model_source import ModelSource

MODELS = ("tiny-flux", "wide")
DTYPES = ("fp32", "bf16")
MODES = ("eager", "compiled")
SAMPLING = "sampling"
COMPILED = ("B", "B2")
"""Ways of sgflux that are measured with compiled blocks as well: each costs minutes to compile."""
PICTURES, STEPS = 8, 8
GRAPH = SceneGraph.parse("dog, above, box")
PROMPT = "a photo of dog and box"


def make_wide() -> FluxTransformer2DModel:
    """Make a FLUX transformer that is wide enough for arithmetic to outweigh overhead."""
    torch.manual_seed(0)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=4,
        num_single_layers=4,
        attention_head_dim=64,
        num_attention_heads=6,
        joint_attention_dim=512,
        pooled_projection_dim=256,
        guidance_embeds=False,
        axes_dims_rope=(8, 28, 28),
    )


def task_of(model: str, dtype: str) -> tuple[Task, int]:
    """Task of a model, and number of examples a step."""
    if model == "tiny-flux":
        shape: dict[str, Any] = {"height": 64, "width": 64, "text_tokens": 24}
        return Task(**shape, pixels_per_token=8, block_start=0, block_end=6, dtype=dtype), 24
    shape = {"height": 256, "width": 192, "text_tokens": 64}
    return Task(**shape, block_start=1, block_end=3, dtype=dtype, examples=8), 2


def measure_steps(model: str, dtype: str, mode: str, *, turns: int, toy: bool) -> dict[str, Any]:
    """Measure one part: training steps of all ways on one model."""
    place = Place(torch.device("cpu"))
    task, batch = task_of(model, dtype)
    if toy:
        batch = 2
    if model == "tiny-flux":
        transformer = load_transformer(ModelSource(model_id="tiny"), dtype=task.torch_dtype)
    else:
        transformer = make_wide().requires_grad_(False).eval()
        for weight in transformer.parameters():
            weight.data = weight.data.to(task.torch_dtype)
    vanilla = Vanilla(transformer, task, place=place)
    vanilla.start(batch)
    ours = Ours(transformer, task, place=place)
    ways: dict[str, Way] = {VANILLA: vanilla}
    if mode == "compiled":
        ways |= {name: ours.run(name, batch) for name in COMPILED}
        ours.model.flux.compile_blocks(**({"backend": "aot_eager"} if toy else {}))
    else:
        ways[VANILLA_MATH] = vanilla.with_plain_attention()
        ways |= {name: ours.run(name, batch) for name in LOSSES}
    times = alternate(ways, place=place, turns=turns, warm_up=1 if toy else 3)
    return {
        "model": model,
        "dtype": dtype,
        "mode": mode,
        "batch": batch,
        "image_tokens": task.image_tokens,
        "text_tokens": task.text_tokens,
        "blocks": [task.block_start, task.block_end],
        "ways": {name: own.row(times[VANILLA]) for name, own in times.items()},
    }


def measure_sampling(dtype: str, *, turns: int, toy: bool) -> dict[str, Any]:
    """Time ``FluxPipeline`` and sgflux drawing the same number of pictures."""
    pictures, steps = (2, 2) if toy else (PICTURES, STEPS)
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    disable_progress_bar()
    plain = FluxPipeline.from_pretrained(resolve_model_id("tiny"), dtype=precision)
    plain.set_progress_bar_config(disable=True)
    own = SceneGraphFluxPipeline.from_pretrained("tiny", dtype=precision, max_sequence_length=24)
    task, _ = task_of("tiny-flux", dtype)
    ours = Ours(own.transformer, task, place=Place(torch.device("cpu")))
    ours.add_names([GRAPH])
    own = SceneGraphFluxPipeline(
        text_encoders=own.text_encoders,
        autoencoder=own.autoencoder,
        scheduler=own.scheduler,
        transformer=own.transformer,
        model=ours.model,
    )

    def draw_plain() -> None:
        plain(
            [PROMPT] * pictures,
            height=64,
            width=64,
            num_inference_steps=steps,
            guidance_scale=0.0,
            max_sequence_length=24,
        )

    def draw(scale: float) -> None:
        own(
            [GRAPH] * pictures,
            [PROMPT] * pictures,
            num_inference_steps=steps,
            graph_scale=scale,
            seed=0,
        )

    ways: dict[str, Way] = {"FluxPipeline": Action(draw_plain)}
    for scale in (1.0, 1.5):
        ways[f"sgflux, graph scale {scale:g}"] = Action(functools.partial(draw, scale))
    times = alternate(ways, place=Place(torch.device("cpu")), turns=turns, warm_up=1)
    return {
        "model": "tiny-flux",
        "dtype": dtype,
        "mode": SAMPLING,
        "pictures": pictures,
        "steps": steps,
        "ways": {name: found.row(times["FluxPipeline"]) for name, found in times.items()},
    }


def parts_of(given: argparse.Namespace) -> list[tuple[str, str, str]]:
    """Parts to measure: (model, precision, mode)."""
    return [
        (model, dtype, mode)
        for mode in ("eager", SAMPLING, "compiled")  # compiling takes longest
        if mode in given.modes
        for model in given.models
        if mode != SAMPLING or model == "tiny-flux"
        for dtype in given.dtypes
    ]


def measure(part: Sequence[str], *, turns: int, toy: bool) -> dict[str, Any]:
    """Measure one part in this process."""
    model, dtype, mode = part
    torch.set_num_threads(1)
    if mode == SAMPLING:
        return measure_sampling(dtype, turns=turns, toy=toy)
    return measure_steps(model, dtype, mode, turns=turns, toy=toy)


def measure_apart(part: Sequence[str], *, turns: int) -> dict[str, Any]:
    """Measure one part in a process of its own."""
    command = [sys.executable, __file__, "--part", *part, "--turns", str(turns)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(part: dict[str, Any]) -> str:
    """Format one part for the screen."""
    lines = [f"\n{part['model']}, {part['dtype']}, {part['mode']}"]
    lines.append(f"{'':24} {'CPU time':>9} {'ratio':>7} {'clock':>9} {'ratio':>7}")
    for name, row in part["ways"].items():
        lines.append(
            f"{name:24} {row['cpu_seconds']:8.3f}s {row['cpu_ratio']:7.2f} "
            f"{row['seconds']:8.3f}s {row['ratio']:7.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure every part.

    Returns:
        Exit status 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file to write; none is written by default.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    modes = [*MODES, SAMPLING]
    parser.add_argument("--modes", nargs="+", choices=modes, default=modes)
    parser.add_argument("--turns", type=int, default=9, help="Number of timed turns of every way.")
    parser.add_argument("--toy", action="store_true", help="Rehearse in one process, in seconds.")
    parser.add_argument("--part", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(json.dumps(measure(given.part, turns=given.turns, toy=False)))
        return 0
    found: list[dict[str, Any]] = []
    run: Callable[[Sequence[str]], dict[str, Any]] = (
        functools.partial(measure, turns=2, toy=True)
        if given.toy
        else functools.partial(measure_apart, turns=given.turns)
    )
    for part in parts_of(given):
        found.append(run(part))
        print(table(found[-1]), flush=True)
        if given.out is not None:
            content = {"toy": given.toy, "turns": given.turns, "machine": machine(), "parts": found}
            write_json(given.out, content)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Measure at which noise levels a drawing loses statements, from real pictures with noise on them.

    python benchmarks/from_noise.py --adapter tiny --trained-on runs/full/data
    python benchmarks/from_noise.py --table benchmarks/results/from_noise.json

A real test picture gets the noise of one of the drawing's steps, and the drawing goes on from
there: by the adapter with the graph and the true boxes, by the base that is told the graph in
words, and by the base with neutral text. What the picture already shows at that noise level need
not be drawn any more. Statements that are wrong nevertheless are lost in the steps from there on,
and the layout is not the cause. Beside them stand the real pictures and those that only went
through the autoencoder. The pictures are the test pictures of three and four statements of the
world "plain" of ``hard_graphs.py``.

Writes ``benchmarks/results/from_noise.json``, or ``--out``, and prints its table, as the second
command does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hard_graphs import (
    adapter_parser,
    cell,
    given_command,
    given_flags,
    make_world,
    read_arguments,
    without_folders,
    world_settings,
)
from measuring import machine
from result_files import write_json
from torch import Tensor

from sgflux.data.boxes import Layout
from sgflux.data.examples import SceneExample, read_examples
from sgflux.data.images import load_image
from sgflux.data.layouts import shown_layouts
from sgflux.data.prompts import prompt_for
from sgflux.evaluation.judges.judge import Judge, read_pictures
from sgflux.evaluation.judges.world import WorldJudgeAdapter
from sgflux.evaluation.metrics import mean_estimate
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.output import decoded, to_uint8

SEED = 20261154
"""Seed of the noise on the real pictures."""

COLUMNS: Mapping[str, str] = {
    "graph": "adapter, true boxes",
    "base_relational": "base in words",
    "base_neutral": "base, neutral",
}
"""How the drawing goes on -> heading of its column."""

NOT_DRAWN: Mapping[str, str] = {
    "real": "none: the real pictures",
    "autoencoder": "none: the real pictures, encoded and decoded",
}
"""What is judged besides -> its first cell."""

STATEMENTS = (3, 4)


def draw_from(
    step: int,
    *,
    pipeline: SceneGraphFluxPipeline,
    way: str,
    examples: Sequence[SceneExample],
    layouts: Sequence[Layout],
    latents: Tensor,
    noise: Tensor,
    sigmas: Sequence[float],
) -> np.ndarray:
    """Draw B pictures whose latents before a step are real ones with noise on them.

    Args:
        step: Number of the first step that counts; 0 is a drawing from pure noise.
        pipeline: Base and adapter.
        way: A key of :data:`COLUMNS`.
        examples: B rows.
        layouts: Boxes of each row's objects.
        latents: Real latents in the transformer's units, (B, c, h, w).
        noise: Noise of the real latents and of the drawings, as large.
        sigmas: Noise level before each step of a drawing.

    Returns:
        (B, H, W, 3) uint8.
    """
    has_graph = way == "graph"

    def replace(_: Any, number: int, __: Any, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        if number != step - 1:
            return {}
        noisy = (1 - sigmas[step]) * latents + sigmas[step] * noise
        return {"latents": pipeline.network.pack(noisy).to(tensors["latents"])}

    style = "relational" if way == "base_relational" else "neutral"
    output = pipeline(
        [example.graph for example in examples] if has_graph else None,
        [prompt_for(example, style) for example in examples],
        num_inference_steps=len(sigmas),
        seed=list(range(len(examples))),
        graph_scale=1.0 if has_graph else None,
        boxes=list(layouts) if has_graph else None,
        use_adapter=has_graph,
        open_vocabulary=True,
        callback_on_step_end=replace,
        callback_on_step_end_tensor_inputs=["latents"],
        output_type="np",
    )
    return to_uint8(output.images)


def right_pictures(
    judge: Judge, pictures: np.ndarray, examples: Sequence[SceneExample]
) -> list[bool]:
    """Return whether each of B pictures shows every statement of its row."""
    triples = [example.graph.labelled_triples() for example in examples]
    readings = read_pictures(judge, pictures, triples)
    return [
        all(reading.is_right(triple) for triple in own)
        for reading, own in zip(readings, triples, strict=True)
    ]


def shares_by_size(right: Sequence[float], sizes: Sequence[int]) -> dict[str, Any]:
    """Return number of statements -> the share of right pictures with its interval.

    Args:
        right: Share of each row's pictures that are right.
        sizes: Number of statements of each row.
    """
    rows: dict[int, list[tuple[float, str, str]]] = {}
    for number, (share, size) in enumerate(zip(right, sizes, strict=True)):
        rows.setdefault(size, []).append((float(share), "all", str(number)))
    return {str(size): mean_estimate(own).to_json() for size, own in sorted(rows.items())}


def all_right(
    judge: Judge, pictures: np.ndarray, examples: Sequence[SceneExample]
) -> dict[str, Any]:
    """Return number of statements -> the share of pictures that show all of them."""
    sizes = [len(example.graph.relationships) for example in examples]
    return shares_by_size(right_pictures(judge, pictures, examples), sizes)


def measure(adapter: Path, data: Path, *, steps: int, batch_size: int) -> dict[str, Any]:
    """Draw from every noise level, and judge.

    Args:
        adapter: Bundle of the adapter.
        data: JSONL file of the test rows, beside its pictures.
        steps: Number of Euler steps of a drawing.
        batch_size: Number of pictures that are drawn at once.
    """
    pipeline = SceneGraphFluxPipeline.from_pretrained("tiny", adapter=adapter)
    judge = WorldJudgeAdapter.load()
    examples = [row for row in read_examples(data) if len(row.graph.relationships) in STATEMENTS]
    pictures = np.stack(
        [np.asarray(load_image(data.parent / row.image_rel_path)) for row in examples]
    )
    sizes = [(pictures.shape[1], pictures.shape[2])] * len(examples)
    layouts = shown_layouts(examples, images_dir=data.parent, sizes=sizes, crop="auto")
    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        mean, _ = pipeline.autoencoder.posterior(images)
        latents = pipeline.autoencoder.scale(mean).float()
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(SEED))
    tokens = pipeline.network.pack(latents).shape[1]
    schedule = pipeline.scheduler.schedule(steps, image_tokens=tokens, device=latents.device)
    sigmas = schedule.sigmas.tolist()
    again = to_uint8(decoded(pipeline.autoencoder, latents))
    found = {
        "real": all_right(judge, pictures, examples),
        "autoencoder": all_right(judge, again, examples),
    }
    levels: dict[str, Any] = {}
    for step in reversed(range(steps)):
        ways = {}
        for way in COLUMNS:
            parts = []
            for start in range(0, len(examples), batch_size):
                own = slice(start, start + batch_size)
                parts.append(
                    draw_from(
                        step,
                        pipeline=pipeline,
                        way=way,
                        examples=examples[own],
                        layouts=layouts[own],
                        latents=latents[own],
                        noise=noise[own],
                        sigmas=sigmas,
                    )
                )
            ways[way] = all_right(judge, np.concatenate(parts), examples)
        levels[f"{sigmas[step]:.3f}"] = ways
        print(f"from sigma {sigmas[step]:.3f}", flush=True)
    return {"steps": steps, "not_drawn": found, "from": levels}


def as_markdown(record: Mapping[str, Any]) -> str:
    """A table for each number of statements: a line a noise level, a column a way to go on."""
    parts = []
    for size, entry in record["not_drawn"]["real"].items():
        lines = [
            f"{size} statements, {entry['n']} pictures:",
            "",
            f"| drawn from sigma | {' | '.join(COLUMNS.values())} |",
            "|---|" + "---|" * len(COLUMNS),
        ]
        for name, label in NOT_DRAWN.items():
            share = cell(record["not_drawn"][name][size])
            lines.append(f"| {label} | {' | '.join([share] * len(COLUMNS))} |")
        for sigma, ways in record["from"].items():
            cells = [cell(ways[way][size]) for way in COLUMNS]
            lines.append(f"| {sigma} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    """Measure and print, or print what was measured."""
    parser = adapter_parser(__doc__, "from_noise.json")
    add = parser.add_argument
    add("--folder", type=Path, default=Path("runs/from_noise"), help="Folder of the test world.")
    add("--per-class", type=int, default=24, help="Test items of each predicate.")
    add("--steps", type=int, default=8)
    add("--batch-size", type=int, default=32)
    if (given := given_flags(parser, as_markdown)) is None:
        return
    settings = world_settings("plain", read_arguments(given.trained_on), given.per_class)
    make_world(given.folder / "world", settings)
    data = given.folder / "world" / "test.jsonl"
    record = {
        "command": given_command("from_noise.py"),
        **machine(),
        "adapter": without_folders(str(given.adapter)),
        **measure(given.adapter, data, steps=given.steps, batch_size=given.batch_size),
    }
    write_json(given.out, record)
    print(as_markdown(record))


if __name__ == "__main__":
    main()

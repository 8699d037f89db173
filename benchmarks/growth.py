"""Measure how cost grows with statements, resolution and data, beside what is predicted.

    python benchmarks/growth.py --out benchmarks/results/growth.json --plot docs/figures/growth.png

Two parts train tiny-flux (way B of :mod:`ways`, float32, one thread, adapter in blocks 0 to 5) and
take CPU time of a step; the sizes take turns. The prediction is the count of operations of
:mod:`sgflux.training.planning.estimate`, in which the adapted blocks have three more tokens for
each statement. It is scaled to the largest size, at which overheads count least.

    statements   1 to 16 statements a graph, 64 by 64 pixels
    resolution   32 to 128 pixels a side, one statement

The third part starts a training from a complete cache of 1,000 to 1,000,000 examples and draws one
epoch, in a process of its own for each size. Rows have one statement and a window of their own in
one of ten pictures, and therefore an entry of their own; entries are small, (16, 1, 1) for a
picture, since their number is what grows. Seconds are CPU time. The prediction is a straight line
through zero and the largest size: what is proportional lies on it.

    start   reading rows, keys of pictures and texts, opening the cache, finding every entry; a
            start also reads the file of every picture, which is as long as the files are
    epoch   every example once, in random order, in batches of 64
    memory  resident memory beyond the imports after the start, and its growth during the epoch
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import torch
from cache import memory_mib
from measuring import Place, alternate, machine, significant
from PIL import Image
from result_files import write_json
from ways import Ours, Task

from sgflux.bases.flux1.load import load_transformer
from sgflux.data.cache.encoding import EncodingPlan
from sgflux.data.cache.store import CacheStore
from sgflux.data.examples import read_examples
from sgflux.training.planning.estimate import Shape, operations_per_example

STATEMENTS = (1, 2, 4, 8, 16)
PIXELS = (32, 64, 96, 128)
EXAMPLES = (1_000, 10_000, 100_000, 1_000_000)
BATCH, BLOCKS, ADAPTED, TEXT_TOKENS = 8, 10, 6, 24
EPOCH_BATCH = 64
PICTURES, SIDE = 10, 2000
TASK = Task(
    height=64,
    width=64,
    text_tokens=TEXT_TOKENS,
    pixels_per_token=8,
    block_start=0,
    block_end=ADAPTED,
    dtype="fp32",
    examples=BATCH,
)


# --- a step of training ---------------------------------------------------------------------------


def operations(task: Task, *, statements: int) -> float:
    """Operations of a step, with three graph tokens a statement in the adapted blocks."""
    shape = Shape(
        inner_dim=128,
        blocks=BLOCKS,
        first_adapted=0,
        tokens=task.image_tokens + task.text_tokens,
        batch_size=BATCH,
        examples_per_step=BATCH,
        bytes_per_number=4,
        checkpoint_every=0,
    )
    adapted = replace(shape, blocks=ADAPTED, tokens=shape.tokens + 3 * statements)
    plain = replace(shape, blocks=BLOCKS - ADAPTED)
    return BATCH * (operations_per_example(adapted) + operations_per_example(plain))


def measure_steps(sizes: Mapping[int, tuple[Task, int]], *, turns: int) -> list[dict[str, Any]]:
    """CPU seconds of a step for each size, which is a task and a number of statements."""
    torch.set_num_threads(1)
    place = Place(torch.device("cpu"))
    runs = {}
    for size, (task, statements) in sizes.items():
        ours = Ours(load_transformer("tiny"), task, place=place)
        runs[str(size)] = ours.run("B", BATCH, statements=statements)
    times = alternate(runs, place=place, turns=turns)
    rows = []
    for size, (task, statements) in sizes.items():
        row = {"size": size, "cpu_seconds": times[str(size)].row()["cpu_seconds"]}
        rows.append(row | {"operations": significant(operations(task, statements=statements))})
    scale = rows[-1]["cpu_seconds"] / rows[-1]["operations"]
    return [row | {"predicted": significant(scale * row["operations"])} for row in rows]


def measure_statements(turns: int) -> list[dict[str, Any]]:
    """CPU seconds of a step by statements a graph."""
    return measure_steps({number: (TASK, number) for number in STATEMENTS}, turns=turns)


def measure_resolution(turns: int) -> list[dict[str, Any]]:
    """CPU seconds of a step by pixels a side."""
    sizes = {side: (replace(TASK, height=side, width=side), 1) for side in PIXELS}
    return measure_steps(sizes, turns=turns)


# --- a large data set -----------------------------------------------------------------------------


def write_data(folder: Path, rows: int) -> None:
    """Write ten pictures, and rows that each show another window of one of them."""
    predicates = ("riding", "wearing", "on", "behind", "holding", "left of", "above", "under")
    folder.mkdir(parents=True)
    for number in range(PICTURES):
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(folder / f"{number}.png")
    places = SIDE - 100
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for row in range(rows):
            subject, target = f"thing{row % 97}", f"thing{row % 89 + 100}"
            predicate = predicates[row % len(predicates)]
            left, top = row % places, row // places % places
            content = {
                "prompt": f"a photo of {subject} {predicate} {target}",
                "concepts": [subject, predicate, target],
                "triple": {"subject": subject, "predicate": predicate, "object": target},
                "meta": {"image_rel_path": f"{row % PICTURES}.png"},
                "boxes": [[left, top, 40, 40], [left + 40, top + 40, 40, 40]],
            }
            file.write(json.dumps(content) + "\n")


def fill(store: CacheStore, plan: EncodingPlan) -> None:
    """Write an entry of zeros for every key, in shards of the usual size."""
    count = store.shard_entries
    picture = {"mean": torch.zeros(count, 16, 1, 1), "std": torch.ones(count, 16, 1, 1)}
    text = {"hidden": torch.zeros(count, 4, 8), "pooled": torch.zeros(count, 8)}
    with store.writer() as writer:
        for keys, tensors in ((list(plan.pictures), picture), (list(plan.prompts), text)):
            for start in range(0, len(keys), count):
                part = keys[start : start + count]
                values = {name: own[: len(part)].bfloat16() for name, own in tensors.items()}
                writer.add(part, values)


def start_and_draw(folder: Path) -> dict[str, Any]:
    """Start from a complete cache and draw an epoch, in this process."""
    seconds: dict[str, float] = {}
    before, _ = memory_mib()
    started = time.process_time()
    examples = read_examples(folder / "rows.jsonl")
    seconds["read rows"] = time.process_time() - started
    plan = EncodingPlan(
        examples,
        images_dir=folder,
        height=8,
        width=8,
        crop="union",
        encoder_identity="stand-in",
        text_identity="stand-in",
        max_sequence_length=4,
    )
    seconds["keys of pictures and texts"] = time.process_time() - started - sum(seconds.values())
    fill(CacheStore(folder / "cache"), plan)
    started = time.process_time()
    store = CacheStore(folder / "cache")
    seconds["open the cache"] = time.process_time() - started
    arrays = plan.opened(store)
    seconds["find every entry"] = time.process_time() - started - seconds["open the cache"]
    del plan, store
    resident, _ = memory_mib()
    order = torch.randperm(len(arrays), generator=torch.Generator().manual_seed(0))
    started, early = time.process_time(), resident
    for number, picked in enumerate(order.split(EPOCH_BATCH)):
        arrays.posterior(picked)
        arrays.text(picked, torch.ones(len(picked), dtype=torch.int64))
        if number == len(order) // EPOCH_BATCH // 10:
            early, _ = memory_mib()
    after, _ = memory_mib()
    return {
        "size": len(arrays),
        "entries": len(arrays.latents) + len(arrays.texts),
        "start_cpu_seconds": significant(sum(seconds.values()), 3),
        "start_parts": {name: significant(value, 3) for name, value in seconds.items()},
        "epoch_cpu_seconds": significant(time.process_time() - started, 3),
        "memory_mib": resident - before,
        "memory_growth_in_the_last_nine_tenths_mib": after - early,
    }


def measure_data(sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Start and epoch for each number of examples, each in a process of its own."""
    rows = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "data"
            write_data(folder, size)
            command = [sys.executable, __file__, "--folder", str(folder)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
        print(json.dumps(rows[-1]), flush=True)
    largest = rows[-1]
    for row in rows:
        share = row["size"] / largest["size"]
        names = ("start_cpu_seconds", "epoch_cpu_seconds", "memory_mib")
        row["predicted"] = {name: significant(share * largest[name], 3) for name in names}
    return rows


# --- a figure -------------------------------------------------------------------------------------


def plot(content: Mapping[str, Any], path: Path) -> None:
    """Draw measurements as points and predictions as lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.4), layout="constrained")
    panels = figure.subplots(2, 3).ravel()
    for panel, part, label in (
        (panels[0], "statements", "statements a graph"),
        (panels[1], "resolution", "pixels a side"),
    ):
        rows = content[part]
        sizes = [row["size"] for row in rows]
        panel.plot(sizes, [row["predicted"] for row in rows], "-", label="predicted")
        panel.plot(sizes, [row["cpu_seconds"] for row in rows], "o", label="measured")
        panel.set(xlabel=label, ylabel="CPU s a step", ylim=(0, None))
        panel.legend()
    for panel, name, label in zip(
        panels[2:],
        ("start_cpu_seconds", "epoch_cpu_seconds", "memory_mib"),
        ("start, CPU s", "epoch, CPU s", "memory, MiB"),
        strict=False,
    ):
        rows = content["data"]
        sizes = [row["size"] for row in rows]
        panel.loglog(sizes, [row["predicted"][name] for row in rows], "-", label="proportional")
        panel.loglog(sizes, [row[name] for row in rows], "o", label="measured")
        panel.set(xlabel="cached examples", ylabel=label)
        panel.legend()
    growth = [row["memory_growth_in_the_last_nine_tenths_mib"] for row in content["data"]]
    panels[5].semilogx([row["size"] for row in content["data"]], growth, "o")
    panels[5].set(xlabel="cached examples", ylabel="growth in an epoch, MiB", ylim=(-20, 60))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


PARTS = ("statements", "resolution", "data")


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file; what it has already is kept.")
    parser.add_argument("--plot", type=Path, help="Picture of all parts.")
    parser.add_argument(
        "--parts", nargs="*", choices=PARTS, default=PARTS, help="Parts to measure."
    )
    parser.add_argument("--turns", type=int, default=7, help="Number of timed steps of each size.")
    parser.add_argument("--examples", type=int, nargs="*", default=EXAMPLES, help="Data sizes.")
    parser.add_argument("--folder", type=Path, help="Start from this data in this process alone.")
    arguments = parser.parse_args()
    if arguments.folder is not None:
        print(json.dumps(start_and_draw(arguments.folder)))
        return
    content: dict[str, Any] = {}
    if arguments.out is not None and arguments.out.exists():
        content = json.loads(arguments.out.read_text(encoding="utf-8"))
    own = machine()
    others = [part for part in PARTS if part in content and part not in arguments.parts]
    known = content.get("machine", own)
    if others and any(known[name] != own[name] for name in ("processor", "commit", "versions")):
        parser.error(
            f"{arguments.out} has {' and '.join(others)} of another processor, commit or "
            "libraries; measure all --parts, or give another --out"
        )
    measures = {
        "statements": lambda: measure_statements(arguments.turns),
        "resolution": lambda: measure_resolution(arguments.turns),
        "data": lambda: measure_data(arguments.examples),
    }
    for part in arguments.parts:
        content[part] = measures[part]()
        for row in content[part]:
            print(part, row, flush=True)
        content |= {"command": "python benchmarks/growth.py", "machine": own}
        if arguments.out is not None:
            write_json(arguments.out, content)
    if arguments.plot is not None:
        plot(content, arguments.plot)


if __name__ == "__main__":
    main()

"""Measure throughput and memory of each stage of a large data set, from pictures to batches.

    python benchmarks/cached_data.py --folder cached_data_bench --results cached_data.json

The stages are those of `sgflux data check`, `sgflux cache` and `sgflux train`. The encoders are
replaced by functions that cost nothing, so that everything else is measured: reading rows, checking
pictures, decoding, cropping, writing shards, starting with a complete cache, and drawing batches
from it. Every stage runs in a process of its own. Pictures are 500 x 375 JPEGs of smooth noise with
about as many bytes as Visual Genome's; 45,000 names refer to five hundred of them. Every row has
boxes of its own, and therefore a crop and a key of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cache import memory_mib
from PIL import Image
from torch import Tensor

ROWS, PICTURES = 45_000, 500
SIZE = (500, 375)
PIXELS = 128
TOKENS, TEXT_DIM, POOLED_DIM = 24, 256, 64
BATCH, BATCHES = 64, 2_000
KNOWN = 20
STAGES = ("check", "encode", "start", "batches")


def write_data(folder: Path, *, rows: int, pictures: int) -> None:
    """Write the JSONL file and the pictures."""
    rng = np.random.default_rng(0)
    (folder / "different").mkdir(parents=True)
    for number in range(pictures):
        coarse = rng.integers(0, 256, (47, 63, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)
        grain = rng.integers(-20, 21, (SIZE[1], SIZE[0], 1))
        pixels = np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "different" / f"{number}.jpg", quality=88)
    words = ("riding", "wearing", "on", "behind", "holding", "left of", "above", "around/near")
    names = [f"thing{number}" for number in range(150)]
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        for row in range(rows):
            path = f"{row // 1000}/{row}.jpg"
            (folder / path).parent.mkdir(exist_ok=True)
            os.link(folder / "different" / f"{row % pictures}.jpg", folder / path)
            picked = rng.integers(0, len(names), (KNOWN + 1, 2)).tolist()
            said = rng.integers(0, len(words), KNOWN + 1).tolist()
            subject, target = (names[i] for i in picked[0])
            predicate = words[said[0]]
            corners = rng.integers(0, 200, (2, 2)).tolist()
            sides = rng.integers(40, 170, (2, 2)).tolist()
            known = [
                [names[s], words[p], names[o]]
                for (s, o), p in zip(picked, said, strict=True)
                if s != o
            ]
            content = {
                "prompt": f"a photo of {subject} {predicate} {target}",
                "concepts": [subject, predicate, target],
                "triple": {"subject": subject, "predicate": predicate, "object": target},
                "meta": {"image_rel_path": path, "known_triples": known},
                "graph": {"objects": [subject, target], "relationships": [[0, predicate, 1]]},
                "boxes": [[*c, *s] for c, s in zip(corners, sides, strict=True)],
            }
            file.write(json.dumps(content) + "\n")


@dataclass(frozen=True)
class _Features:
    encoder_hidden_states: Tensor
    pooled_projections: Tensor


def _posterior(images: Tensor) -> tuple[Tensor, Tensor]:
    mean = torch.nn.functional.avg_pool2d(images, 8).mean(dim=1, keepdim=True)
    return mean.expand(-1, 16, -1, -1), mean.expand(-1, 16, -1, -1).exp()


def _text(prompts: Sequence[str]) -> _Features:
    level = torch.tensor([float(len(prompt)) for prompt in prompts])[:, None, None]
    hidden = level.expand(-1, TOKENS, TEXT_DIM)
    return _Features(hidden, hidden[:, 0, :POOLED_DIM])


def run_stage(stage: str, folder: Path) -> dict[str, Any]:
    """Run one stage in this process."""
    from sgflux.data.cache.encoding import Encoders, EncodingPlan
    from sgflux.data.cache.store import CacheStore
    from sgflux.data.check import check_dataset
    from sgflux.data.examples import read_examples

    before, _ = memory_mib()
    start = time.perf_counter()
    parts: dict[str, float] = {}

    def lap(name: str) -> None:
        parts[name] = round(time.perf_counter() - start - sum(parts.values()), 2)

    if stage == "check":
        report = check_dataset(folder / "rows.jsonl")
        amount, unit = report.rows, "rows"
    else:
        examples = read_examples(folder / "rows.jsonl")
        lap("read rows")
        plan = EncodingPlan(
            examples,
            images_dir=folder,
            height=PIXELS,
            width=PIXELS,
            crop="union",
            encoder_identity="stand-in",
            text_identity="stand-in",
            max_sequence_length=TOKENS,
        )
        lap("keys of pictures and texts")
        store = CacheStore(folder / "cache")
        lap("open the cache")
        amount, unit = len(plan.pictures) + len(plan.prompts), "entries"
        if stage == "encode":
            plan.fill(store, Encoders(images=_posterior, text=_text, batch_size=BATCH))
            lap("encode")
        else:
            arrays = plan.opened(store)
            lap("find every entry")
    resident, peak = memory_mib()
    found: dict[str, Any] = {"stage": stage}
    if stage == "batches":
        generator = torch.Generator().manual_seed(0)
        start = time.perf_counter()
        for number in range(BATCHES):
            if number == BATCHES // 10:
                resident, _ = memory_mib()
            picked = torch.randint(len(arrays), (BATCH,), generator=generator)
            arrays.posterior(picked)
            arrays.text(picked, torch.ones(BATCH, dtype=torch.int64))
        after, peak = memory_mib()
        amount, unit = BATCHES * BATCH, "examples"
        found["memory_growth_in_the_last_nine_tenths_mib"] = after - resident
        resident, parts = after, {}
    seconds = time.perf_counter() - start
    return found | {
        unit: amount,
        "seconds": round(seconds, 1),
        f"{unit}_per_second": round(amount / seconds),
        "parts_seconds": parts,
        "memory_mib": resident - before,
        "peak_memory_mib": peak - before,
    }


def main() -> None:
    """Parse the flags, run every stage, and write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=None)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument(
        "--stage", choices=STAGES, default=None, help="Run this stage only, in this process."
    )
    parser.add_argument(
        "--data-only", action="store_true", help="Write the data, and measure nothing."
    )
    flags = parser.parse_args()
    if flags.stage is not None:
        print(json.dumps(run_stage(flags.stage, flags.folder)))
        return
    if not flags.folder.exists():
        write_data(flags.folder, rows=flags.rows, pictures=flags.pictures)
    if flags.data_only:
        return
    shutil.rmtree(flags.folder / "cache", ignore_errors=True)
    with (flags.folder / "rows.jsonl").open("rb") as file:
        rows = sum(1 for _ in file)
    runs = []
    for stage in STAGES:
        command = [sys.executable, __file__, "--folder", str(flags.folder), "--stage", stage]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(done.stdout))
        print(json.dumps(runs[-1]), flush=True)
    files = list((flags.folder / "cache").iterdir())
    record = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
        "load_average_at_the_end": os.getloadavg()[0],
        "rows": rows,
        "cache_mib": round(sum(path.stat().st_size for path in files) / 2**20),
        "runs": runs,
    }
    if flags.results is not None:
        flags.results.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(flags.folder)


if __name__ == "__main__":
    main()

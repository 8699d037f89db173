"""Record what sgflux computes in a short seeded run, and compare two records bit for bit.

    python benchmarks/recorded_run.py --out before.json --checkout ../before
    python benchmarks/recorded_run.py --out after.json
    python benchmarks/recorded_run.py --compare before.json after.json

The run goes through the command line alone, so that it does not depend on how modules are arranged:
a data set, a cache, a relation classifier, short trainings that together switch on every loss,
resuming, sampling, saliency, evaluation and every format of export. Digests of floating-point
numbers hold on one machine with one thread and the same libraries only: a record is compared with
another one of the same machine and is not kept in the repository.

``--keep FOLDER`` leaves the bundle, checkpoint, cache and settings file of the run there;
``--old FOLDER`` lets the code under test read such a folder of older code as well.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open

ROOT = Path(__file__).resolve().parent.parent

VOLATILE = re.compile(
    r"date|time|second|elapsed|_at$|path|folder|file$|version|commit|device|host|command|root|memory"
    r"|output|^jsonl$|libraries|python|platform|wall|^checksum$|digest_of_settings|config"
)
"""Keys of JSON whose values differ between two runs of the same code, or name places."""

RUN_NAMES = re.compile(r"(?<=events\.out\.tfevents)\..*")
"""The part of a file's name that holds the time, the machine and the process."""

TRAIN = (
    "--model-id tiny --device cpu --height 64 --width 64 --batch-size 4 --lr 2e-3"
    " --gate-lr-scale 10 --log-every 1 --val-examples 4 --val-sigmas 2 --block-start 0"
    " --block-end 6 --seed 3"
)
WORDS_OFF = "--lambda-words 0"

TRAININGS: dict[str, str] = {
    "plain": (
        f"{WORDS_OFF} --max-steps 4 --dtype fp32 --val-every 2 --save-every 2 --sample-steps 2"
    ),
    "teacher": (
        "--lambda-words 20 --lambda-anchor 1 --words-warm-in 2 --anchor-warm-in 2 --max-steps 4"
        " --dtype bf16 --val-every 4 --save-every 2 --sample-steps 0 --latent-cache-dir {cache}"
    ),
    "rank": (
        f"{WORDS_OFF} --lambda-rel-rank 0.5 --negatives-per-example 2 --rel-rank-warm-in 2"
        " --negatives.hard-predicate 1 --negatives.inverse 1 --negatives.object 1"
        " --negatives.edge-drop 1 --hard-negatives-every 2 --max-steps 4 --dtype fp32 --val-every 2"
        " --sample-steps 0 --gradient-checkpointing --checkpoint-every 2"
    ),
    "saliency": (
        f"{WORDS_OFF} --alpha-gen-rel 2 --gen-rel-warm-in 2 --lambda-rel-rank 0.2 --rel-rank-margin"
        " 0.01 --max-steps 3 --dtype fp32 --val-every 0 --sample-steps 0"
        " --gradient-accumulation-steps 2 --prompt-mix.relational 1 --prompt-mix.empty 0.5"
    ),
    "boxes": (
        "--lambda-words 5 --alpha-gen-rel 2 --gen-rel-from boxes --max-steps 3 --dtype fp32"
        " --val-every 0 --sample-steps 0 --sigma-scheme logit_normal --lora-targets image"
        " --ema-decay 0 --freeze-graph-encoder"
    ),
    "latent-ranker": (
        f"{WORDS_OFF} --ranker latent --classifier {{classifier}} --lambda-rel-rank 0.5"
        " --use-negative-graph --max-steps 3 --dtype fp32 --val-every 0 --sample-steps 0"
        " --hard-negatives-from classifier --negatives.hard-predicate 1"
    ),
    "saliency-ranker": (
        f"{WORDS_OFF} --ranker saliency --classifier {{saliency_classifier}} --lambda-rel-rank 0.5"
        " --max-steps 3 --dtype fp32 --val-every 0 --sample-steps 0"
    ),
    "temb": (
        "--graph-mode temb --lambda-words 5 --max-steps 3 --dtype fp32 --val-every 3"
        " --sample-steps 0 --sigma-scheme schnell --null-graph-probability 0.5"
        " --prompt-relation-dropout 0.5 --prompt-mix.relational 1 --no-number-triples"
    ),
    "buckets": (
        f"{WORDS_OFF} --aspect-buckets --max-steps 3 --dtype bf16 --val-every 0 --sample-steps 0"
        " --init-from {plain}/final"
    ),
}
"""Short trainings by name; together they switch on every loss and setting of the arithmetic."""


class Run:
    """One recorded run.

    Attributes:
        found: Name of each result -> a digest or a JSON value.
    """

    def __init__(self, checkout: Path, folder: Path) -> None:
        """Prepare a run of the code in ``checkout``, with files in ``folder``."""
        self._folder = folder
        self._checkout = str(checkout)
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(checkout / "src"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "COLUMNS": "100",
        }
        self.found: dict[str, Any] = {}

    def command(self, arguments: str, **places: Path) -> str:
        """Run ``sgflux ARGUMENTS``; returns what it printed.

        Raises:
            SystemExit: if the command fails.
        """
        words = [word.format(**places) for word in arguments.split(" ") if word]
        words = [word.replace("~", " ") for word in words]
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "sgflux", *words],
            capture_output=True,
            text=True,
            cwd=self._folder,
            env=self._environment,
            check=False,
        )
        print(f"{time.monotonic() - started:6.1f} s  sgflux {' '.join(words)[:100]}", flush=True)
        if done.returncode:
            raise SystemExit(f"sgflux {' '.join(words)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def record(self, name: str, folder: Path) -> None:
        """Note everything in a folder that a command wrote."""
        places = {str(folder): "FOLDER", str(self._folder): "RUN", self._checkout: "CHECKOUT"}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                key = f"{name}/{RUN_NAMES.sub('', str(path.relative_to(folder)))}"
                self.found.update(contents(path, key, places))


def contents(
    path: Path, key: str, places: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Any]]:
    """(name, digest or value) of everything in a file that must not change.

    Args:
        path: file to read.
        key: name of the file in the record.
        places: folders that differ between two runs, and what stands for them in the record.
    """

    def text() -> str:
        content = path.read_text(encoding="utf-8")
        for place, name in (places or {}).items():
            content = content.replace(place, name)
        return content

    if path.name == "encoder_digests.json":
        # Its keys hold the place, size, time and inode of each file of the base.
        for place, digest in json.loads(text()).items():
            yield f"{key}:{'/'.join(place.split('|')[0].split('/')[-2:])}", digest
    elif path.name.startswith("shard-"):
        if path.suffix == ".safetensors":
            yield from rows_of_shard(path, str(Path(key).parent))
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # not a dict
                yield f"{key}:{name}", tensor_digest(file.get_tensor(name))
            yield f"{key}:metadata", plain(dict(file.metadata() or {}))
    elif path.suffix == ".pt":
        yield from tensors_of(torch.load(path, map_location="cpu", weights_only=True), key)
    elif path.suffix in (".png", ".jpg"):
        with Image.open(path) as image:
            yield key, tensor_digest(torch.from_numpy(np.asarray(image.convert("RGB")).copy()))
    elif path.suffix == ".json":
        yield key, plain(json.loads(text()))
    elif path.suffix == ".jsonl":
        yield key, [plain(json.loads(row)) for row in text().splitlines()]
    else:
        yield key, "there"


def rows_of_shard(path: Path, key: str) -> Iterator[tuple[str, Any]]:
    """(name, digest) of each row of a cache's shard, by cache key: shards have random names."""
    index = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  # not a dict
            rows = file.get_tensor(name)
            for row, row_key in zip(rows, index["content"]["keys"], strict=True):
                yield f"{key}/{row_key}:{name}", tensor_digest(row)


def tensors_of(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """(name, digest or value) of everything within a checkpoint but its settings.

    The run's config.json holds the settings.
    """
    if isinstance(value, torch.Tensor):
        yield key, tensor_digest(value)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from tensors_of(inner, f"{key}:{name}")
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from tensors_of(inner, f"{key}:{number}")
    elif ":config:" not in key and not VOLATILE.search(key.rsplit(":", 1)[-1].lower()):
        yield key, value


def tensor_digest(tensor: torch.Tensor) -> str:
    """Precision, shape and SHA-256 of a tensor's bytes."""
    tensor = tensor.detach().cpu().contiguous()
    data = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
    return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(data).hexdigest()[:24]}"


def plain(value: Any) -> Any:
    """A JSON value without what differs between two runs of the same code."""
    if isinstance(value, dict):
        return {
            name: plain(inner) for name, inner in value.items() if not VOLATILE.search(name.lower())
        }
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    if isinstance(value, str):
        if value.startswith("/"):
            return "a place"
        try:
            inner = json.loads(value)
        except json.JSONDecodeError:
            return value
        return plain(inner) if isinstance(inner, dict | list) else value
    return value


def run(checkout: Path, folder: Path, old: Path | None) -> dict[str, Any]:
    """Run it all in ``folder``; returns what was found, by name."""
    place = {name: folder / name for name in (*TRAININGS, "world", "cache", "classifier")}
    place["saliency_classifier"] = folder / "saliency_classifier"
    here = Run(checkout, folder)
    here.command(
        "data world --out-dir {world} --train-per-class 1 --val-per-class 1 --test-per-class 1"
        " --triples 1,2 --seed 5",
        **place,
    )
    here.record("world", place["world"])
    files = (
        f"--train-jsonl {place['world']}/train.jsonl --val-jsonl {place['world']}/validation.jsonl"
    )
    here.command(
        "cache {world}/train.jsonl {world}/validation.jsonl --latent-cache-dir {cache}"
        " --model-id tiny --height 64 --width 64 --device cpu --seed 3"
        " --prompts neutral relational",
        **place,
    )
    here.record("cache", place["cache"])
    for kind, name in (("latent", "classifier"), ("saliency", "saliency_classifier")):
        here.command(
            f"train-classifier {files} --kind {kind} --model-id tiny --height 64 --width 64"
            f" --device cpu --steps 4 --batch-size 8 --channels 16 --out-dir {{{name}}}",
            **place,
        )
        here.record(name, place[name])
        pretend_to_be_good(place[name] / "classifier.json")
    for name, flags in TRAININGS.items():
        here.command(f"train {files} {TRAIN} {flags} --output-dir {{{name}}}", **place)
        here.record(name, place[name])
    resumed = folder / "resumed"
    here.command(
        f"train {files} {TRAIN} {TRAININGS['plain']} --output-dir {resumed}"
        f" --resume {place['plain']}/step2.pt"
    )
    here.record("resumed", resumed)
    bundle = f"--adapter {place['teacher']}/final --model-id tiny --device cpu"
    if old is not None:
        bundle_of_old = f"--adapter {old}/plain/final --model-id tiny --device cpu"
        here.command(
            f"sample {bundle_of_old} --graph dog,~above,~box --steps 2"
            f" --out-dir {folder}/old_sample"
        )
        here.record("old_sample", folder / "old_sample")
        here.command(
            f"train {files} {TRAIN} {TRAININGS['plain']} --output-dir {folder}/old_resumed"
            f" --resume {old}/plain/step2.pt"
        )
        here.record("old_resumed", folder / "old_resumed")
        shutil.copytree(old / "cache", folder / "old_cache")
        flags = TRAININGS["teacher"].replace("{cache}", f"{folder}/old_cache")
        here.command(f"train {files} {TRAIN} {flags} --output-dir {folder}/old_cached")
        here.record("old_cached", folder / "old_cached")
        here.record("old_cache", folder / "old_cache")
        here.command(
            f"train --config {old}/settings.toml {files} --output-dir {folder}/old_settings"
        )
        here.record("old_settings", folder / "old_settings")
    for scale in ("1", "1.5"):
        here.command(
            f"sample {bundle} --graph dog,~above,~box --graph cat,~left~of,~tree;~tree,~above,~box"
            f" --graph-scale {scale} --steps 4 --num-images 2 --compare --seed 7"
            f" --out-dir {folder}/sample{scale}"
        )
        here.record(f"sample{scale}", folder / f"sample{scale}")
    here.command(
        f"saliency {bundle} --graph dog,~above,~box --seed 7 --out-dir {folder}/saliency_maps"
        f" --image {min((folder / 'world').rglob('*.png'))}"
    )
    here.record("saliency_maps", folder / "saliency_maps")
    here.command(
        f"eval {bundle} --data {place['world']}/test.jsonl --items 4 --seeds-per-item 1 --steps 2"
        f" --ranking-sigmas 2 --graph-scale 1.5 --seed 11 --out-dir {folder}/eval"
    )
    here.record("eval", folder / "eval")
    for form in ("diffusers", "kohya", "comfyui"):
        target = folder / "exported" / f"{form}.safetensors"
        target.parent.mkdir(exist_ok=True)
        here.command(
            f"export --adapter {place['teacher']}/final --format {form} --scale 0.5 --out {target}"
        )
    here.command(f"export --adapter {place['teacher']}/final --folder {folder}/exported/published")
    here.record("exported", folder / "exported")
    return here.found


def pretend_to_be_good(card: Path) -> None:
    """Let training accept a classifier that four steps have taught nothing: arithmetic is asked."""
    content = json.loads(card.read_text(encoding="utf-8"))
    content["held_out"]["ci95"] = [0.9, 1.0]
    card.write_text(json.dumps(content), encoding="utf-8")


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line for everything that differs between two records."""
    found = [f"missing: {name}" for name in before if name not in after]
    found += [f"new: {name}" for name in after if name not in before]
    for name in before.keys() & after.keys():
        found += differences(before[name], after[name], name)
    return sorted(found)


def differences(before: Any, after: Any, name: str) -> list[str]:
    """Where two values differ, down to the key."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = []
        for key in before.keys() | after.keys():
            if key not in after:
                lines.append(f"missing: {name} > {key}")
            elif key not in before:
                lines.append(f"new: {name} > {key}")
            else:
                lines += differences(before[key], after[key], f"{name} > {key}")
        return lines
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for number, (one, other) in enumerate(zip(before, after, strict=True))
            for line in differences(one, other, f"{name} > {number}")
        ]
    if before != before and after != after:  # two NaN
        return []
    return [] if before == after else [f"changed: {name}: {before!r:.60} -> {after!r:.60}"]


def write_settings(folder: Path) -> None:
    """Write the settings of a short training as a flat TOML file."""
    lines = [
        'model_id = "tiny"', 'device = "cpu"', "height = 64", "width = 64", "batch_size = 4",
        "lr = 2e-3", "block_start = 0", "block_end = 6", "max_steps = 2", "sample_steps = 0",
        'dtype = "fp32"', "seed = 3", "val_every = 0", "", "[losses]", "lambda_words = 5.0",
        "lambda_anchor = 0.5", "", "[prompt_mix]", "neutral = 1.0", "relational = 1.0",
    ]  # fmt: skip
    (folder / "settings.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> int:
    """Record or compare; returns 1 if two records differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="JSON file of the record.")
    parser.add_argument("--checkout", type=Path, default=ROOT, help="Checkout whose code runs.")
    parser.add_argument("--old", type=Path, help="Folder that older code left with --keep.")
    parser.add_argument("--keep", type=Path, help="New folder for the run's files.")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    given = parser.parse_args()
    if given.compare:
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in given.compare)
        found = compare(before, after)
        print("\n".join(found[:60]) or f"equal: {len(before)} entries")
        if len(found) > 60:
            print(f"... and {len(found) - 60} more")
        return 1 if found else 0
    if given.out is None:
        parser.error("--out or --compare is needed")
    with tempfile.TemporaryDirectory(prefix="sgflux-record-") as scratch:
        folder = given.keep.resolve() if given.keep else Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        write_settings(folder)
        old = given.old.resolve() if given.old else None
        found = run(given.checkout.resolve(), folder, old)
    given.out.write_text(json.dumps(found, indent=1, sort_keys=True), encoding="utf-8")
    print(f"{len(found)} entries in {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Train tiny-flux and its adapter on scenes of up to four statements on one GPU, and measure them.

    python benchmarks/gpu_world.py --toy             (every stage on the CPU, in minutes)
    python benchmarks/gpu_world.py --budget-s 840
    python benchmarks/gpu_world.py --budget-s 840 --base runs/base/pipeline    (adapters alone)

Stages, in order of worth:

    base-probe      a few steps of the base's trainings, which say how long a step takes
    base            ``sgflux world train-base`` from the bundled tiny-flux; left out with ``--base``
    worlds          pictures for the adapter and the measurement; other processes draw them from
                    the start
    adapter-probe   a few steps of the adapter's training
    adapter         ``sgflux train`` on that base
    measure         ``benchmarks/hard_graphs.py``
    control         the adapter's training with text that states the relations
    compare         the measurement again, with the control beside it

A training takes as many steps as fit into its share of the time that is left, at most those that
are asked for. A stage that is done is kept by the next call with the same ``--folder``, one that
was stopped goes on from its last checkpoint, and one for which no time is left is dropped.

Writes ``benchmarks/results/gpu_world.json`` after every stage: the card, versions, and of each
stage its steps, seconds and figures.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import hard_graphs
import torch
from gpu import RowTimeoutError, at_most, error_line
from gpu_speed import rate, step_times
from measuring import ROOT, Place, commit, source_digest, today, versions
from result_files import write_json

from sgflux.errors import SgfluxError
from sgflux.settings.training import read_settings
from sgflux.settings.world_models import TrainBaseConfig
from sgflux.training.run.train import train_by_settings
from sgflux.world.demo import DEMO
from sgflux.world.tiny_flux.recipe import RECIPE, train_base

HELD_OUT = "fork of 4 with twins: end and end, 2 apart"
"""Shape of graphs on which neither base nor adapter is trained."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the stages; numbers of steps are the largest ones.

    Attributes:
        scenes: Number of pictures on which the base is trained.
        base, distill, vae, adapter: Number of steps of each training.
        batch: Number of examples in a step; the autoencoder's is a sixteenth.
        probe: Number of steps of each training that say how long one takes.
        train_per_class: Number of the adapter's training pictures of each predicate.
        test_per_class: Number of test items of each predicate in each measured world.
        steps: Number of denoising steps of a picture.
        pairs: Number of held-out pairs of objects.
        shapes: Held-out shapes.
    """

    scenes: int = 40_000
    base: int = 2_500
    distill: int = 500
    vae: int = 700
    adapter: int = 1_500
    batch: int = 512
    probe: int = 24
    train_per_class: int = 300
    test_per_class: int = 20
    steps: int = 8
    pairs: int = 20
    shapes: tuple[str, ...] = (HELD_OUT,)


TOY = Scale(
    scenes=60,
    base=4,
    distill=4,
    vae=4,
    adapter=4,
    batch=4,
    probe=4,
    train_per_class=1,
    test_per_class=1,
    steps=1,
    pairs=0,
    shapes=(),
)
SHARES = {"base": 0.55, "adapter": 0.65, "control": 0.7}
"""Training -> share of the time left at its beginning that its steps may take."""
LEAST = {"base": 100, "adapter": 60, "measure": 45, "control": 60, "compare": 30}
"""Stage -> seconds without which it does not begin."""


# --- settings -------------------------------------------------------------------------------------


def training_world(scale: Scale) -> dict[str, Any]:
    """Settings of the world that the adapter is trained on; nothing else uses its seed."""
    return {
        "train_per_class": scale.train_per_class,
        "val_per_class": 1,
        "test_per_class": 2 if scale.pairs or scale.shapes else 0,
        "triples": "1,2,3,4",
        "twins": 0.3,
        "resolution": 64,
        "seed": 20261154,
        "hold_out_combinations": scale.pairs,
        "hold_out_shapes": list(scale.shapes),
    }


def base_settings(scale: Scale, folder: Path, *, device: str, compiled: bool) -> TrainBaseConfig:
    """Settings of the base's training, which starts from the bundled tiny-flux."""
    return TrainBaseConfig(
        output_dir=folder,
        start_from=ROOT / "src" / "sgflux" / "assets" / "tiny-flux",
        scenes=scale.scenes,
        scene_sizes=(0.2, 0.3, 0.25, 0.25),
        twins=0.3,
        hold_out_shapes=scale.shapes,
        text_length=32,
        batch_size=scale.batch,
        vae_batch_size=max(2, scale.batch // 16),
        max_steps=scale.base,
        distill_steps=scale.distill,
        vae_steps=scale.vae,
        warmup_steps=min(200, scale.base // 10),
        save_every=100,
        device=device,
        compile=compiled,
    )


def adapter_settings(
    scale: Scale, folder: Path, *, base: str, device: str, own: Mapping[str, Any]
) -> dict[str, Any]:
    """Settings of an adapter's training: the demo's recipe, and ``own`` in its place."""
    return {
        **DEMO.training,
        "train_jsonl": folder / "world" / "train.jsonl",
        "val_jsonl": folder / "world" / "validation.jsonl",
        "model_id": base,
        "device": device,
        "batch_size": scale.batch,
        "val_every": 1_000_000,
        "save_every": 200,
        **own,
        "max_steps": scale.adapter,
    }


def fitting(asked: int, *, seconds: float, each: float) -> int:
    """Return how many steps are taken: at most those asked for, and at least one."""
    return max(1, min(asked, int(seconds / each)))


# --- a call ---------------------------------------------------------------------------------------


class Stages:
    """The stages of a folder, in the JSON file that says what became of them.

    A stage is a dictionary: its ``status`` is "done", "stopped", "failed" or "dropped", and
    ``seconds`` are those of all calls together. Beside these it has the command, commit and date of
    the call that did it last.
    """

    def __init__(
        self,
        path: Path,
        described: Mapping[str, Any],
        *,
        given: Mapping[str, Any],
        budget: float,
    ) -> None:
        """Continue the file, or begin one.

        Args:
            path: Path of the file.
            described: Command, commit and date of this call, which each stage that it does keeps.
            given: Settings that all stages of a file share, such as the card and the base.
            budget: Seconds of this call.

        Raises:
            SgfluxError: if the file has stages of another card, base, or settings.
        """
        self._path, self._end = path, time.monotonic() + budget
        self._described = dict(described)
        self.content: dict[str, Any] = {**given, "stages": {}}
        if path.is_file():
            self.content = json.loads(path.read_text(encoding="utf-8"))
            known = {name: self.content.get(name) for name in given}
            if known != (own := json.loads(json.dumps(given))):
                differing = ", ".join(name for name in own if own[name] != known[name])
                raise SgfluxError(
                    f"{path} has stages of another {differing}; give another --folder and --out"
                )

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._end - time.monotonic()

    def found(self, name: str) -> dict[str, Any]:
        """What a stage has found; empty if it is not done."""
        stage: dict[str, Any] = self.content["stages"].get(name, {})
        return stage if stage.get("status") == "done" else {}

    def do(self, name: str, work: Callable[[], dict[str, Any]]) -> bool:
        """Do a stage, unless it is done; returns whether it is done now."""
        known = self.content["stages"].get(name, {})
        if self.found(name):
            print(f"{name}: done before, in {known['seconds']:.0f} s", flush=True)
            return True
        started = time.monotonic()
        stage: dict[str, Any] = {"status": "dropped"}
        if self.left > LEAST.get(name, 0):
            try:
                with at_most(self.left):
                    stage = {**work(), "status": "done"}
            except RowTimeoutError:
                stage = {"status": "stopped"}
            except Exception as error:  # noqa: BLE001  # what is done so far must be kept
                stage = {"status": "failed", "error": error_line(error)}
        seconds = known.get("seconds", 0.0) + time.monotonic() - started
        self.content["stages"][name] = {
            **stage,
            "seconds": round(seconds, 1),
            **self._described,
        }
        write_json(self._path, self.content)
        print(f"{name}: {stage['status']}, {seconds:.0f} s {stage.get('error', '')}", flush=True)
        return stage["status"] == "done"


def worlds_of(folder: Path, scale: Scale) -> dict[Path, dict[str, Any]]:
    """Folder -> settings of the training's world and of those of the measurement."""
    training = training_world(scale)
    measured = {
        folder / "measured" / "worlds" / name: hard_graphs.world_settings(
            name, training, scale.test_per_class
        )
        for name in hard_graphs.WORLDS
    }
    return {folder / "world": training, **measured}


def wait_for(worlds: Iterable[Future[None]]) -> dict[str, Any]:
    """Wait until all worlds are written."""
    for world in worlds:
        world.result()
    return {}


def time_the_base(config: TrainBaseConfig, count: int) -> dict[str, float]:
    """Take ``count`` steps of each of the base's trainings; returns seconds a step."""
    short = replace(
        config,
        scenes=4 * config.batch_size,
        max_steps=count,
        distill_steps=count,
        vae_steps=count,
    )
    shutil.rmtree(config.output_dir, ignore_errors=True)  # of a probe that was stopped
    with step_times(Place(torch.device(config.device))) as moments:
        train_base(short)
    return {
        name: rate(moments[start : start + count], warm_up=count // 2)["seconds"]
        for name, start in (("base", 0), ("distill", count), ("vae", 2 * count))
    }


def time_the_adapter(settings: Mapping[str, Any], count: int) -> dict[str, float]:
    """Take ``count`` steps of the adapter's training; returns seconds a step."""
    shutil.rmtree(settings["output_dir"], ignore_errors=True)  # of a probe that was stopped
    with step_times(Place(torch.device(settings["device"]))) as moments:
        train_by_settings(**{**settings, "max_steps": count})
    return {"adapter": rate(moments, warm_up=count // 2)["seconds"]}


def train_the_base(config: TrainBaseConfig, each: Mapping[str, float], seconds: float) -> Any:
    """Train the base with as many steps of all three trainings as fit into the time.

    One that was stopped goes on with the steps that it was begun with.
    """
    asked = {"base": config.max_steps, "distill": config.distill_steps, "vae": config.vae_steps}
    whole = sum(count * each[name] for name, count in asked.items())
    share = min(1.0, seconds / whole)
    steps = {name: max(1, int(share * count)) for name, count in asked.items()}
    recipe = config.output_dir / RECIPE
    if recipe.exists():
        begun = json.loads(recipe.read_text(encoding="utf-8"))
        settings = {"base": "max_steps", "distill": "distill_steps", "vae": "vae_steps"}
        steps = {name: int(begun[setting]) for name, setting in settings.items()}
    pipeline = train_base(
        replace(
            config,
            max_steps=steps["base"],
            distill_steps=steps["distill"],
            vae_steps=steps["vae"],
        )
    )
    return {"steps": steps, "batch": config.batch_size, "pipeline": pipeline.name}


def train_adapter(settings: Mapping[str, Any], each: float, seconds: float) -> dict[str, Any]:
    """Train an adapter with as many steps as fit into the time."""
    steps = fitting(settings["max_steps"], seconds=seconds, each=each)
    train_by_settings(**{**settings, "max_steps": steps, "resume": "auto"})
    return {"steps": steps, "batch": settings["batch_size"]}


def main() -> int:
    """Do the stages.

    Returns:
        Exit status: 1 if a stage failed.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--folder", type=Path, help="Folder of all stages.")
    add("--out", type=Path, help="JSON file to begin or to continue.")
    add("--budget-s", type=float, default=840.0, help="Seconds of this call.")
    add("--base", type=Path, help="Pipeline of a base that is trained already.")
    add("--settings", type=Path, help="Settings of 'sgflux train' (JSON or TOML) for the adapter.")
    add("--compile", action="store_true", help="Compile the base's blocks in its training.")
    add("--toy", action="store_true", help="Rehearse every stage on the CPU.")
    given = parser.parse_args()
    if not given.toy and not torch.cuda.is_available():
        parser.error("this torch sees no GPU; --toy rehearses without one")
    scale, device = (TOY, "cpu") if given.toy else (Scale(), "cuda")
    name = "gpu_world_toy" if given.toy else "gpu_world"
    folder = given.folder or Path("runs") / name
    out = given.out or (folder if given.toy else ROOT / "benchmarks" / "results") / f"{name}.json"
    base = str(given.base or folder / "base" / "pipeline")
    own = {} if given.settings is None else read_settings(given.settings)
    stages = Stages(
        out,
        {
            "command": hard_graphs.given_command("gpu_world.py"),
            "commit": commit(),
            "source": source_digest(),
            "date": today(),
        },
        given={
            "card": Place(torch.device(device)).describe(),
            "versions": versions(),
            "base": hard_graphs.without_folders(base),
            "settings": {name: str(value) for name, value in own.items()},
            "compile": given.compile,
        },
        budget=given.budget_s,
    )
    settings = adapter_settings(scale, folder, base=base, device=device, own=own)
    config = None
    if given.base is None:
        config = base_settings(scale, folder / "base", device=device, compiled=given.compile)

    def adapter_of(name: str, **further: Any) -> dict[str, Any]:
        own = {**settings, **further, "output_dir": folder / name}
        return train_adapter(own, stages.found("adapter-probe")["adapter"], share(name))

    def share(name: str) -> float:
        return SHARES[name] * stages.left

    def measure(*, control: bool) -> dict[str, Any]:
        return hard_graphs.measure(
            folder / "measured",
            {
                "adapter": folder / "adapter" / "final",
                "model_id": base,
                "steps": scale.steps,
                "batch_size": scale.batch,
                "device": device,
                "dtype": "fp32",
            },
            control=folder / "control" / "final" if control else None,
            trained_on=training_world(scale),
        )

    worlds, done = worlds_of(folder, scale), True
    drawing = min(len(worlds), max(1, (os.cpu_count() or 1) - 1))  # one core is the training's
    with ProcessPoolExecutor(drawing, mp_context=get_context("spawn")) as pool:
        written = [pool.submit(hard_graphs.make_world, *world) for world in worlds.items()]
        if config is not None:
            short = replace(config, output_dir=folder / "probe" / "base")
            done = stages.do("base-probe", lambda: time_the_base(short, scale.probe)) and stages.do(
                "base", lambda: train_the_base(config, stages.found("base-probe"), share("base"))
            )
        done = stages.do("worlds", lambda: wait_for(written)) and done
    probe = {**settings, "output_dir": folder / "probe" / "adapter"}
    done = done and stages.do("adapter-probe", lambda: time_the_adapter(probe, scale.probe))
    if done and stages.do("adapter", lambda: adapter_of("adapter")):
        stages.do("measure", lambda: measure(control=False))
        relational = {"neutral": 0.0, "relational": 1.0}
        if stages.do("control", lambda: adapter_of("control", prompt_mix=relational)):
            stages.do("compare", lambda: measure(control=True))
    for name in ("compare", "measure"):
        if record := stages.found(name):
            print(hard_graphs.as_markdown(record))
            break
    return int(any(stage["status"] == "failed" for stage in stages.content["stages"].values()))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SgfluxError as error:
        sys.exit(str(error))

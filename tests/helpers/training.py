"""Stand-ins and readers that the tests of training share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from sgflux.settings.training import TrainConfig
from sgflux.training.batches.batch import Batch, draw_batch
from sgflux.training.checkpoints.checkpoint import AdapterWeights, TrainingState, shallow_dict
from sgflux.training.processes.gradients import SharedGradients
from sgflux.training.processes.processes import Processes


class MakeConfig(Protocol):
    def __call__(self, output_dir: Path, **changes: Any) -> TrainConfig: ...


def weights(step: int = 3) -> AdapterWeights:
    return AdapterWeights(
        step=step,
        trainable={"lora.a": torch.randn(2, 3)},
        ema={"lora.a": torch.randn(2, 3)},
        adapter={"lora_rank": 2},
        metrics={"loss": 0.5, "by_sigma": [{"sigma": 0.5, "loss": None}]},
    )


def training_state() -> TrainingState:
    parameter = torch.nn.Parameter(torch.randn(2, 3))
    optimizer = torch.optim.AdamW([("lora.a", parameter)], fused=True)
    parameter.grad = torch.randn(2, 3)
    optimizer.step()
    return TrainingState(
        step=5,
        epoch=1,
        position=10,
        trainable={"lora.a": parameter.detach()},
        ema=None,
        optimizer=optimizer.state_dict(),
        rng=torch.get_rng_state(),
        config={"lr": 0.1},
        adapter={"lora_rank": 2},
        data={"training": "abc"},
        processes=1,
        validated_step=4,
        best=weights(),
    )


def equal(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, AdapterWeights | TrainingState):
        return type(a) is type(b) and equal(shallow_dict(a), shallow_dict(b))
    return a == b


def training_rows(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [row for row in lines if row["kind"] == "train"]


class Drawn:
    """Records what each pass is drawn from, and may give every pass the first one's batch."""

    def __init__(self, *, repeat: bool = False) -> None:
        self.rows: list[tuple[int, ...]] = []
        self.seeds: list[int] = []
        self.batches: list[Batch] = []
        self._repeat, self._first = repeat, None

    def __call__(self, arrays: Any, rows: Sequence[int], **settings: Any) -> Batch:
        self.rows.append(tuple(rows))
        self.seeds.append(settings["generator"].initial_seed())
        batch = draw_batch(arrays, rows, **settings)
        self.batches.append(batch)
        self._first = self._first or batch
        return self._first if self._repeat else batch


class TwoInOne(Processes):
    """One of several processes whose companions agree with it in everything."""

    def wait(self) -> None:
        pass

    def gradients(self, weights: Sequence[torch.nn.Parameter]) -> SharedGradients:
        return SharedGradients(weights, several=False)

    def average_(self, buffer: torch.Tensor) -> torch.Tensor:
        return buffer

    def gather(self, items: list[Any]) -> list[Any]:
        return items

    @property
    def is_main(self) -> bool:
        return True

"""One small FLUX and one small data set for all training tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sgflux.settings.training import TrainConfig
from tests.helpers.flux import make_flux_folder
from tests.helpers.scenes import write_scenes
from tests.helpers.training import MakeConfig

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flux_folder(
        tmp_path_factory.mktemp("flux") / "model", num_layers=3, num_single_layers=1
    )


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "data")


@pytest.fixture(scope="session")
def make_config(flux: Path, scenes: Path) -> MakeConfig:
    """A run of 4 steps that validates and saves after 2 and 4; ``changes`` change it."""

    def make(output_dir: Path, **changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "train_jsonl": scenes / "train.jsonl",
            "val_jsonl": scenes / "val.jsonl",
            "output_dir": output_dir,
            "model_id": str(flux),
            "device": "cpu",
            "dtype": "fp32",
            "height": 16,
            "width": 16,
            "max_steps": 4,
            "lora_rank": 2,
            "lr": 0.01,
            "log_every": 1,
            "val_every": 2,
            "save_every": 2,
            "val_sigmas": 2,
        }
        return TrainConfig.from_flat(**{**settings, **changes})

    return make

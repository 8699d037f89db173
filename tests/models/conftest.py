"""What the tests of the models share: a miniature FLUX, and inputs for it."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from flux_fixture import make_flux_folder

from sgflux.models.backbone import image_ids, text_ids
from sgflux.models.graph_encoder import NameFeatures


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FluxPipeline folder of tiny random parts."""
    return make_flux_folder(tmp_path_factory.mktemp("flux") / "pipeline")


def random_name_features(names: Sequence[str]) -> torch.Tensor:
    """32 random numbers a name, the same ones whenever it is asked for."""
    seeds = [zlib.crc32(name.encode()) for name in names]
    rows = [torch.randn(32, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(rows)


@pytest.fixture
def names() -> NameFeatures:
    """Features of any name, 32 numbers wide."""
    return NameFeatures(32, random_name_features)


@pytest.fixture
def inputs() -> dict[str, Any]:
    """Three examples of 4 by 6 image tokens and 7 text tokens."""
    return {
        "hidden_states": torch.randn(3, 24, 64),
        "encoder_hidden_states": torch.randn(3, 7, 32),
        "pooled_projections": torch.randn(3, 24),
        "timestep": torch.tensor([1.0, 0.371, 0.7313]),
        "img_ids": image_ids(4, 6),
        "txt_ids": text_ids(7),
    }

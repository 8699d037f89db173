"""Fixtures of the base and model tests: one thread, a fixed seed, a miniature FLUX, its inputs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from sgflux.bases.flux1.network import FluxInputs
from sgflux.models.name_features import NameFeatures
from tests.helpers.flux import make_flux_folder
from tests.helpers.models import random_inputs, random_names


@pytest.fixture(autouse=True)
def one_thread_and_a_seed() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FluxPipeline folder of tiny random parts."""
    return make_flux_folder(tmp_path_factory.mktemp("flux") / "pipeline")


@pytest.fixture
def names() -> NameFeatures:
    return random_names()


@pytest.fixture
def inputs() -> FluxInputs:
    return random_inputs()

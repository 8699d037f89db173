"""A small FLUX.1, an adapter for it, and a pipeline with and without the adapter."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgflux.sampling import SceneGraphFluxPipeline
from tests.helpers.adapters import write_adapter
from tests.helpers.flux import make_flux_folder


@pytest.fixture(scope="module")
def model_id(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flux_folder(tmp_path_factory.mktemp("flux") / "model")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, model_id: Path) -> Path:
    return write_adapter(tmp_path_factory.mktemp("adapter") / "final", model_id)


@pytest.fixture(scope="module")
def base(model_id: Path) -> SceneGraphFluxPipeline:
    return SceneGraphFluxPipeline.from_pretrained(str(model_id))


@pytest.fixture(scope="module")
def pipe(model_id: Path, adapter: Path) -> SceneGraphFluxPipeline:
    return SceneGraphFluxPipeline.from_pretrained(str(model_id), adapter=adapter)

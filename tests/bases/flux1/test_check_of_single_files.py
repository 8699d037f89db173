"""FLUX as single files: each is known by its header to be whole, and of the right model.

If one of these failed, a single file of another model would be loaded as FLUX.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from sgflux.bases.flux1.check import check_model
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource
from tests.helpers.single_files import SingleFiles, write_single_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SingleFiles:
    return write_single_files(tmp_path_factory.mktemp("one") / "files")


def check(files: SingleFiles) -> tuple[str, ...]:
    return check_model(ModelSource(**files.flags())).lines  # type: ignore[arg-type]


def test_whole_files(files: SingleFiles) -> None:
    (line,) = check(files)
    assert "(transformer, vae, text_encoder, text_encoder_2)" in line


@pytest.mark.parametrize("part", ["transformer", "autoencoder", "text_encoder", "text_encoder_2"])
def test_a_file_that_is_cut_off(files: SingleFiles, part: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(getattr(files, part).read_bytes()[:-1])
    with pytest.raises(SgfluxError, match=r"broken\.safetensors: has .*\(1 bytes are missing\)"):
        check(replace(files, **{part: broken}))
    with pytest.raises(SgfluxError, match=r"gone\.safetensors: there is no such file"):
        check(replace(files, **{part: tmp_path / "gone.safetensors"}))


def test_a_transformer_without_a_layer(files: SingleFiles, tmp_path: Path) -> None:
    weights = load_file(files.transformer)
    del weights["final_layer.linear.bias"]
    save_file(weights, tmp_path / "fewer.safetensors")
    with pytest.raises(SgfluxError, match=r"has no weights for 'proj_out\.bias'.*not whole"):
        check(replace(files, transformer=tmp_path / "fewer.safetensors"))

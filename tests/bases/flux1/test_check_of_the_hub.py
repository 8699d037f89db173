"""A base in the hub's cache: complete, incomplete, or not there.

If one of these failed, a base that is half downloaded would be loaded until its first missing
file.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sgflux.bases import hub
from sgflux.bases.flux1.check import check_model
from sgflux.bases.hub import resolve_model_id
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource


@pytest.fixture
def snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """tiny-flux as a snapshot of somebody/flux."""
    folder = tmp_path / "models--somebody--flux" / "snapshots" / "0123"
    shutil.copytree(resolve_model_id("tiny"), folder)
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(folder))
    return folder


def test_a_complete_one(snapshot: Path) -> None:
    (line,) = check_model(ModelSource(model_id="somebody/flux")).lines
    assert line.startswith("somebody/flux: configuration, tokenizers and the headers of")


@pytest.mark.parametrize(
    "file", ["transformer/diffusion_pytorch_model.safetensors", "vae/config.json", "tokenizer_2"]
)
def test_an_interrupted_download(snapshot: Path, file: str) -> None:
    path = snapshot / file
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(SgfluxError, match=r"is not in the hub's cache.*hf download somebody/flux"):
        check_model(ModelSource(model_id="somebody/flux"))
    report = check_model(ModelSource(model_id="somebody/flux", allow_download=True))
    assert "NOT checked, because still to be fetched" in report.lines[-1]


def test_nothing_of_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> str:
        raise OSError("no network")

    monkeypatch.setattr(hub, "snapshot_download", absent)
    with pytest.raises(SgfluxError, match="'somebody/flux' cannot be loaded: no network"):
        check_model(ModelSource(model_id="somebody/flux"))
    report = check_model(ModelSource(model_id="somebody/flux", allow_download=True))
    assert report.unreadable is None
    assert report.lines[-1].endswith("fetched from the hub: all of it")

"""Without --height and --width a run has its model's own size, and says so.

A command line for FLUX that is tried on the bundled model would else train it at 512 pixels, 64
times its image tokens, and look as if it hung.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from sgflux.bases.flux1.facts import picture_size
from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.settings.checks import ConfigError
from sgflux.settings.classifier import ClassifierConfig
from sgflux.settings.model_source import ModelSource
from sgflux.settings.training import TrainConfig
from sgflux.training.classifier.training import train_classifier
from sgflux.training.encoding.size import with_size
from sgflux.training.run.train import train
from tests.helpers.single_files import make_autoencoder, original_autoencoder_state
from tests.helpers.training import MakeConfig

Capture = pytest.CaptureFixture[str]


def model_of_size(folder: Path, flux: Path, size: object) -> Path:
    """The small model with another size in its autoencoder's configuration."""
    shutil.copytree(flux, folder)
    path = folder / "vae" / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"sample_size": size}))
    return folder


def sizes(config: TrainConfig) -> tuple[tuple[int, int], str]:
    said: list[str] = []
    return with_size(config.pictures, config.model, say=said.append).size, "".join(said)


def test_the_bundled_model_is_trained_at_64() -> None:
    config = TrainConfig.from_flat(train_jsonl="a", output_dir="b", model_id="tiny")
    size, said = sizes(config)
    assert size == (64, 64)
    assert said.startswith("pictures:   64 x 64 pixels, as the model's own size;")
    with pytest.raises(ConfigError, match="nobody has read yet"):
        _ = config.pictures.size


@pytest.mark.parametrize(
    ("own", "expected", "why"),
    [
        (1024, 512, "half of the model's own 1024"),
        (768, 512, "less than the model's own 768"),
        (512, 512, "the model's own size"),
        (32, 32, "the model's own size"),
    ],
)
def test_it_is_read_from_the_model_and_at_most_512(
    tmp_path: Path, flux: Path, make_config: MakeConfig, own: int, expected: int, why: str
) -> None:
    model = model_of_size(tmp_path / "model", flux, own)
    config = make_config(tmp_path / "run", model_id=str(model), height=None, width=None)
    size, said = sizes(config)
    assert size == (expected, expected)
    assert why in said


def test_the_size_of_a_single_file_is_flux_own(tmp_path: Path) -> None:
    path = tmp_path / "ae.safetensors"
    save_file(original_autoencoder_state(make_autoencoder()), path)
    source = ModelSource(model_id="flux.safetensors", components="x", autoencoder=path)
    assert picture_size(source) == 1024


def test_a_given_side_stays_and_nothing_is_read_when_both_are(
    tmp_path: Path, make_config: MakeConfig
) -> None:
    size, _ = sizes(make_config(tmp_path, height=48, width=None))
    assert size == (48, 64)
    size, said = sizes(make_config(tmp_path, height=48, width=16, model_id="no/such-model"))
    assert (size, said) == ((48, 16), "")


@pytest.mark.parametrize("size", [None, 0, "64", True, [64]])
def test_a_model_that_does_not_say_its_size_is_named(
    tmp_path: Path, flux: Path, size: object
) -> None:
    model = model_of_size(tmp_path / "model", flux, size)
    with pytest.raises(SgfluxError, match=r"config\.json: sample_size.* give height and width"):
        picture_size(ModelSource(model_id=str(model)))
    (model / "vae" / "config.json").write_text("{")
    with pytest.raises(SgfluxError, match=r"config\.json: not JSON"):
        picture_size(ModelSource(model_id=str(model)))


def test_a_run_says_and_records_it(tmp_path: Path, make_config: MakeConfig, flux: Path) -> None:
    model = model_of_size(tmp_path / "model", flux, 16)
    config = make_config(
        tmp_path / "run", model_id=str(model), height=None, width=None, max_steps=1, sample_steps=1
    )
    bundle = train(config).bundle
    assert bundle is not None
    settings = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (settings["height"], settings["width"]) == (16, 16)
    log = (tmp_path / "run" / "training.log").read_text()
    assert "pictures:   16 x 16 pixels, as the model's own size" in log
    assert "16 x 16 pixels" in (bundle / "README.md").read_text()


def test_a_run_that_was_told_its_size_goes_on_without_being_told(
    tmp_path: Path, make_config: MakeConfig, flux: Path
) -> None:
    """Before, 512 was written into every checkpoint; now the model says it, to the same effect."""
    model = str(model_of_size(tmp_path / "model", flux, 16))
    own: dict[str, Any] = {"model_id": model, "height": None, "width": None, "sample_steps": 0}
    train(make_config(tmp_path / "run", **{**own, "height": 16, "width": 16}))
    shutil.rmtree(tmp_path / "run" / "final")
    assert train(make_config(tmp_path / "run", **own, resume="auto")).step == 4


def test_the_cache_and_a_classifier_have_the_same_size(
    tmp_path: Path, flux: Path, scenes: Path, capsys: Capture
) -> None:
    model = str(model_of_size(tmp_path / "model", flux, 16))
    files = [str(scenes / "train.jsonl"), str(scenes / "val.jsonl")]
    where = ["--latent-cache-dir", str(tmp_path / "cache"), "--model-id", model]
    assert main(["cache", *files, *where, "--device", "cpu", "--dtype", "fp32"]) == 0
    assert "pictures:   16 x 16 pixels, as the model's own size" in capsys.readouterr().out
    cached = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    said: list[str] = []
    config = ClassifierConfig.from_flat(
        train_jsonl=scenes / "train.jsonl",
        val_jsonl=scenes / "val.jsonl",
        output_dir=tmp_path / "classifier",
        latent_cache_dir=tmp_path / "cache",
        model_id=model,
        device="cpu",
        dtype="fp32",
        max_steps=1,
        batch_size=2,
        channels=8,
    )
    card = train_classifier(config, say=said.append)
    assert (card.training["height"], card.training["width"]) == (16, 16)
    assert said[0].startswith("pictures:   16 x 16 pixels")
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert now == cached

"""What a finished adapter travels with: its picture, its card, the versions it was made by.

If one of these failed, a finished adapter would travel with a picture that it did not draw.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.data.pictures import read_picture
from sgflux.graphs.scene_graph import SceneGraph
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.model_source import ModelSource
from sgflux.training.run.train import train
from sgflux.versions import installed_versions
from tests.helpers.training import MakeConfig
from tests.helpers.training_adapter import write_training_adapter


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_pipeline_reproduces_the_trainers_samples_bit_for_bit(
    tmp_path: Path, make_config: MakeConfig, flux: Path, dtype: str
) -> None:
    """Also where a training adapter was in the base: it must be gone from both."""
    import torch

    from sgflux.bases.flux1.load import load_transformer

    lora = tmp_path / "training.safetensors"
    write_training_adapter(lora, load_transformer(ModelSource(model_id=str(flux))))
    settings: dict[str, Any] = {"dtype": dtype, "training_adapter": str(lora)}
    settings["losses"] = {"lambda_words": 0.0}  # it does not go with a training adapter
    bundle = train(make_config(tmp_path / "run", **settings)).bundle
    assert bundle is not None
    pipeline = SceneGraphFluxPipeline.from_pretrained(
        str(flux),
        adapter=bundle,
        dtype={"fp32": torch.float32, "bf16": torch.bfloat16}[dtype],
    )
    pictures = []
    for name in ("sample.png", "sample_without_graph.png"):
        picture, record = read_picture(bundle / name)
        (again,) = pipeline.sample_batch(
            [None if record["graph"] is None else SceneGraph.from_json(record["graph"])],
            [record["prompt"]],
            [record["seed"]],
            steps=record["steps"],
            height=record["height"],
            width=record["width"],
        )
        assert np.array_equal(again, picture)
        assert record["adapter"] == pipeline.adapter_fingerprint
        pictures.append(picture)
    assert (pictures[0] != pictures[1]).any()
    card = (bundle / "README.md").read_text()
    for said in (
        "![with the graph](sample.png)",
        "*man, riding, horse*",
        "train.jsonl",
        "training.safetensors, in training alone",
        "## Validation",
        "pipeline_tag: text-to-image",
        "not stated; the base's and the data's licences apply",
    ):
        assert said in card
    # The guided teacher is explained where there is one.
    taught = "The loss with the graph can be the higher one" in card
    assert taught == (make_config(tmp_path / "run", **settings).losses.words.lambda_words > 0)
    versions = json.loads((bundle / "sgflux_adapter.json").read_text())["versions"]
    assert versions["torch"] == torch.__version__
    assert {"diffusers", "transformers", "peft", "safetensors"} < set(versions)


def test_the_version_of_torch_is_that_of_its_build(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary wheel is 2.13.0 in its metadata and 2.13.0+cu130 in torch; the build counts."""
    import torch

    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.13.0")
    monkeypatch.setattr(torch, "__version__", "2.13.0+cu130")
    assert installed_versions(["torch", "numpy"]) == {"torch": "2.13.0+cu130", "numpy": "2.13.0"}


def test_no_steps_no_picture(tmp_path: Path, make_config: MakeConfig) -> None:
    bundle = train(make_config(tmp_path / "run", sample_steps=0)).bundle
    assert bundle is not None
    assert not list(bundle.glob("*.png"))
    assert "## A sample" not in (bundle / "README.md").read_text()

"""An adapter's bundle says where its base is, and the commands believe it unless told otherwise.

If one of these failed, an adapter would be sampled or evaluated on another base than the one that
its bundle names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sgflux.bases.name import BaseName, public_name
from sgflux.cli import main
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.models.bundle_folder import read_base
from sgflux.models.hub import base_of
from sgflux.sampling import SceneGraphFluxPipeline
from tests.helpers.adapters import write_adapter


@pytest.fixture(scope="module")
def on_tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("on_tiny") / "final"
    return write_adapter(folder, "tiny", named=BaseName.of("tiny"))


def test_the_base_is_named_without_what_is_this_machines_alone(tmp_path: Path) -> None:
    hub = "black-forest-labs/FLUX.1-schnell"
    assert BaseName.of(hub, "v1") == BaseName(name=hub, model_id=hub, revision="v1")
    assert BaseName.of("tiny") == BaseName(name="tiny", model_id="tiny")
    folder = tmp_path / "FLUX.1-schnell"
    folder.mkdir()
    assert BaseName.of(str(folder)) == BaseName(name="FLUX.1-schnell", model_id=None)
    file = "/models/flux1-schnell.safetensors"
    assert BaseName.of(file) == BaseName(name="flux1-schnell.safetensors", model_id=None)
    assert public_name("../models/schnell") == "schnell"
    record = BaseName.of(hub, "v1")
    assert BaseName.from_json(json.loads(json.dumps(record.to_json()))) == record


def test_sample_and_saliency_know_the_base_of_an_adapter(on_tiny: Path, tmp_path: Path) -> None:
    assert read_base(on_tiny) == BaseName.of("tiny")
    size = ["--height", "32", "--width", "32"]
    few = ["--graph", "man, riding, horse", "--adapter", str(on_tiny), *size]
    out = ["--steps", "1", "--num-images", "1", "--output-dir", str(tmp_path / "s")]
    assert main(["sample", *few, *out]) == 0
    picture = tmp_path / "s" / "000-seed0.png"
    assert read_picture(picture)[1]["model"] == "tiny"
    maps = tmp_path / "maps"
    assert main(["saliency", "--image", str(picture), *few, "--output-dir", str(maps)]) == 0
    assert len(list(maps.iterdir())) == 4


def test_a_base_that_is_named_is_taken_all_the_same(on_tiny: Path, tmp_path: Path) -> None:
    pipeline = SceneGraphFluxPipeline.from_pretrained(adapter=on_tiny)
    assert pipeline.model_id == "tiny"
    with pytest.raises(SgfluxError, match=r"'nobody/nothing' cannot be loaded"):
        SceneGraphFluxPipeline.from_pretrained("nobody/nothing", adapter=on_tiny)


def changed(folder: Path, **entries: Any) -> Path:
    path = folder / "sgflux_adapter.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    return folder


def test_a_bundle_that_does_not_say_its_base_says_what_to_do(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "final", "tiny", named=BaseName.of("./mine/model"))
    with pytest.raises(SgfluxError, match=r"its folder or file was called 'model'\); name it with"):
        base_of(folder)
    with pytest.raises(SgfluxError, match=r"it is an older bundle\); name it with --model-id"):
        base_of(changed(folder, base_model=None))
    path = folder / "sgflux_adapter.json"
    description = json.loads(path.read_text())
    del description["base_model"]
    sizes = {"num_layers": 19, "num_single_layers": 38, "inner_dim": 3072, "guidance_embeds": False}
    description["adapter"]["base"] |= sizes
    path.write_text(json.dumps(description))
    assert base_of(folder) == ("black-forest-labs/FLUX.1-schnell", None)
    for entry in ({"name": "x"}, [1], {"name": 1, "model_id": None, "revision": None}):
        with pytest.raises(SgfluxError, match=r"sgflux_adapter\.json: base_model must have"):
            read_base(changed(folder, base_model=entry))

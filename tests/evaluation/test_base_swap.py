"""Pictures and figures belong to the base that drew them: another base is refused or drawn anew.

Broken, an evaluation into an old folder reports the first base's figures for a base that draws
noise.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sgflux.caveats import base_note
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import make_items
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.ranking import ALTERNATIVES, ranking_summary
from sgflux.evaluation.report.page import write_report
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.world.dataset import write_world
from tests.helpers.adapters import noisy, with_identity, write_adapter
from tests.helpers.flux import make_flux_folder
from tests.helpers.graph_examples import example


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "data"
    write_world(folder, train_per_class=0, val_per_class=0, test_per_class=1)
    return folder / "test.jsonl"


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_flux_folder(tmp_path_factory.mktemp("flux") / "model")


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, flux: Path) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    identity = SceneGraphFluxPipeline.from_pretrained(str(flux)).base_identity
    assert identity is not None
    return with_identity(write_adapter(folder / "old", flux), folder / "final", identity)


def settings(data: Path, out_dir: Path, flux: Path, adapter: Path, **more: Any) -> EvalConfig:
    return EvalConfig.from_flat(
        data=data,
        output_dir=out_dir,
        adapter=adapter,
        model_id=str(flux),
        items=2,
        arms=("base_relational", "graph"),
        steps=1,
        ranking_sigmas=0,
        device="cpu",
        **more,
    )


def run(config: EvalConfig) -> dict[str, Any]:
    return evaluate(config, show_progress=False, say=lambda line: None)


@pytest.mark.parametrize("part", ["transformer", "text_encoder_2", "vae"])
def test_another_base_never_reports_the_first_ones_pictures(
    data: Path, flux: Path, adapter: Path, tmp_path: Path, part: str
) -> None:
    out, other = tmp_path / "out", noisy(flux, tmp_path / "noisy", part)
    first = run(settings(data, out, flux, adapter))
    assert (first["timing"]["drawn"], first["model"]["base_check"]["status"]) == (4, "same")
    assert base_note(first) == ""
    killed = out / "pictures" / "graph" / f".0-0.png.{'a' * 32}.tmp"
    killed.write_bytes(b"half")
    again = run(settings(data, out, flux, adapter))
    assert not killed.exists()
    assert (again["timing"]["drawn"], again["timing"]["reused"]) == (0, 4)

    with pytest.raises(SgfluxError, match=rf"another base: {part} differs: adapter \w+, here \w+"):
        run(settings(data, out, other, adapter))
    second = run(settings(data, out, other, adapter, allow_other_base=True))
    assert (second["timing"]["replaced"], second["timing"]["reused"]) == (4, 0)
    assert second["model"]["base_check"]["difference"] == [part]
    assert second["model"]["fingerprint"] != first["model"]["fingerprint"]
    assert second["model"]["base"][part] != first["model"]["base"][part]
    for line in (out / "results.jsonl").read_text().split("\n")[:-1]:
        _, info = read_picture(out / json.loads(line)["path"])
        assert info["base"] == second["model"]["base"]
    report = write_report(out).read_text(encoding="utf-8")
    assert f"{part} differs" in report


def test_an_adapter_of_before_is_reported_with_a_base_not_verified(
    data: Path, flux: Path, tmp_path: Path
) -> None:
    old = write_adapter(tmp_path / "old", flux)
    results = run(settings(data, tmp_path / "out", flux, old))
    assert results["model"]["base_check"]["status"] == "unverified"
    assert base_note(results).startswith("base not verified")
    assert "base not verified" in write_report(tmp_path / "out").read_text(encoding="utf-8")
    # Results of before do not say it themselves.
    del results["model"]["base_check"]
    assert base_note(results).startswith("base not verified")


def test_an_adapter_that_is_no_number_is_refused_before_anything_is_drawn(
    data: Path, flux: Path, adapter: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(adapter, tmp_path / "broken"))
    path = broken / "graph_conditioner.safetensors"
    weights = load_file(path)
    weights["gate_text"][0, 0] = float("nan")
    save_file(weights, path, metadata={"format": "pt"})
    description = json.loads((broken / "sgflux_adapter.json").read_text())
    del description["digests"]
    (broken / "sgflux_adapter.json").write_text(json.dumps(description))
    with pytest.raises(SgfluxError, match=r"gate_text has 1 of \d+ values that are not finite"):
        run(settings(data, tmp_path / "out", flux, broken))
    assert not list((tmp_path / "out").rglob("*.png"))


def test_an_error_that_is_no_number_is_never_skipped() -> None:
    """Only an item without a negative has no error under it."""
    items = make_items(
        [example("man, riding, horse"), example("cat, above, dog", number=1)], [0, 1], seed=0
    )
    errors = torch.rand(len(ALTERNATIVES), 2, 3)
    sigmas = (0.2, 0.5, 0.8)
    assert all(item.swapped and item.replaced for item in items)
    ranking_summary(items, errors, sigmas=sigmas)
    for index, name in enumerate(ALTERNATIVES):
        broken = errors.clone()
        broken[index, 1, 2] = float("nan")
        with pytest.raises(SgfluxError, match=rf"row 2 \(.*its error under '{name}'"):
            ranking_summary(items, broken, sigmas=sigmas)

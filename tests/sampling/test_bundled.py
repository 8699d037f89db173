"""The adapter that comes with the package, and adapters that recommend how they are drawn.

If one of these failed, ``--adapter tiny`` would mean something else in one command than in another,
or a record would not have the steps and the graph scale of its picture.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.bases.hub import resolve_model_id
from sgflux.bases.name import BaseName
from sgflux.cli import main
from sgflux.data.pictures import read_picture
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.evaluation.report.data import find_metrics
from sgflux.models import bundle_folder
from sgflux.models.bundle import load_bundle, recommend_drawing
from sgflux.models.bundle_folder import CONFIG_FILE, find_bundle, read_drawing
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.settings.drawing import NOTHING_RECOMMENDED, RecommendedDrawing
from sgflux.web.adapters import find_adapters
from tests.helpers.adapters import write_adapter
from tests.helpers.rows import row, write_lines

GRAPH = "dog, above, box"
RECOMMENDED = RecommendedDrawing(steps=2, graph_scale=1.5)


@pytest.fixture(scope="module")
def recommending(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the bundled base, which recommends two steps and a graph scale of 1.5."""
    folder = tmp_path_factory.mktemp("recommending") / "final"
    write_adapter(folder, "tiny", named=BaseName.of("tiny"))
    recommend_drawing(folder, RECOMMENDED)
    return folder


@pytest.fixture
def bundled(recommending: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The package as if this adapter came with it, in an empty folder."""
    monkeypatch.setattr(bundle_folder, "_BUNDLED_FOLDER", recommending)
    monkeypatch.chdir(tmp_path)
    return recommending


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The package, of which the adapter's folder was lost."""
    monkeypatch.setattr(bundle_folder, "_BUNDLED_FOLDER", tmp_path / "missing")
    monkeypatch.chdir(tmp_path)


# --- the bundled adapter --------------------------------------------------------------------------


def test_the_package_comes_with_an_adapter_that_every_command_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one in the package itself, drawn in one step to be quick."""
    monkeypatch.chdir(tmp_path)
    few = ["--steps", "1", "--device", "cpu"]
    sample = ["sample", "--adapter", "tiny", "--graph", GRAPH, "--num-images", "1", *few]
    assert main([*sample, "--output-dir", "drawn"]) == 0
    assert read_picture(Path("drawn/000-seed0.png"))[1]["model"] == "tiny"
    write_lines(Path("test.jsonl"), row(GRAPH, meta={"image_rel_path": "none.png"}))
    data = ["--data", "test.jsonl", "--judge", "none", "--arms", "graph"]
    assert main(["eval", "--adapter", "tiny", *data, *few, "--output-dir", "judged"]) == 0
    assert len(list(Path("judged").glob("pictures/**/*.png"))) == 1
    assert main(["export", "--adapter", "tiny", "--output-dir", "published"]) == 0
    assert read_drawing("published") == read_drawing(find_bundle("tiny", allow_download=False))
    assert read_drawing("published") != NOTHING_RECOMMENDED


def test_its_name_is_refused_where_a_folder_of_that_name_has_an_adapter(
    bundled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which of the two is meant, the name does not say; a folder of anything else is not meant."""
    Path("tiny").mkdir()
    assert find_bundle("tiny", allow_download=False) == bundled
    assert find_adapters(Path("runs")) == ["tiny"]
    Path("tiny", CONFIG_FILE).touch()
    assert find_adapters(Path("runs")) == []
    whole = Path("tiny").absolute()
    for name in ("tiny", "./tiny"):  # a path has no "./"
        assert main(["sample", "--adapter", name, "--graph", GRAPH]) == 2
        said = capsys.readouterr().err
        assert "the adapter 'tiny' is the one that comes with sgflux, and there is an" in said
        assert f"give '{whole}' for the folder" in said
    for own in ("./tiny", str(whole)):
        assert find_bundle(own, allow_download=False).absolute() == whole


def test_the_models_name_is_refused_where_a_folder_of_that_name_has_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").mkdir()
    bundled = resolve_model_id("tiny")
    assert Path(bundled).name == "tiny-flux"
    Path("tiny", "model_index.json").touch()
    with pytest.raises(SgfluxError, match=r"the model 'tiny' is the one .*tiny' for the folder"):
        resolve_model_id("tiny")
    for own in ("./tiny", str(tmp_path / "tiny")):
        assert Path(resolve_model_id(own)).absolute() == tmp_path / "tiny"


@pytest.mark.usefixtures("missing")
@pytest.mark.parametrize(
    "command",
    [
        ["sample", "--adapter", "tiny", "--graph", GRAPH],
        ["saliency", "--adapter", "tiny", "--graph", GRAPH, "--image", "here.png"],
        ["eval", "--adapter", "tiny", "--data", "here.png"],
        ["export", "--adapter", "tiny", "--output-dir", "out"],
        ["page", "--adapter", "tiny"],
        ["train", "--init-from", "tiny", "--train-jsonl", "here.png", "--output-dir", "out"],
    ],
    ids=lambda command: command[0],
)
def test_a_damaged_installation_is_named(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("here.png").write_bytes(b"")
    assert main(command) == 2
    assert "the bundled adapter is missing from this installation" in capsys.readouterr().err


def test_it_draws_on_its_own_base_as_it_recommends(bundled: Path) -> None:
    few = ["--graph", GRAPH, "--num-images", "1", "--device", "cpu"]
    assert main(["sample", "--adapter", "tiny", "--compare", "--output-dir", "a", *few]) == 0
    given = ["--steps", "2", "--graph-scale", "1.5", "--output-dir", "b"]
    assert main(["sample", "--adapter", str(bundled), "--model-id", "tiny", *given, *few]) == 0
    picture, info = read_picture(Path("a/000-seed0.png"))
    assert str(bundled.parent) not in json.dumps(info)
    again, same = read_picture(Path("b/000-seed0.png"))
    assert np.array_equal(picture, again)
    assert info == same
    assert (info["model"], info["steps"], info["graph_scale"]) == ("tiny", 2, 1.5)
    for arm in ("001", "002"):  # without a graph, and the base alone
        _, info = read_picture(Path(f"a/{arm}-seed0.png"))
        assert (info["steps"], info["graph_scale"]) == (2, 1.0)


def test_an_evaluation_names_it_and_the_numbers_used(bundled: Path) -> None:
    data = write_lines(Path("test.jsonl"), row(GRAPH, meta={"image_rel_path": "none.png"}))
    config = EvalConfig.from_flat(
        data=data,
        output_dir=Path("out"),
        adapter=Path("tiny"),
        judge="none",
        device="cpu",
        arms=("graph",),
    )
    results = evaluate(config, show_progress=False, say=lambda line: None)
    assert results["adapter"]["path"] == results["settings"]["adapter"] == "tiny"
    assert (results["settings"]["steps"], results["settings"]["graph_scale"]) == (2, 1.5)
    (picture,) = Path("out").glob("pictures/**/*.png")
    assert read_picture(picture)[1]["graph_scale"] == 1.5
    assert str(bundled.parent) not in Path("out/evaluation_results.json").read_text()
    Path("metrics.jsonl").write_text("")  # of something else
    assert find_metrics("tiny") is None


def test_it_is_exported(bundled: Path) -> None:
    lora = ["--format", "kohya", "--output", "lora.safetensors"]
    assert main(["export", "--adapter", "tiny", "--output-dir", "published", *lora]) == 0
    assert Path("lora.safetensors").is_file()
    assert read_drawing("published") == read_drawing(bundled) == RECOMMENDED


# --- what an adapter recommends -------------------------------------------------------------------


def test_export_writes_what_is_recommended(
    adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(source: Path, target: str, *flags: str) -> int:
        out = str(tmp_path / target)
        return main(["export", "--adapter", str(source), "--output-dir", out, *flags])

    assert export(adapter, "plain") == 0
    assert "drawing" not in json.loads((tmp_path / "plain" / CONFIG_FILE).read_text())
    assert export(adapter, "steps", "--default-steps", "8", "--half") == 0
    assert read_drawing(tmp_path / "steps") == RecommendedDrawing(steps=8)
    assert export(tmp_path / "steps", "both", "--default-graph-scale", "1.5", "--half") == 0
    assert read_drawing(tmp_path / "both") == RecommendedDrawing(steps=8, graph_scale=1.5)
    load_bundle(tmp_path / "both")
    assert export(tmp_path / "both", "new", "--default-stochastic-sampling", "True") == 0
    expected = RecommendedDrawing(steps=8, graph_scale=1.5, stochastic_sampling=True)
    assert read_drawing(tmp_path / "new") == expected
    load_bundle(tmp_path / "new")
    assert export(adapter, "no", "--default-steps", "0") == 2
    assert "default_steps must be a whole number from 1" in capsys.readouterr().err
    lora = ["--format", "kohya", "--output", str(tmp_path / "lora.safetensors")]
    assert main(["export", "--adapter", str(adapter), *lora, "--default-steps", "8"]) == 2
    assert "default_steps (8) has no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"steps": 0}, "drawing.steps must be a whole number from 1"),
        ({"steps": 2.5}, "drawing.steps must be a whole number"),
        ({"graph_scale": "much"}, "drawing.graph_scale must be a finite number"),
        ({"graph_scale": -1}, "drawing.graph_scale must lie between 0 and 10"),
        ({"seed": 1}, "unknown setting 'drawing.seed'"),
        ([8], "drawing must be a table"),
    ],
)
def test_a_damaged_recommendation_names_file_and_key(
    recommending: Path, tmp_path: Path, entry: Any, said: str
) -> None:
    change(shutil.copytree(recommending, tmp_path / "bundle"), entry)
    with pytest.raises(SgfluxError) as error:
        SceneGraphFluxPipeline.from_pretrained("tiny", adapter=tmp_path / "bundle")
    assert f"bundle/{CONFIG_FILE}: {said}" in str(error.value)


def test_another_recommendation_is_not_the_adapters(recommending: Path, tmp_path: Path) -> None:
    change(shutil.copytree(recommending, tmp_path / "bundle"), {"steps": 3})
    with pytest.raises(SgfluxError, match="not those that were saved"):
        load_bundle(tmp_path / "bundle")


def change(folder: Path, entry: Any) -> None:
    path = folder / CONFIG_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"drawing": entry}))


def test_who_recommends_nothing_draws_as_before(pipe: SceneGraphFluxPipeline) -> None:
    assert pipe.drawing == NOTHING_RECOMMENDED
    before = pipe(GRAPH, seed=0, num_inference_steps=4, graph_scale=1.0, output_type="np")
    now = pipe(GRAPH, seed=0, output_type="np")
    assert np.array_equal(before.images, now.images)
    record: dict[str, Any] = {"graph": None, "prompt": "a dog", "seed": 0}
    assert pipe.record(**record, steps=None) == pipe.record(**record, steps=4, graph_scale=1.0)

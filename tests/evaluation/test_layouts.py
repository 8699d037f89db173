"""Pictures in the folders of benchmarks: read here by the rules of the benchmarks' own scripts.

If one of these failed, a script would score another prompt's picture, or none.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgflux.cli import main
from sgflux.data.pictures import read_picture, save_picture
from sgflux.evaluation.arms import PictureRequest
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from tests.helpers.rows import write_lines

ALONE = {"tag": "single_object", "include": [{"class": "harp", "count": 1}], "prompt": "a harp"}
POSITIONS = [
    {
        "tag": "position",
        "include": [
            {"class": "harp", "count": 1},
            {"class": "fork", "count": 1, "position": [where, 0]},
        ],
        "prompt": f"a photo of a fork {where} a harp",
    }
    for where in ("above", "left of")
]
QUESTIONS = {
    "prompt": "a owl under a kite",
    "atom_count": 3,
    "vqa_list": [
        ["How many owls are in the image?", "one"],
        ["Is the owl under the kite?", "Yes"],
        ["How many kites are in the image?", "one"],
    ],
    "skills": ["count", "position", "count"],
}
ARMS = ("base_relational", "graph")


class Numbering:
    """Draws its seed, arm and prompt into the pixels."""

    name = "numbering"

    def draw(self, requests: Sequence[PictureRequest]) -> np.ndarray:
        return np.stack([picture_of(one.arm, one.prompt, one.repeat) for one in requests])

    def record(self, request: PictureRequest) -> dict[str, Any]:
        return {"arm": str(request.arm), "seed": request.seed, "prompt": request.prompt}


def picture_of(arm: str, prompt: str, repeat: int) -> np.ndarray:
    rng = np.random.default_rng([*prompt.encode(), ARMS.index(arm), repeat])
    return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)


def evaluated(folder: Path, *lists: Path, repeats: int = 2) -> Path:
    rows = folder / "prompts.jsonl"
    assert main(["data", "from-prompts", *map(str, lists), "--output", str(rows)]) == 0
    config = EvalConfig.from_flat(
        data=rows,
        output_dir=folder / "evaluation",
        arms=ARMS,
        judge="none",
        seeds_per_item=repeats,
    )
    evaluate(config, generator=Numbering(), show_progress=False, say=lambda line: None)
    return config.output_dir


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("layouts")
    spatial = folder / "spatial_val.txt"
    spatial.write_text("a fork and a harp\na fork next to a harp\na heron on side of a piano\n")
    evaluation = evaluated(
        folder,
        write_lines(folder / "evaluation_metadata.jsonl", ALONE, *POSITIONS),
        write_lines(folder / "geneval2_data.jsonl", QUESTIONS),
        spatial,
    )
    assert main(["eval", "layout", str(evaluation)]) == 0
    return evaluation / "layouts"


def is_picture(path: Path, arm: str, prompt: str, repeat: int) -> bool:
    return bool((read_picture(path)[0] == picture_of(arm, prompt, repeat)).all())


def test_genevals_script_finds_every_picture_under_its_metadata(layouts: Path) -> None:
    root = layouts / "base_relational" / "evaluation_metadata"
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name.isdigit())
    assert [path.name for path in folders] == ["00001", "00002"], "places in the list, from 0"
    for folder, line in zip(folders, POSITIONS, strict=True):
        assert json.loads((folder / "metadata.jsonl").read_text()) == line
        samples = sorted((folder / "samples").iterdir())
        assert [path.name for path in samples] == ["0000.png", "0001.png"]
        for repeat, path in enumerate(samples):
            assert re.match(r"\d+\.png", path.name)
            assert is_picture(path, "base_relational", line["prompt"], repeat)


def test_t2i_compbenchs_scripts_read_the_prompt_from_the_name(layouts: Path) -> None:
    root = layouts / "base_relational" / "spatial_val"
    names = [path.name for path in (root / "samples").iterdir()]
    names.sort(key=lambda name: int(name.split("_")[1].split(".")[0]))
    assert [int(name.split("_")[-1].split(".")[0]) for name in names] == [2, 3, 4, 5]
    prompts = [name.split("_")[0] for name in names]
    assert prompts == ["a fork next to a harp"] * 2 + ["a heron on side of a piano"] * 2
    for number, (name, prompt) in enumerate(zip(names, prompts, strict=True)):
        assert is_picture(root / "samples" / name, "base_relational", prompt, number % 2)
    assert (root / "prompts.txt").read_text().splitlines() == prompts[::2]


def test_geneval2s_script_gets_a_path_for_each_prompt_of_its_data(layouts: Path) -> None:
    root = layouts / "base_relational" / "geneval2_data"
    lines = (root / "geneval2_data.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [QUESTIONS]
    for repeat, name in enumerate(("image_paths.json", "image_paths_1.json")):
        paths = json.loads((root / name).read_text())
        assert list(paths) == [QUESTIONS["prompt"]]
        assert is_picture(Path(paths[QUESTIONS["prompt"]]), "base_relational", *paths, repeat)


def test_every_arm_has_folders_that_say_seeds_texts_and_graphs(layouts: Path) -> None:
    about = json.loads((layouts / "graph" / "evaluation_metadata" / "layout.json").read_text())
    assert (about["arm"], about["benchmark"]) == ("graph", "geneval")
    first = about["pictures"][0]
    assert (first["file"], first["repeat"]) == ("00001/samples/0000.png", 0)
    assert first["graph"] == {"objects": ["harp", "fork"], "relationships": [[1, "above", 0]]}
    assert first["prompt"] == "a photo of harp and fork", "the adapter is told the objects only"
    picture = layouts / "graph" / "evaluation_metadata" / first["file"]
    assert read_picture(picture)[1]["seed"] == first["seed"], "the record stays in the picture"
    assert (layouts.parent / first["source"]).read_bytes() == picture.read_bytes()


def test_what_cannot_be_laid_out_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = write_lines(tmp_path / "evaluation_metadata.jsonl", *POSITIONS)
    folder = evaluated(tmp_path, metadata, repeats=1)

    def error(*words: str) -> str:
        assert main(["eval", "layout", str(folder), *words]) == 2
        return capsys.readouterr().err

    rows = tmp_path / "prompts.jsonl"
    moved = rows.rename(tmp_path / "moved.jsonl")
    assert "name the rows of the evaluation with --data" in error()
    other = write_lines(tmp_path / "other.jsonl", *moved.read_bytes().splitlines()[:1])
    assert "has other content than the rows" in error("--data", str(other))
    picture = next((folder / "pictures").rglob("*.png"))
    whole = picture.read_bytes()
    save_picture(picture, np.zeros((8, 8, 3), np.uint8), {})
    assert "has changed since it was judged" in error("--data", str(moved))
    assert not (folder / "layouts").exists(), "all of it or nothing"
    picture.write_bytes(whole)
    assert main(["eval", "layout", str(folder), "--data", str(moved)]) == 0
    assert "layouts is there already" in error("--data", str(moved))


def test_a_prompt_that_would_be_cut_by_the_script_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "long.txt"
    prompts.write_text(f"a {'very-' * 50}long fork next to a harp\n")
    folder = evaluated(tmp_path, prompts, repeats=1)
    assert main(["eval", "layout", str(folder)]) == 2
    assert "line 1 of long.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage",
    [
        None,
        {"file": "../../outside.jsonl"},
        {"file": "...txt"},
        {"file": "C:\\lists\\a.txt"},
        {"index": -1},
        {"index": "0"},
        {"prompt": None},
    ],
)
def test_other_rows_have_no_layout(
    damage: dict[str, object] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither rows of no benchmark, nor damaged ones, whose files could lie outside the folder."""
    folder = evaluated(
        tmp_path, write_lines(tmp_path / "evaluation_metadata.jsonl", *POSITIONS), repeats=1
    )
    rows = tmp_path / "prompts.jsonl"
    results = folder / "evaluation_results.json"
    first, second = (json.loads(line) for line in rows.read_text().splitlines())
    if damage is None:
        del second["meta"]["benchmark"]
    else:
        second["meta"]["benchmark"].update(damage)
    write_lines(rows, first, b"\n", second)
    digest = hashlib.sha256(rows.read_bytes()).hexdigest()
    text = json.loads(results.read_text())
    text["data"]["sha256"] = digest
    results.write_text(json.dumps(text))
    assert main(["eval", "layout", str(folder)]) == 2
    assert "is of no benchmark" in capsys.readouterr().err

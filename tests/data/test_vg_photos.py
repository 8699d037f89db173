"""Real Visual Genome photographs with whole graphs and boxes.

If one of these failed, the reader would work on made-up files only, and not on Visual Genome's
own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from sgflux.cli import main
from sgflux.data.boxes import union_box
from sgflux.data.check import check_dataset
from sgflux.data.examples import read_examples, resolve_image
from sgflux.data.images import fit_image, load_image
from sgflux.data.prompts import prompt_for
from tests.helpers.rows import VG_PHOTOS
from tests.helpers.visual_genome import Release

ANNOTATIONS = VG_PHOTOS / "annotations.jsonl"

pytestmark = pytest.mark.skipif(
    not ANNOTATIONS.exists(), reason=f"the real photographs are not at {VG_PHOTOS}"
)


def test_all_rows_are_read_and_written_back_as_they_are():
    examples = read_examples(ANNOTATIONS)
    rows = [json.loads(line) for line in ANNOTATIONS.read_text().splitlines()]
    assert len(examples) == 17
    assert [example.to_json() for example in examples] == rows


def test_raw_and_canonical_predicates_stand_beside_each_other():
    near = next(e for e in read_examples(ANNOTATIONS) if e.triple.predicate == "around/near")
    assert near.meta["predicate_raw"] == "near"
    assert near.prompt == "a photo of knife near food"
    assert prompt_for(near, "relational") == (
        # In reading order: knife and food are both above the table.
        "a photo of knife near food and bottle on table and cup on table and food on table"
    )
    assert prompt_for(near, "neutral") == "a photo of food and table and bottle and cup and knife"


def test_every_photograph_is_cropped_to_its_objects():
    pictures = set()
    for example in read_examples(ANNOTATIONS):
        path = resolve_image(example, VG_PHOTOS)
        pictures.add(path.name)
        assert example.boxes is not None
        fitted = fit_image(load_image(path), 32, 48, crop="union", box=union_box(example.boxes))
        assert fitted.shape == (3, 32, 48)
        assert -1 <= fitted.min() < fitted.max() <= 1
        assert torch.isfinite(fitted).all()
    assert len(pictures) == 5


def test_the_check_finds_nothing_wrong():
    report = check_dataset(ANNOTATIONS)
    assert report.ok, report.to_text()
    assert (report.rows, report.images) == (17, 5)
    assert report.negatives["predicate"] == 17


def test_the_photographs_as_a_raw_release_become_a_data_set(tmp_path: Path):
    release = Release(tmp_path)
    graphs = {row.image_rel_path: row for row in read_examples(ANNOTATIONS)}
    for path, row in graphs.items():
        assert row.boxes is not None
        things = [
            release.thing(name, box) for name, box in zip(row.graph.objects, row.boxes, strict=True)
        ]
        statements = [(things[s], p, things[o]) for s, p, o in row.graph.relationships]
        size = load_image(VG_PHOTOS / path).size
        release.image(*statements, path=f"VG_100K/{path}", size=size, picture=False)
        (tmp_path / "VG_100K").mkdir(exist_ok=True)
        shutil.copy(VG_PHOTOS / path, tmp_path / "VG_100K" / path)
    out = tmp_path / "out"
    command = ["data", "vg", "--raw", str(release.write()), "--output-dir", str(out), "--graphs"]
    command += ["--allow-imbalance", "--val-per-class", "0", "--test-per-class", "0"]
    assert main(command) == 0
    rows = read_examples(out / "vg_quickwin_train.jsonl")
    assert {Path(row.image_rel_path).name for row in rows} == set(graphs)
    for row in rows:
        original = graphs[Path(row.image_rel_path).name]
        assert set(row.graph.triples()) <= set(original.graph.triples())
    assert check_dataset(out / "vg_quickwin_train.jsonl", images_dir=tmp_path).ok

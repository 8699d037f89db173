"""The CLIP judge, with a small random CLIP in a folder.

If one of these failed, an alignment would be that of another picture or caption.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges import Means, make_judge
from sgflux.evaluation.judges.clip import ClipJudge
from sgflux.evaluation.judges.judge import not_covered, read_pictures
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.settings.judges import JudgeSettings
from tests.helpers.vision_language import save_clip, save_llava

RANDOM = np.random.default_rng(0)
PICTURES = [RANDOM.integers(0, 256, (40, 60, 3), np.uint8), np.zeros((64, 48, 3), np.uint8)]
RIDING, SWAPPED = Triple("man", "riding", "horse"), Triple("horse", "riding", "man")
ON = Triple("cup#2", "on top of", "table")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_clip(tmp_path_factory.mktemp("clip"))


def test_scores_are_clips_logits_and_the_nearer_caption_holds(folder: str) -> None:
    judge = ClipJudge(folder, batch_size=2)
    readings = read_pictures(judge, PICTURES, [[RIDING, ON], [RIDING]])
    network = transformers.CLIPModel.from_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["a photo of man riding horse", "a photo of horse riding man"]
    for picture, reading in zip(PICTURES, readings, strict=True):
        with torch.inference_mode():
            logits = network(
                **tokenizer(texts, return_tensors="pt"),
                **processor(images=[Image.fromarray(picture)], return_tensors="pt"),
            ).logits_per_image[0]
        verdict = reading.verdicts[RIDING]
        assert verdict.score == pytest.approx(float(logits[0]), abs=1e-4)
        assert verdict.holds is bool(logits[0] > logits[1])
    assert set(readings[0].evidence["alignment"]) == {
        *texts,
        "a photo of cup on table",
        "a photo of table on cup",
    }


def test_of_a_statement_and_the_swapped_one_exactly_one_holds(folder: str) -> None:
    for one in read_pictures(ClipJudge(folder), PICTURES, [[RIDING, SWAPPED]] * 2):
        assert one.verdicts[RIDING].holds is not one.verdicts[SWAPPED].holds


def test_what_has_no_swapped_statement_is_not_covered(folder: str) -> None:
    judge = ClipJudge(folder)
    statements = [RIDING, Triple("man", "near", "dog"), Triple("man", "kicking", "ball")]
    assert not_covered(judge, statements) == {"around/near": 1, "kicking": 1}
    assert [one.verdicts for one in read_pictures(judge, PICTURES, [[], statements[1:]])] == [
        {},
        {},
    ]
    judge.check([SceneGraph.parse("dog, near, dog#2; man, riding, horse")])
    with pytest.raises(SgfluxError, match=r"judge 'clip' cannot tell .* 'dog, left of, dog' apart"):
        judge.check([SceneGraph.parse("dog, left of, dog#2")])


def test_another_model_is_refused(tmp_path: Path) -> None:
    folder = save_llava(tmp_path)
    settings = JudgeSettings(judge_model=folder)
    with pytest.raises(SgfluxError, match="is a model of the kind 'llava', not 'clip'"):
        make_judge("clip", Means(settings=settings, device="cpu"))


def test_calibration_shows_what_it_is_worth(folder: str, tmp_path: Path) -> None:
    """A random CLIP tells nothing: what it accepts of true and swapped statements adds up to 1."""
    from sgflux.world.dataset import write_world

    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    out = tmp_path / "clip.json"
    words = ["--judge", "clip", "--judge-model", folder, "--output", str(out)]
    assert main(["eval", "calibrate", *words, "--data", str(tmp_path / "data/test.jsonl")]) == 0
    content = json.loads(out.read_text())
    assert content["judge"]["model"] == folder
    stated = content["stated"]
    assert stated["confirmed"] + stated["swapped_accepted"] == pytest.approx(1.0)

"""What would stop an evaluation after every arm is drawn stops it before the first.

If one of these failed, a missing picture or an unreadable word would stop an evaluation after
hours of drawing.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from sgflux.bases.flux1.check import check_model
from sgflux.data.examples import read_examples
from sgflux.errors import SgfluxError
from sgflux.evaluation import evaluator
from sgflux.evaluation.arms import Arm, make_items, plan_pictures
from sgflux.evaluation.evaluator import evaluate
from sgflux.evaluation.precheck import check_graphs
from sgflux.evaluation.readable import ReadableExamples
from sgflux.models.bundle_folder import BUNDLE_FORMAT, CONFIG_FILE
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.model_source import ModelSource


def write(folder: Path, *, predicates: list[str], **more: Any) -> Path:
    lines = []
    for number, predicate in enumerate(predicates):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(folder / f"{number}.png")
        triple = {"subject": "dog", "predicate": predicate, "object": "box"}
        meta = {"image_rel_path": f"{number}.png"}
        row = {"prompt": "a photo", "concepts": ["dog"], "triple": triple, "meta": meta, **more}
        lines.append(json.dumps(row) + "\n")
    path = folder / "test.jsonl"
    path.write_text("".join(lines))
    return path


def config_of(data: Path, **changes: Any) -> EvalConfig:
    settings: dict[str, Any] = {"data": data, "output_dir": data.parent / "out", "judge": "none"}
    return EvalConfig.from_flat(**{**settings, "adapter": data.parent / "final", **changes})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"crop": "union"}, "has no boxes"),
        ({"crop": "union", "ranking_sigmas": 0}, "the model is loaded"),
        ({"crop": "union", "adapter": None, "arms": ("base_neutral",)}, "the model is loaded"),
    ],
)
def test_what_is_ranked_is_looked_at_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], expected: str
) -> None:
    """Without a ranking accuracy nobody needs the boxes."""

    def load(*parts: object) -> None:
        raise SgfluxError("the model is loaded")

    data = write(tmp_path, predicates=["on", "in"])
    (tmp_path / "final").mkdir()
    (tmp_path / "final" / CONFIG_FILE).write_text(json.dumps({"format": BUNDLE_FORMAT}))
    monkeypatch.setattr(
        evaluator,
        "readable_examples",
        lambda path, **_: ReadableExamples(
            read_examples(path), range(2), read_examples(path), None, ""
        ),
    )
    monkeypatch.setattr(evaluator, "check_overlap", lambda *_, **__: {"text": None})
    monkeypatch.setattr(evaluator.SceneGraphFluxPipeline, "from_settings", load)
    with pytest.raises(SgfluxError, match=expected):
        evaluate(config_of(data, **changes), say=lambda _: None, show_progress=False)


def test_words_of_all_graphs(tmp_path: Path) -> None:
    """Also of those that only the false and the shuffled graphs put together."""
    data = write(tmp_path, predicates=["on", "riding " * 21 + "in"])
    examples = read_examples(data, open_vocabulary=True)
    items = make_items(examples, range(2), seed=0, predicates=None)
    requests = plan_pictures(items, Arm.GRAPH, seeds_per_item=1, seed=0)
    unreadable = check_model(ModelSource(model_id="tiny")).unreadable
    assert unreadable is not None

    def pipeline(kind: str) -> Any:
        return SimpleNamespace(
            model=SimpleNamespace(config=SimpleNamespace(encoder={"kind": kind})),
            text_encoders=SimpleNamespace(unreadable=partial(unreadable, max_sequence_length=24)),
        )

    with pytest.raises(SgfluxError, match=r"test\.jsonl:2: .*not within the text encoder's 24"):
        check_graphs(pipeline("native"), items, requests, data=data)
    check_graphs(pipeline("cgip"), items, requests, data=data)  # it has words of its own

"""Who a judge with a model of transformers is: its weights, and the settings read beside them.

If one of these failed, a judge that prepares pictures differently would be taken for the calibrated
one, or the same model, saved by another version, for another judge.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sgflux.evaluation.judges.clip import ClipJudge
from sgflux.evaluation.judges.vision_language import VisionLanguageModel
from tests.helpers.vision_language import save_clip, save_llava


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_clip(tmp_path_factory.mktemp("clip")))


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(save_llava(tmp_path_factory.mktemp("llava")))


def of_clip(folder: Path) -> str | None:
    return ClipJudge(str(folder)).identity.sha256


def of_llava(folder: Path) -> str | None:
    return VisionLanguageModel.load(str(folder), torch.device("cpu")).sha256


def with_entry(source: Path, out: Path, file: str, entry: Callable[[dict[str, Any]], Any]) -> Path:
    shutil.copytree(source, out)
    content = json.loads((out / file).read_text())
    entry(content)
    (out / file).write_text(json.dumps(content, sort_keys=True))
    return out


def mean(content: dict[str, Any]) -> None:
    content["image_mean"] = [0.1, 0.2, 0.3]


def mean_of_pictures(content: dict[str, Any]) -> None:
    content["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]


def epsilon(content: dict[str, Any]) -> None:
    content["text_config"]["rms_norm_eps"] = 0.5


def version(content: dict[str, Any]) -> None:
    content |= {"transformers_version": "1.0"}


def test_a_clip_that_prepares_pictures_differently_is_another_judge(
    clip: Path, tmp_path: Path
) -> None:
    same = with_entry(clip, tmp_path / "same", "config.json", version)
    other = with_entry(clip, tmp_path / "other", "preprocessor_config.json", mean)
    assert of_clip(same) == of_clip(clip) != of_clip(other)


def test_a_model_that_is_asked_differently_is_another_judge(llava: Path, tmp_path: Path) -> None:
    same = with_entry(llava, tmp_path / "same", "config.json", version)
    pictures = with_entry(llava, tmp_path / "p", "processor_config.json", mean_of_pictures)
    network = with_entry(llava, tmp_path / "n", "config.json", epsilon)
    asked = shutil.copytree(llava, tmp_path / "asked")
    (asked / "chat_template.jinja").write_text(
        (asked / "chat_template.jinja").read_text().replace("Assistant:", "Answer:")
    )
    assert of_llava(same) == of_llava(llava)
    assert len({of_llava(one) for one in (llava, pictures, network, asked)}) == 4

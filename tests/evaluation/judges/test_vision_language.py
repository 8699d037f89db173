"""Vision-language models of transformers, as small random ones of the real classes in a folder.

If one of these failed, answers would be read at a wrong token, padding would change them, or a
model that nobody can ask would be asked. What published weights say stays untested here, and so do
the processors of Qwen-VL and SmolVLM, which need torchvision.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.evaluation.judges import Means, make_judge
from sgflux.evaluation.judges.judge import read_pictures
from sgflux.evaluation.judges.vision_language import VisionLanguageModel, answer_tokens
from sgflux.graphs.scene_graph import Triple
from sgflux.settings.judges import JudgeSettings
from sgflux.world.dataset import write_world
from tests.helpers.vision_language import (
    TEMPLATE,
    TEXT,
    byte_tokenizer,
    save_idefics3,
    save_llava,
)

CPU = torch.device("cpu")
RANDOM = np.random.default_rng(0)
PICTURES = [RANDOM.integers(0, 256, (40, 60, 3), np.uint8), np.zeros((64, 48, 3), np.uint8)]
QUESTIONS = ["Which one? A. cat B. dog", "Which one is it, of these? A. a cat B. a dog C. a cow"]


@pytest.fixture(scope="module", params=[save_llava, save_idefics3])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    saved: str = request.param(tmp_path_factory.mktemp("model"))
    return saved


def test_a_letter_is_said_with_and_without_a_space_in_every_way_of_writing_it() -> None:
    vocabulary = {"A": 0, "ĠA": 1, "▁A": 2, " A": 3, "a": 4, "AB": 5, "##A": 6, "▁B": 7, "B.": 8}
    tokenizer = SimpleNamespace(get_vocab=lambda: vocabulary)
    assert [sorted(own) for own in answer_tokens(tokenizer, "AB")] == [[0, 1, 2, 3], [7]]
    with pytest.raises(SgfluxError, match="no token for the answer 'C'"):
        answer_tokens(tokenizer, "ABC")


def test_the_answer_tokens_of_a_tokenizer_are_those_that_it_writes() -> None:
    tokenizer = byte_tokenizer(spaced="AC")
    tokens = answer_tokens(tokenizer)
    assert [sorted(map(tokenizer.decode, own)) for own in tokens] == [
        [" A", "A"],
        ["B"],
        [" C", "C"],
    ]


def test_answers_are_the_probabilities_of_the_first_token_after_the_question(folder: str) -> None:
    """Recomputed by hand: the template's text, the processor, the softmax, two tokens' sum."""
    model = VisionLanguageModel.load(folder, CPU)
    found = model.answers(PICTURES[:1], QUESTIONS[:1])
    processor = transformers.AutoProcessor.from_pretrained(folder)
    network = transformers.AutoModelForImageTextToText.from_pretrained(folder)
    text = f"<image>{QUESTIONS[0]}\nAssistant:"
    inputs = processor(text=[text], images=[[Image.fromarray(PICTURES[0])]], return_tensors="pt")
    with torch.inference_mode():
        tokens = network(**inputs).logits[0, -1].softmax(dim=-1)
    vocabulary = processor.tokenizer.get_vocab()
    expected = [float(tokens[[vocabulary[x], vocabulary[f"Ġ{x}"]]].sum()) for x in "ABC"]
    assert np.exp(found[0]) == pytest.approx(expected, rel=1e-5)


def test_questions_of_unequal_length_and_pictures_of_unequal_size_are_answered_as_alone(
    folder: str,
) -> None:
    model = VisionLanguageModel.load(folder, CPU)
    together = model.answers(PICTURES, QUESTIONS)
    alone = [model.answers([p], [q])[0] for p, q in zip(PICTURES, QUESTIONS, strict=True)]
    assert together == pytest.approx(np.stack(alone), abs=1e-5)
    assert abs(together[0] - together[1]).max() > 1e-6, "they do depend on what is asked"


def test_the_picture_counts(folder: str) -> None:
    model = VisionLanguageModel.load(folder, CPU)
    one, other = model.answers([PICTURES[0], 255 - PICTURES[0]], QUESTIONS[:1] * 2)
    assert abs(one - other).max() > 1e-7


def test_the_judge_is_made_from_a_folder_and_gives_a_verdict_on_everything(folder: str) -> None:
    settings = JudgeSettings(judge_model=folder, judge_batch_size=3)
    judge = make_judge("vqa", Means(settings=settings, device="cpu"))
    assert judge is not None
    assert (judge.identity.model, len(judge.identity.sha256 or "")) == (folder, 64)
    asked = [Triple("man", "riding", "horse"), Triple("man", "kicking", "ball")]
    readings = read_pictures(judge, PICTURES, [asked, asked[:1]])
    assert [len(reading.verdicts) for reading in readings] == [2, 1]
    assert all(0 < question["letters"] < 1 for question in readings[0].evidence["questions"])


def test_a_model_without_a_chat_template_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = save_llava(tmp_path, template=None)
    with pytest.raises(SgfluxError, match=r"^judge model '.*' has no chat template[^\n]*$"):
        VisionLanguageModel.load(folder, CPU)


def test_what_is_no_image_text_to_text_model_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SgfluxError, match=r"judge model folder '.*' has no config.json"):
        VisionLanguageModel.load(str(tmp_path), CPU)
    with pytest.raises(SgfluxError, match="judge model 'nothing' is neither a folder nor a hub id"):
        VisionLanguageModel.load("nothing", CPU)
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(SgfluxError, match=r"^judge model '.*' cannot be loaded: [^\n]*$"):
        VisionLanguageModel.load(str(tmp_path), CPU)


class HandMade:
    """Inputs of Qwen2.5-VL as its processor makes them: patches, their grid, one token each."""

    chat_template = TEMPLATE

    def __init__(self, config: Any) -> None:
        self.tokenizer = byte_tokenizer()
        self._config = config

    def apply_chat_template(self, chats: Any, **options: Any) -> Any:
        assert self.tokenizer.padding_side == "left"
        texts = [chat[0]["content"][1]["text"] for chat in chats]
        encoded = self.tokenizer(texts, padding=True, return_tensors="pt")
        before = [self._config.vision_start_token_id, *[self._config.image_token_id] * 4]
        head = torch.tensor([before] * len(chats))
        patches = torch.stack(
            [
                torch.from_numpy(np.asarray(chat[0]["content"][0]["image"].resize((56, 56))).copy())
                for chat in chats
            ]
        )
        pixels = (patches.float() / 255).reshape(len(chats), 4, 14, 4, 14, 3)
        pixels = pixels.permute(0, 1, 3, 5, 2, 4).reshape(len(chats) * 16, 3, 1, 14, 14)
        ids = torch.cat([head, encoded.input_ids], dim=1)
        return transformers.BatchFeature(
            {
                "input_ids": ids,
                "attention_mask": torch.cat([head * 0 + 1, encoded.attention_mask], dim=1),
                "mm_token_type_ids": (ids == self._config.image_token_id).long(),
                "pixel_values": pixels.expand(-1, -1, 2, -1, -1).flatten(1),
                "image_grid_thw": torch.tensor([[1, 4, 4]] * len(chats)),
            }
        )


def test_qwen_vls_network_answers_hand_made_inputs() -> None:
    torch.manual_seed(0)
    count = len(byte_tokenizer())
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **TEXT,
            "vocab_size": count + 2,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "out_hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "patch_size": 14,
            "fullatt_block_indexes": [0],
        },
        image_token_id=count,
        vision_start_token_id=count + 1,
    )
    network = transformers.Qwen2_5_VLForConditionalGeneration(config).eval()
    model = VisionLanguageModel(HandMade(config), network, name="qwen")
    found = model.answers([PICTURES[0], 255 - PICTURES[0]], QUESTIONS[:1] * 2)
    assert found.shape == (2, 3)
    assert np.isfinite(found).all()
    assert abs(found[0] - found[1]).max() > 1e-7


@pytest.mark.skipif(transformers.utils.is_torchvision_available(), reason="torchvision is there")
def test_a_processor_that_needs_torchvision_says_so_in_one_line(tmp_path: Path) -> None:
    transformers.Qwen2_5_VLConfig().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": "Qwen2VLImageProcessor",
                "processor_class": "Qwen2_5_VLProcessor",
            }
        )
    )
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(SgfluxError, match=r"^judge model .* cannot be loaded: .*[Tt]orchvision"):
        VisionLanguageModel.load(str(tmp_path), CPU)


def test_an_evaluation_with_this_judge_keeps_the_probabilities(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "model")
    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    data, out = str(tmp_path / "data" / "test.jsonl"), tmp_path / "out"
    words = ["--data", data, "--output-dir", str(out), "--judge", "vqa", "--judge-model", folder]
    more = ["--generator", "oracle", "--items", "3", "--arms", "graph", "negative_graph"]
    assert main(["eval", *words, *more]) == 0
    results = json.loads((out / "evaluation_results.json").read_text())
    assert results["judge"]["name"] == "vqa"
    assert results["judge"]["model"] == folder
    assert "not_covered" not in results["judge"]
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    questions = [question for line in lines for question in line["judge"]["questions"]]
    assert questions
    for question in questions:
        assert len(question["options"]) == len(question["probabilities"])
        assert sum(question["probabilities"]) == pytest.approx(1.0, abs=1e-3)


def test_it_is_calibrated_with_the_annotated_boxes_as_marks(tmp_path: Path) -> None:
    folder = save_llava(tmp_path / "model")
    write_world(tmp_path / "data", train_per_class=0, val_per_class=0, test_per_class=1)
    data, out = str(tmp_path / "data" / "test.jsonl"), tmp_path / "out.json"
    words = ["--judge", "vqa", "--judge-model", folder, "--boxes", "annotated"]
    assert main(["eval", "calibrate", *words, "--data", data, "--output", str(out)]) == 0
    content = json.loads(out.read_text())
    assert content["judge"]["model"] == f"{folder} with annotated boxes"
    assert content["stated"]["coverage"] == 1.0
    assert content["stated"]["foreign_accepted"] == 0.0, "an object of theirs is not annotated here"


def test_no_judge_needs_torchvision_when_it_is_imported() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None; import sgflux.evaluation.judges; "
        "import sgflux.evaluation.evaluator; print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fine"

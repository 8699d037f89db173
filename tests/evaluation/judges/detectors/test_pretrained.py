"""Detectors of transformers, as small random models of the real classes that lie in a folder.

If one of these failed, boxes of OWLv2 or Grounding DINO would be scaled wrongly, a decoded phrase
would be taken for a name, or the detector would need torchvision. What the published weights find
stays untested here.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from sgflux.errors import SgfluxError
from sgflux.evaluation.judges.detectors import make_detector
from sgflux.evaluation.judges.detectors.grounding_dino import (
    GROUNDING_DINO,
    caption_of,
    tokens_in,
)
from sgflux.evaluation.judges.detectors.owlv2 import OWLV2
from sgflux.evaluation.judges.detectors.prompted import PromptedDetector

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", "cat", "dog", "traffic", "light", "##s"]
WIDE = np.random.default_rng(0).integers(0, 256, (40, 80, 3), np.uint8)
SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def owlv2(tmp_path_factory: pytest.TempPathFactory) -> str:
    import sgflux

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("owlv2")
    heads = {**SMALL, "num_attention_heads": 2}
    config = transformers.Owlv2Config(
        text_config={**heads, "vocab_size": 400, "max_position_embeddings": 16},
        vision_config={**heads, "image_size": 64, "patch_size": 8},
        projection_dim=16,
    )
    transformers.Owlv2ForObjectDetection(config).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    transformers.Owlv2ImageProcessorPil(size=size).save_pretrained(folder)
    tokenizer = Path(sgflux.__file__).parent / "assets" / "tiny-flux" / "tokenizer"
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module", params=["grounding-dino", "mm-grounding-dino"])
def grounding(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    kind = {"grounding-dino": "GroundingDino", "mm-grounding-dino": "MMGroundingDino"}
    config = getattr(transformers, f"{kind[request.param]}Config")(
        backbone_config=transformers.SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 1, 1],
            window_size=2,
            out_indices=[2, 3, 4],
        ),
        text_config=transformers.BertConfig(
            **SMALL, num_attention_heads=2, vocab_size=len(WORDS), max_position_embeddings=32
        ),
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_queries=20,
        max_text_len=32,
        disable_custom_kernels=True,
    )
    network = getattr(transformers, f"{kind[request.param]}ForObjectDetection")(config)
    network.save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 100}
    transformers.GroundingDinoImageProcessorPil(size=size).save_pretrained(folder)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    transformers.BertTokenizer(vocab=str(vocabulary)).save_pretrained(folder)
    return str(folder)


def test_owlv2_is_made_from_its_folder_and_scales_by_the_longer_side(owlv2: str) -> None:
    detector = make_detector(owlv2, device="cpu")
    assert isinstance(detector, PromptedDetector)
    assert len(detector.sha256 or "") == 64
    every = PromptedDetector(OWLV2, owlv2, score_threshold=0.0)
    assert every.sha256 != detector.sha256, "with another threshold it finds other things"
    assert PromptedDetector(OWLV2, owlv2, score_threshold=0.2).sha256 == detector.sha256
    processor = transformers.Owlv2ImageProcessorPil.from_pretrained(owlv2)
    network = transformers.Owlv2ForObjectDetection.from_pretrained(owlv2)
    tokenizer = transformers.AutoTokenizer.from_pretrained(owlv2)
    for image in (WIDE, WIDE.transpose(1, 0, 2).copy()):
        text = tokenizer(
            ["a photo of a dog"], padding="max_length", max_length=16, return_tensors="pt"
        )
        pixels = processor(images=image, return_tensors="pt").pixel_values
        with torch.inference_mode():
            out = network(
                input_ids=text.input_ids,
                attention_mask=text.attention_mask,
                pixel_values=pixels,
            )
        (wanted,) = processor.post_process_object_detection(
            out, threshold=0.0, target_sizes=[image.shape[:2]]
        )
        height, width = image.shape[:2]
        limits = torch.tensor([width, height, width, height])
        clipped = torch.minimum(wanted["boxes"].clamp(min=0), limits).numpy()
        (found,) = every.find([image], [["dog"]])
        assert found, "some box of random weights lies in the picture"
        for one in found:
            gaps = np.abs(clipped - np.array(one.box.corners)).max(axis=1)
            nearest = int(gaps.argmin())
            assert gaps[nearest] < 1e-3
            assert one.score == pytest.approx(float(wanted["scores"][nearest]), abs=1e-5)


def test_what_else_is_looked_for_does_not_change_what_owlv2_finds(owlv2: str) -> None:
    detector = PromptedDetector(OWLV2, owlv2, score_threshold=0.0)
    alone, together = detector.find([WIDE, WIDE], [["dog"], ["cat", "dog", "traffic light"]])
    dogs = [one for one in together if one.name == "dog"]
    assert [one.box for one in alone] == [one.box for one in dogs]
    assert {one.name for one in together} == {"cat", "dog", "traffic light"}


def test_grounding_dino_gives_names_and_its_own_boxes(grounding: str) -> None:
    detector = make_detector(grounding, device="cpu")
    assert isinstance(detector, PromptedDetector)
    detector = PromptedDetector(GROUNDING_DINO, grounding, score_threshold=0.0)
    (found,) = detector.find([WIDE], [["cat", "traffic lights"]])
    assert {one.name for one in found} <= {"cat", "traffic lights"}
    processor = transformers.GroundingDinoImageProcessorPil.from_pretrained(grounding)
    network = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(grounding)
    tokenizer = transformers.AutoTokenizer.from_pretrained(grounding)
    with torch.inference_mode():
        out = network(
            **processor(images=WIDE, return_tensors="pt"),
            **tokenizer("cat. traffic lights.", return_tensors="pt"),
        )
    (wanted,) = processor.post_process_object_detection(
        out, threshold=0.0, target_sizes=[WIDE.shape[:2]]
    )
    # [CLS] cat . traffic light ##s . [SEP]
    scores = out.logits[0].sigmoid()
    of_name = {"cat": scores[:, 1], "traffic lights": scores[:, 3:6].mean(dim=1)}
    for one in found:
        gaps = np.abs(wanted["boxes"].numpy() - np.array(one.box.corners)).max(axis=1)
        assert gaps.min() < 1e-3
        own = float(of_name[one.name][int(gaps.argmin())])
        assert one.score == pytest.approx(own, abs=1e-5)
        assert own >= max(float(other[int(gaps.argmin())]) for other in of_name.values()) - 1e-6


def test_a_name_is_where_its_own_letters_stand_in_the_caption() -> None:
    caption, spans = caption_of(["cat", "traffic light"])
    assert caption == "cat. traffic light."
    assert [caption[slice(*span)] for span in spans] == ["cat", "traffic light"]
    offsets = [(0, 0), (0, 3), (3, 4), (5, 12), (13, 18), (18, 19), (0, 0)]
    assert [tokens_in(offsets, span) for span in spans] == [[1], [3, 4]]


def test_names_that_do_not_fit_into_a_caption_are_refused(grounding: str) -> None:
    detector = PromptedDetector(GROUNDING_DINO, grounding)
    with pytest.raises(SgfluxError, match=r"reads 32 tokens, but the 20 names .* have 42"):
        detector.find([WIDE], [["cat"] * 20])


def test_a_folder_of_another_model_is_refused(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(SgfluxError, match=r"a model of the kind 'bert'; known are"):
        make_detector(str(tmp_path), device="cpu")


def test_a_hub_id_that_is_not_there_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SgfluxError, match="detector 'nobody/nothing' cannot be loaded: "):
        make_detector("nobody/nothing", device="cpu")


def test_no_detector_needs_torchvision_when_it_is_imported() -> None:
    code = (
        "import sys; sys.modules['torchvision'] = None; "
        "import sgflux.evaluation.judges.detectors; print('fine')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fine"

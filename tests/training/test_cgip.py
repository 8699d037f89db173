"""A run with SGDiff's encoder: from the original command line to pictures and figures.

If one of these failed, the earlier script's users could not train with SGDiff's encoder any more.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sgflux.commands.train import parse_original
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import EvalConfig, evaluate
from sgflux.models.bundle import load_bundle
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.training.run.train import train
from tests.helpers.cgip import OBJECTS, own_weights, write_checkpoint, write_vocabulary
from tests.helpers.training import MakeConfig


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """What the encoder needs, with every word of the scenes but "woman" and "box"."""
    return {
        "cgip_ckpt": write_checkpoint(tmp_path / "sip_vg.pt"),
        "vocab_path": write_vocabulary(tmp_path / "vocab.json"),
    }


def test_it_trains_samples_and_is_evaluated(
    tmp_path: Path,
    flux: Path,
    scenes: Path,
    files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [
        "--train-jsonl", scenes / "train.jsonl", "--val-jsonl", scenes / "val.jsonl",
        "--output-dir", tmp_path / "run", "--model-id", flux, "--device", "cpu",
        "--dtype", "fp32", "--height", "16", "--width", "16", "--epochs", "1",
        "--lora-rank", "2", "--lr", "0.01", "--cgip-ckpt", files["cgip_ckpt"],
        "--vocab-path", files["vocab_path"], "--oov", "skip",
    ]  # fmt: skip
    result = train(parse_original([str(argument) for argument in arguments]))
    log = capsys.readouterr().out
    assert "train.jsonl: 2 examples left out, whose predicate the graph encoder lacks" in log
    assert "holding 1" in log
    assert "left of 1" in log
    assert "train.jsonl: 4 of 6 examples are kept" in log
    assert "cgip encoder (--cgip-ckpt given)" in log
    assert result.bundle is not None
    config, state = load_bundle(result.bundle)
    assert config.encoder["kind"] == "cgip"
    # Frozen: what was published is what the bundle holds.
    for name, value in own_weights().items():
        assert state[f"encoder.{name}"].equal(value)
    pipeline = SceneGraphFluxPipeline.from_pretrained(str(flux), adapter=result.bundle)
    one = pipeline("man, riding, horse", seed=1, num_inference_steps=1, output_type="np").images
    other = pipeline(
        "horse, riding, man", prompt="a photo of man and horse", seed=1, num_inference_steps=1,
        output_type="np",
    ).images  # fmt: skip
    assert (one != other).any()
    with pytest.raises(SgfluxError, match="no object 'elephant'"):
        pipeline("man, riding, elephant", seed=1)
    figures = evaluate(
        EvalConfig.from_flat(
            adapter=result.bundle,
            data=scenes / "train.jsonl",
            allow_seen_data=True,
            output_dir=tmp_path / "evaluation",
            model_id=str(flux),
            judge="none",
            arms=("graph",),
            steps=1,
            height=16,
            width=16,
            ranking_sigmas=1,
        ),
        show_progress=False,
    )
    assert figures["items"]["left_out"]["predicates"] == {"left of": 1, "holding": 1}
    assert figures["items"]["of"] == 4


def test_it_can_be_trained_further_and_resumed(
    tmp_path: Path, make_config: MakeConfig, files: dict[str, Path]
) -> None:
    settings = {**files, "oov": "skip", "train_graph_encoder": True}
    result = train(make_config(tmp_path / "run", **settings))
    assert result.bundle is not None
    _, state = load_bundle(result.bundle)
    moved = [n for n, v in own_weights().items() if not state[f"encoder.{n}"].equal(v)]
    assert "graph_projection.weight" in moved
    assert "logit_scale" not in moved
    # Rows of its embeddings would else be those of other words.
    turned = write_vocabulary(tmp_path / "turned.json", objects=(OBJECTS[0], *OBJECTS[:0:-1]))
    more = {**settings, "init_from": str(result.bundle), "dry_run": True}
    train(make_config(tmp_path / "next", **more))
    with pytest.raises(SgfluxError, match=r"init_from: .* has other objects than vocab_path names"):
        train(make_config(tmp_path / "next", **{**more, "vocab_path": turned}))


def test_an_object_without_an_embedding_stops_the_run_or_is_mapped(
    tmp_path: Path, make_config: MakeConfig, files: dict[str, Path], scenes: Path
) -> None:
    rows = [json.loads(line) for line in (scenes / "train.jsonl").read_text().splitlines()]
    rows[0]["triple"]["object"] = rows[0]["concepts"][2] = "pony"
    data = tmp_path / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {**files, "train_jsonl": data, "images_dir": scenes, "dry_run": True}
    with pytest.raises(SgfluxError, match=r"train\.jsonl: images/train/0\.png: .*no object 'pony'"):
        train(make_config(tmp_path / "run", **settings))
    synonyms = tmp_path / "synonyms.json"
    synonyms.write_text('{"pony": "horse"}')
    train(make_config(tmp_path / "run", **settings, oov="map", oov_map=synonyms))
    with pytest.raises(SgfluxError, match="oov 'map' and oov_map belong together"):
        make_config(tmp_path / "run", **settings, oov="map")
    with pytest.raises(SgfluxError, match=r"oov \('skip'\) has no effect with the native"):
        make_config(tmp_path / "run", oov="skip")
    with pytest.raises(SgfluxError, match="needs vocab_path"):
        train(make_config(tmp_path / "run", cgip_ckpt=files["cgip_ckpt"]))


def test_another_map_of_unknown_objects_is_another_run(
    make_config: MakeConfig, files: dict[str, Path], tmp_path: Path
) -> None:
    """Its content decides what the encoder is told, so a resumed run compares it."""
    synonyms = tmp_path / "map.json"
    synonyms.write_text('{"woman": "man", "box": "horse"}')
    settings = {**files, "oov": "map", "oov_map": synonyms, "sample_steps": 0}
    train(make_config(tmp_path / "run", **settings, max_steps=2))
    moved = tmp_path / "moved.json"
    shutil.copy(synonyms, moved)
    settings["oov_map"] = moved
    train(make_config(tmp_path / "run", **settings, max_steps=3, resume="auto"))
    moved.write_text('{"woman": "horse", "box": "horse"}')
    with pytest.raises(SgfluxError, match="was trained with another map of objects"):
        train(make_config(tmp_path / "run", **settings, resume="auto"))


def test_a_sample_graph_that_the_encoder_cannot_read_is_named(
    tmp_path: Path, make_config: MakeConfig, files: dict[str, Path]
) -> None:
    """The native encoder reads any word; this one would fail at the first validation."""
    graphs = tmp_path / "graphs.txt"
    settings = {**files, "oov": "skip", "sample_graphs": graphs, "dry_run": True}
    for line, message in (
        ("man, riding, elephant", r"graphs\.txt:2: .*no object 'elephant'"),
        ("man, left of, horse", r"graphs\.txt:2: .*no predicate 'left of'"),
    ):
        graphs.write_text(f"man, riding, horse\n{line}\n")
        with pytest.raises(SgfluxError, match=message):
            train(make_config(tmp_path / "run", **settings))
    graphs.write_text("man, riding, horse\n")
    train(make_config(tmp_path / "run", **{**settings, "dry_run": False}))
    assert (tmp_path / "run" / "samples" / "step4.png").is_file()

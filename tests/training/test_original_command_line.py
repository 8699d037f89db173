"""The original command line, with FLUX.1-schnell in the hub's cache and SGDiff's encoder.

A machine that has downloaded FLUX.1-schnell once, no connection, and the flags that the earlier
training script's users type: it trains, and what it writes loads in plain diffusers. The model is
small, but in FLUX's shape (19 and 38 blocks), in the cache's layout, and under FLUX's name.

If one of these failed, the command line of the earlier training script would not train any more.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import FluxPipeline

from sgflux.settings.model import FLUX_SCHNELL
from tests.helpers.cgip import write_checkpoint, write_vocabulary
from tests.helpers.flux import make_flux_folder
from tests.helpers.scenes import write_scenes

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "train" / "train_flux_graph_lora_diffusion.py"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache with FLUX.1-schnell in it, as ``huggingface_hub`` lays it out."""
    home = tmp_path_factory.mktemp("home")
    repository = home / "hub" / f"models--{FLUX_SCHNELL.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    folder = repository / "snapshots" / COMMIT
    make_flux_folder(folder, num_layers=19, num_single_layers=38, heads=2)
    return home


def run(hub: Path, *command: object) -> str:
    """What a command says; it must succeed, and nothing may be fetched."""
    environment = {
        **os.environ,
        "HF_HOME": str(hub),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT / "src"),
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trained(hub: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run's folder, and what the run said."""
    folder = tmp_path_factory.mktemp("original")
    scenes = write_scenes(folder / "data")
    said = run(
        hub, SCRIPT,
        "--train-jsonl", scenes / "train.jsonl", "--val-jsonl", scenes / "val.jsonl",
        "--output-dir", folder / "run", "--epochs", 1, "--batch-size", 2, "--lora-rank", 16,
        "--graph-encoder", "cgip", "--cgip-ckpt", write_checkpoint(folder / "sip_vg.pt"),
        "--vocab-path", write_vocabulary(folder / "vocab.json"), "--oov", "skip",
        "--height", 16, "--width", 16, "--device", "cpu",
    )  # fmt: skip
    return folder / "run", said


def test_it_says_what_it_does_before_it_does_it(trained: tuple[Path, str]) -> None:
    said = trained[1]
    for line in (
        f"model:      {FLUX_SCHNELL} on cpu, bf16",
        "graph:      token mode, cgip encoder (as asked for)",
        "adapter:    double blocks 7 to 12 of 19",
    ):
        assert line in said
    order = ["examples are kept", "encoding: ", "memory: ", "peak: ", "encoded ", "finished: "]
    places = [said.index(word) for word in order]
    assert places == sorted(places)


def test_a_published_adapter_draws_from_the_hubs_cache(
    hub: Path, trained: tuple[Path, str], tmp_path: Path
) -> None:
    repository = hub / "hub" / "models--me--adapter"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "v1").write_text(COMMIT)
    shutil.copytree(trained[0] / "final", repository / "snapshots" / COMMIT)
    said = run(
        hub, "-m", "sgflux", "sample", "--adapter", "me/adapter@v1", "--graph",
        "man, riding, horse", "--num-images", 1, "--height", 16, "--width", 16, "--steps", 1,
        "--device", "cpu", "--output-dir", tmp_path / "samples",
    )  # fmt: skip
    assert said.startswith("1 picture of")


@pytest.mark.parametrize("layout", ["diffusers", "kohya"])
def test_its_exported_lora_loads_in_plain_diffusers(
    hub: Path, trained: tuple[Path, str], tmp_path: Path, layout: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    file = tmp_path / f"{layout}.safetensors"
    adapter = trained[0] / "final"
    run(hub, "-m", "sgflux", "export", "--adapter", adapter, "--format", layout, "--output", file)
    (folder,) = hub.glob("hub/models--black-forest-labs--*/snapshots/*")
    drawn = []
    for source in (adapter, file, None):
        pipeline = FluxPipeline.from_pretrained(str(folder))
        if source is not None:
            with caplog.at_level(logging.INFO, logger="diffusers"):
                pipeline.load_lora_weights(str(source))
        drawn.append(
            pipeline(
                "a photo of man and horse",
                height=16,
                width=16,
                num_inference_steps=1,
                guidance_scale=0.0,
                max_sequence_length=32,
                output_type="latent",
                generator=torch.Generator().manual_seed(0),
            ).images
        )
    of_bundle, of_file, of_base = drawn
    torch.testing.assert_close(of_file, of_bundle, rtol=1e-4, atol=1e-5)
    assert not torch.equal(of_bundle, of_base)
    complaints = [message for message in caplog.messages if "unexpected" in message.lower()]
    assert not [message for message in complaints if "CLIPTextModel" not in message]

"""A few processes of one run, started by accelerate's launcher."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sgflux.settings.training import TrainConfig
from tests.helpers.flags import settings_as_flags

ROOT = Path(__file__).parents[2]

TRAINING = """
import hashlib, sys
from sgflux.training import loop
from sgflux.commands.train import parse_train_config
from sgflux.training.processes.processes import Processes
from sgflux.training.run.train import train

seen = {}
original = loop.TrainingRun.finished

def finished(self):
    weights = original(self)
    digest = hashlib.sha256()
    for value in weights.trainable.values():
        digest.update(value.numpy().tobytes())
    seen["digest"] = digest.hexdigest()
    return weights

loop.TrainingRun.finished = finished
result = train(parse_train_config(sys.argv[1:]))
if result.interrupted_by is None:
    digests = Processes.start("cpu").gather([seen["digest"]])
    assert len(digests) == 2 and digests[0] == digests[1], digests
raise SystemExit(result.exit_status)
"""


RUNS = """
import json, sys
from pathlib import Path
from sgflux.settings.training import TrainConfig
from sgflux.training.run.train import train

for path in sys.argv[1:]:
    train(TrainConfig.from_flat(**json.loads(Path(path).read_text())))
"""
"""Trains by one settings file after the other."""

DDP = ("--multi_gpu",)
FSDP2 = ("--use_fsdp", "--fsdp_version", "2")


def launch(
    script: Path, *flags: str, processes: int = 2, engine: Sequence[str] = DDP
) -> subprocess.Popen[str]:
    return _start(
        "accelerate.commands.launch", *engine, "--num_processes", str(processes),
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(free_port()), str(script), *flags,
    )  # fmt: skip


def launch_machine(script: Path, *flags: str, rank: int, port: int) -> subprocess.Popen[str]:
    """One of two machines, with one process, as torchrun starts it there."""
    return _start(
        "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank),
        "--nproc_per_node", "1", "--master_addr", "127.0.0.1", "--master_port", str(port),
        str(script), *flags,
    )  # fmt: skip


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _start(*words: str) -> subprocess.Popen[str]:
    paths = [str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    return subprocess.Popen(
        [sys.executable, "-m", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str]) -> str:
    try:
        output, errors = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return output


def flags_of(config: TrainConfig) -> list[str]:
    return settings_as_flags(config.to_json())

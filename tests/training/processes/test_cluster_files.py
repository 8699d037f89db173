"""The files for several cards and machines are what their readers take.

If one of these failed, a launch file, the Slurm script or the container file would stop with an
error on a machine that nobody has here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig

from sgflux.settings.files import shipped_configs
from sgflux.settings.training import TrainConfig, read_settings
from tests.helpers.two_processes import free_port

ROOT = Path(__file__).parents[3]
CLUSTER = ROOT / "scripts" / "cluster"


@pytest.mark.parametrize(
    ("name", "kind", "processes", "machines"),
    [
        ("8_cards", "MULTI_GPU", 8, 1),
        ("8_cards_sharing", "FSDP", 8, 1),
        ("2_machines", "MULTI_GPU", 16, 2),
    ],
)
def test_accelerate_reads_the_launch_files(
    name: str, kind: str, processes: int, machines: int
) -> None:
    config = ClusterConfig.from_yaml_file(CLUSTER / f"{name}.yaml")
    assert (config.num_processes, config.num_machines) == (processes, machines)
    assert config.distributed_type == kind
    assert config.mixed_precision == "bf16"
    assert config.fsdp_config == ({"fsdp_version": 2} if kind == "FSDP" else {})


def test_the_configurations_of_several_cards_are_whole() -> None:
    found = {}
    for name, path in shipped_configs().items():
        settings = read_settings(path) | {"train_jsonl": "a", "val_jsonl": "b", "output_dir": "c"}
        found[name] = TrainConfig.from_flat(**settings)
    assert found["flux_schnell_8x24gb"].processes.shard_base
    assert not found["flux_schnell_8x80gb"].processes.shard_base
    assert found["flux_schnell_24gb"].memory.quantize == "int8"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launch_file", "settings", "said"),
    [
        ("8_cards", "flux_schnell_8x80gb", "2 processes\n"),
        ("8_cards_sharing", "flux_schnell_8x24gb", "2 processes, which share the base\n"),
    ],
)
def test_the_launch_files_start_their_configurations(
    launch_file: str, settings: str, said: str, scenes: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch",
            "--config_file", str(CLUSTER / f"{launch_file}.yaml"), "--num_processes", "2",
            "--main_process_port", str(free_port()), "-m", "sgflux", "train",
            "--config", settings, "--model-id", "tiny", "--device", "cpu", "--dry-run",
            "--height", "64", "--width", "64", "--max-sequence-length", "16", "--epochs", "1",
            "--train-jsonl", str(scenes / "train.jsonl"), "--val-jsonl", str(scenes / "val.jsonl"),
            "--output-dir", str(tmp_path / "run"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert said in done.stdout
    assert "dry run: nothing was written" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="Slurm scripts are for bash")
def test_the_slurm_script_starts_torchrun_on_each_machine(tmp_path: Path) -> None:
    """Slurm's own commands are stand-ins that say how they were called."""
    for name, body in (("srun", 'printf "%s\\n" "$@"'), ("scontrol", "echo first; echo second")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "both",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "SLURM_JOB_ID": "7",
    }
    script = [str(CLUSTER / "2_machines.sbatch"), "--output-dir", "a folder"]
    done = subprocess.run(
        ["bash", *script], env=environment, capture_output=True, text=True, check=True
    )
    words = done.stdout.splitlines()
    assert words[words.index("torchrun") :] == [
        "torchrun", "--nnodes", "2", "--nproc_per_node", "8", "--rdzv_backend", "c10d",
        "--rdzv_id", "7", "--rdzv_endpoint", "first:29500",
        "-m", "sgflux", "train", "--resume", "auto", "--output-dir", "a folder",
    ]  # fmt: skip


def test_what_the_container_copies_is_there() -> None:
    lines = (CLUSTER / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert copied
    assert all((ROOT / name).exists() for name in copied)

"""What accelerate's launcher was told about training is done, or refused by name.

The launcher takes these options and the trainer has flags of its own for the same: a run that
ignored them would train in another precision, or with another batch, than its user believes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sgflux.errors import SgfluxError
from sgflux.training.processes.launcher import (
    asks_for_shards,
    check_launcher,
    option_of,
    weights_in_every_process,
)

ROOT = Path(__file__).parents[3]
LAUNCH = ["python", "/somewhere/bin/accelerate", "launch"]


def check(*, dtype: str = "bf16", compiles: bool = False, command: tuple = (), **told: str) -> None:
    environment = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO", **told}
    check_launcher(
        dtype=dtype,
        compiles=compiles,
        accumulation=1,
        shares_base=True,
        environment=environment,
        command=command,
    )


def test_what_the_run_does_anyway_is_accepted() -> None:
    check()
    check(ACCELERATE_MIXED_PRECISION="bf16")
    check(compiles=True, ACCELERATE_DYNAMO_BACKEND="INDUCTOR")
    check(ACCELERATE_GRADIENT_ACCUMULATION_STEPS="1")
    check(command=(*LAUNCH, "--gradient_accumulation_steps", "1", "train.py"))
    # Without accelerate's launcher there is nothing to agree with.
    check_launcher(dtype="fp32", environment={"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "9"})


FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "false"}


def test_fsdp_of_the_second_version_is_accepted_where_there_is_a_base_to_share() -> None:
    check(**FSDP2)
    with pytest.raises(SgfluxError, match="--use_fsdp, which has no effect on this command"):
        check_launcher(dtype="bf16", environment={"ACCELERATE_MIXED_PRECISION": "no", **FSDP2})
    assert not asks_for_shards({})
    assert asks_for_shards(FSDP2)


def test_text_encoders_are_read_in_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the launcher's default, transformers may leave processes but the first without values."""
    name = "FSDP_CPU_RAM_EFFICIENT_LOADING"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv(name, "true")
    with weights_in_every_process():
        assert os.environ[name] == "false"
    assert os.environ[name] == "true"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({**FSDP2, "FSDP_VERSION": "1"}, "--fsdp_version 1; give --fsdp_version 2"),
        ({**FSDP2, "FSDP_OFFLOAD_PARAMS": "true"}, "--fsdp_offload_params true"),
        (
            {**FSDP2, "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "--fsdp_activation_checkpointing true, .* give --gradient-checkpointing",
        ),
        ({**FSDP2, "FSDP_RESHARD_AFTER_FORWARD": "false"}, "--fsdp_reshard_after_forward false"),
        (
            {"ACCELERATE_MIXED_PRECISION": "fp16"},
            "--mixed_precision fp16, and .* is bf16",
        ),
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "--mixed_precision fp8, and"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "--dynamo_backend inductor, .* give --compile"),
        ({"ACCELERATE_DYNAMO_BACKEND": "EAGER"}, "--dynamo_backend eager"),
        (
            {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"},
            "--gradient_accumulation_steps 4, and the run's are 1: give --gradient-accumulation-st",
        ),
    ],
)
def test_what_it_does_not_do_is_refused_by_name(told: dict[str, str], message: str) -> None:
    with pytest.raises(SgfluxError, match=message):
        check(**told)


def test_bf16_of_the_launcher_and_fp32_of_the_run_contradict_each_other() -> None:
    with pytest.raises(SgfluxError, match=r"--mixed_precision bf16, .* give --dtype bf16"):
        check(dtype="fp32", ACCELERATE_MIXED_PRECISION="bf16")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ((*LAUNCH, "--gradient_accumulation_steps", "4", "-m", "sgflux"), "4"),
        ((*LAUNCH, "--gradient-accumulation-steps=3", "train.py"), "3"),
        (("python", "-m", "accelerate.commands.launch", "--gradient_accumulation_steps=2"), "2"),
        (("accelerate-launch", "--gradient_accumulation_steps", "2", "a.py"), "2"),
        # Behind the program it is the program's own.
        ((*LAUNCH, "-m", "sgflux", "train", "--gradient-accumulation-steps", "4"), None),
        ((*LAUNCH, "train.py", "--gradient_accumulation_steps", "4"), None),
        (("bash", "launch", "--gradient_accumulation_steps", "4"), None),
        ((), None),
    ],
)
def test_the_launchers_own_options_are_those_before_the_program(
    command: tuple[str, ...], expected: str | None
) -> None:
    assert option_of(command) == expected


def test_under_the_real_launcher(tmp_path: Path) -> None:
    """The option that the launcher hands to nobody: only its command line tells."""
    (data := tmp_path / "train.jsonl").touch()
    done = subprocess.run(
        [
            sys.executable, "-m", "accelerate.commands.launch", "--num_processes", "1",
            "--num_machines", "1", "--gradient_accumulation_steps", "4", "-m", "sgflux", "train",
            "--model-id", "tiny",
            "--train-jsonl", str(data), "--output-dir", str(tmp_path / "run"),
            "--device", "cpu",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "HF_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip
    assert done.returncode != 0
    assert "error: accelerate launch was told --gradient_accumulation_steps 4" in done.stderr

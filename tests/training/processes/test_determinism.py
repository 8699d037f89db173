"""Deterministic kernels are chosen for a run that asks for them, and for nothing after it.

If one of these fails, ``--deterministic`` has no effect, or changes whatever the process does next.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sgflux.errors import SgfluxError
from sgflux.settings.training import TrainConfig
from sgflux.training.checkpoints.resuming import changed_settings
from sgflux.training.processes.determinism import (
    CUBLAS_VARIABLE,
    CUBLAS_WORKSPACE,
    deterministic_kernels,
)
from sgflux.training.run.train import train
from tests.helpers.training import MakeConfig, equal


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CUBLAS_VARIABLE, raising=False)


def test_the_mode_is_strict_inside_and_restored_afterwards() -> None:
    """``warn_only`` would leave the attention's backward pass non-deterministic."""
    with deterministic_kernels(True):
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ[CUBLAS_VARIABLE] == CUBLAS_WORKSPACE
    assert not torch.are_deterministic_algorithms_enabled()
    assert CUBLAS_VARIABLE not in os.environ


def test_a_mode_and_a_workspace_of_the_caller_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUBLAS_VARIABLE, ":16:8")
    before = torch.get_deterministic_debug_mode()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic_kernels(True):
            assert os.environ[CUBLAS_VARIABLE] == ":16:8"
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert os.environ[CUBLAS_VARIABLE] == ":16:8"
    finally:
        torch.set_deterministic_debug_mode(before)


def test_nothing_happens_without_the_flag() -> None:
    with deterministic_kernels(False):
        assert not torch.are_deterministic_algorithms_enabled()
        assert CUBLAS_VARIABLE not in os.environ


def test_a_process_that_used_cuda_is_told_to_set_the_workspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """cuBLAS reads it once: a later setting would be ignored in silence."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with pytest.raises(SgfluxError, match=CUBLAS_VARIABLE), deterministic_kernels(True):
        pass
    assert not torch.are_deterministic_algorithms_enabled()
    monkeypatch.setenv(CUBLAS_VARIABLE, CUBLAS_WORKSPACE)
    with deterministic_kernels(True):
        assert torch.are_deterministic_algorithms_enabled()


def test_a_run_is_deterministic_as_it_was_told(tmp_path: Path, make_config: MakeConfig) -> None:
    """The mode is on while the run trains and stays in its settings; on a CPU weights are equal."""
    modes: list[bool] = []

    def note(*_: object) -> dict[str, float]:
        modes.append(torch.are_deterministic_algorithms_enabled())
        return {}

    told = train(make_config(tmp_path / "told", deterministic=True), validate=note)
    plain = train(make_config(tmp_path / "plain"), validate=note)
    assert modes == [True, True, False, False], "two validations of each run"
    assert not torch.are_deterministic_algorithms_enabled()
    stored = json.loads((told.output_dir / "config.json").read_text())
    assert TrainConfig.from_flat(**stored).blocks.deterministic
    for name in ("pytorch_lora_weights", "graph_conditioner", "graph_encoder"):
        one, other = (
            load_file(run.output_dir / "final" / f"{name}.safetensors") for run in (told, plain)
        )
        assert equal(one, other), name


def test_a_run_may_be_resumed_with_and_without_it(make_config: MakeConfig) -> None:
    """It chooses kernels; checkpoints of older versions do not name it."""
    old = make_config(Path("run")).to_json()
    new = make_config(Path("run"), deterministic=True).to_json()
    assert changed_settings(old, new, by_content=True, by_identity=True) == []
    del old["deterministic"]
    assert changed_settings(old, new, by_content=True, by_identity=True) == []

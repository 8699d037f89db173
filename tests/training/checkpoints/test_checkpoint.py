"""Checkpoints: the round trip, and what is no checkpoint.

If one of these failed, a checkpoint would lose a part of the run's state, or a damaged file would
be resumed from.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sgflux.errors import SgfluxError
from sgflux.training.checkpoints.checkpoint import (
    AdapterWeights,
    CheckpointError,
    TrainingState,
)
from sgflux.training.checkpoints.run_folder import RunFolder
from sgflux.training.checkpoints.step_files import step_files
from tests.helpers.training import equal, training_state, weights


def test_a_state_comes_back_equal_and_without_pickled_classes(tmp_path: Path) -> None:
    state = training_state()
    state.save(tmp_path / "step5.pt")
    assert equal(TrainingState.load(tmp_path / "step5.pt"), state)
    torch.load(tmp_path / "step5.pt", weights_only=True)
    assert [path.name for path in tmp_path.iterdir()] == ["step5.pt"]  # no temporary file is left


def test_an_adapter_prefers_its_averaged_weights(tmp_path: Path) -> None:
    adapter = weights()
    adapter.save(tmp_path / "best.pt")
    loaded = AdapterWeights.load(tmp_path / "best.pt")
    assert equal(loaded, adapter)
    assert loaded.ema is loaded.weights


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "step1.pt"
    with pytest.raises(CheckpointError, match=r"step1\.pt: cannot be read: No such file"):
        TrainingState.load(path)
    path.write_bytes(b"PK not really")
    with pytest.raises(CheckpointError, match=r"step1\.pt: is no checkpoint"):
        TrainingState.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"step1\.pt: is no checkpoint: torch\.save did not"):
        TrainingState.load(path)
    weights().save(path)
    with pytest.raises(CheckpointError, match="is not a TrainingState that sgflux wrote"):
        TrainingState.load(path)
    training_state().save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"step1\.pt: (is no checkpoint|cannot be read)"):
        TrainingState.load(path)


def test_only_the_latest_checkpoints_are_kept(tmp_path: Path) -> None:
    for step in (2, 10, 9):
        (tmp_path / f"step{step}.pt").touch()
    (tmp_path / "stepladder.pt").touch()
    folder = RunFolder(tmp_path, graph_mode="token")
    folder.prune(keep=0)
    assert list(step_files(tmp_path)) == [2, 9, 10]
    folder.prune(keep=2)
    assert list(step_files(tmp_path)) == [9, 10]
    assert (tmp_path / "stepladder.pt").exists()


def test_a_folder_in_use_is_refused_with_the_way_out(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", graph_mode="token")
    assert folder.resume_path(None) is None
    assert folder.resume_path("auto") is None
    folder.root.mkdir()
    assert folder.resume_path(None) is None  # empty is as good as new
    (tmp_path / "run" / "notes.txt").touch()
    with pytest.raises(SgfluxError, match="is not empty; give another folder"):
        folder.resume_path(None)
    with pytest.raises(SgfluxError, match=r"holds no step\{N\}.pt to resume from.*notes.txt"):
        folder.resume_path("auto")
    (tmp_path / "run" / "step3.pt").touch()
    with pytest.raises(SgfluxError, match="add '--resume auto'"):
        folder.resume_path(None)
    assert folder.resume_path("auto") == tmp_path / "run" / "step3.pt"


def test_an_earlier_checkpoint_of_a_run_is_not_resumed_beside_later_ones(tmp_path: Path) -> None:
    for step in (3, 6):
        (tmp_path / f"step{step}.pt").touch()
    folder = RunFolder(tmp_path, graph_mode="token")
    assert folder.resume_path(str(tmp_path / "step6.pt")) == tmp_path / "step6.pt"
    with pytest.raises(SgfluxError, match=r"is not the latest .* move step6\.pt out of"):
        folder.resume_path(str(tmp_path / "step3.pt"))
    with pytest.raises(SgfluxError, match="is no file"):
        folder.resume_path(str(tmp_path / "step4.pt"))
    elsewhere = RunFolder(tmp_path / "new", graph_mode="token")
    assert elsewhere.resume_path(str(tmp_path / "step3.pt")) == tmp_path / "step3.pt"


def test_a_run_stopped_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    for name in ("config.json", "training.log", "metrics.jsonl", "best_graph_lora_token.pt"):
        (tmp_path / name).touch()
    (tmp_path / ".step2.pt.0123.tmp").touch()  # killed while it was saving
    (tmp_path / "tensorboard").mkdir()
    assert RunFolder(tmp_path, graph_mode="token").resume_path("auto") is None

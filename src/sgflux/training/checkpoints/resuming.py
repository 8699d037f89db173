"""Going on with a run: what a checkpoint is compared with, and what may have changed.

What a run was trained on is compared by content (rows, bytes of pictures, weights of the base and
of everything else that was given as a file), so paths are no settings. The table of docs/resume.md
says the same in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgflux.bases.identity import BaseIdentity, check_identity
from sgflux.errors import SgfluxError
from sgflux.models.adapter_config import AdapterConfig
from sgflux.training.checkpoints.checkpoint import TrainingState

CADENCE = ("log_every", "val_every", "save_every", "keep_checkpoints")
"""How often a run says and keeps something."""

LENGTH = ("epochs", "max_steps")
"""How long a run is."""

_NO_PART_OF_TRAINING = (
    "output_dir",
    "latent_cache_dir",
    "allow_download",
    "allow_other_base",
    "device",
    "deterministic",
    "encoder_device",
    "offload_blocks",
    "offload_folder",
    "shard_base",
    "resume",
    "dry_run",
    "log_with",
    "tracker_project",
    "early_stopping_patience",
    "early_stopping_min_delta",
)

_WATCHING = (
    "sample_graphs",
    "judge",
    "detector",
    "judge_model",
    "judge_batch_size",
    "sample_steps",
)
"""What is drawn and judged on the way; it counts where the adapter is chosen by it."""

_BASE_PATHS = (
    "model_id",
    "components",
    "autoencoder",
    "text_encoder",
    "text_encoder_2",
    "revision",
)
_FILE_PATHS = (
    "vocabulary",
    "cgip_ckpt",
    "vocab_path",
    "oov_map",
    "training_adapter",
    "sample_graphs",
)
"""Whose content is compared instead; whether one is given at all still counts."""

_SPLITS = ("training", "validation")


def check_resumable(
    state: TrainingState,
    *,
    path: Path,
    settings: Mapping[str, Any],
    defaults: Mapping[str, Any],
    data: Mapping[str, str],
    content: Mapping[str, str],
    base: BaseIdentity,
    allow_other_base: bool,
    processes: int,
) -> list[str]:
    """Check that going on with ``settings`` continues the run that ``state`` is of.

    Args:
        state: Checkpoint to go on from.
        path: File of the checkpoint, for messages.
        settings: Settings of the run now, as JSON has them.
        defaults: Settings that have a default, with that default as JSON has it.
        data: Split, or name of another file that decides the training -> SHA-256 of that file.
        content: Split -> digest of its rows and the bytes of their pictures.
        base: Identity of the base now.
        allow_other_base: Whether the base may be another one than the run's.
        processes: Number of processes now.

    Returns:
        What could not be compared, or has changed and may, a line each.

    Raises:
        SgfluxError: naming everything that differs.
    """
    said = []
    old, lacking = completed(state.config, defaults)
    new = settings
    trained_on = _base_of(state)
    differing = changed_settings(
        old, new, by_content=state.content is not None, by_identity=trained_on is not None
    )
    passes, accumulation = state.passes_of_step, "gradient_accumulation_steps"
    if new[accumulation] * processes == passes:
        differing = [name for name in differing if name != accumulation]
    if differing:
        changes = "; ".join(
            f"{name}: {_shown(old, name)} in the checkpoint, {_shown(new, name)} now"
            for name in differing
        )
        raise SgfluxError(
            f"{path}: was trained with other settings ({changes}). The length "
            f"({', '.join(LENGTH)}), {', '.join(CADENCE)} and paths may change when a run is "
            "resumed; for anything else start a new run in another output_dir, from this adapter "
            "with --init-from if you like"
        )
    if lacking:
        said.append(
            f"{path} is of an older sgflux, which did not have {', '.join(lacking)}; the run goes "
            "on with the defaults"
        )
    _check_data(state, path=path, data=data, content=content)
    if state.content is None:
        said.append(
            f"{path} is of an older sgflux and knows its data by the JSONL alone: whether the "
            "pictures are the same was not compared"
        )
    check = check_identity(trained_on, base, what="the run", allow_other=allow_other_base)
    if check.status != "same":
        said.append(f"{path}: {check.text}")
    if processes != state.processes:
        said.append(
            f"{path}: was trained by {state.processes} process(es), now there are {processes}; a "
            f"step still has {passes} forward passes, which they share"
            + ("" if passes % processes == 0 else ": some are done twice and count once")
        )
    if any(old.get(name) != new.get(name) for name in LENGTH):
        said.append(
            "the run has another length than before; from here on the learning rate follows the "
            "schedule of the new length"
        )
    return said


def check_same_transformer(
    state: TrainingState, adapter: AdapterConfig, *, path: Path, allow_other: bool
) -> None:
    """Compare the transformer with the checkpoint's by what an older one knows of it, too.

    Raises:
        SgfluxError: naming what differs, on both sides.
    """
    old = state.adapter.get("base")
    old = old if isinstance(old, Mapping) else {}
    free = {"identity", *(("fingerprint",) if allow_other else ())}
    different = [
        f"{name} is {old.get(name)!r} in the checkpoint and {value!r} for this model"
        for name, value in adapter.base.items()
        if name not in free and old.get(name) != value
    ]
    if different:
        raise SgfluxError(f"{path}: was trained on another base: {'; '.join(different)}")


def check_length(state: TrainingState, *, path: Path, max_steps: int) -> None:
    """Refuse a length that the checkpoint is beyond.

    Raises:
        SgfluxError: naming both.
    """
    if state.step > max_steps:
        raise SgfluxError(
            f"{path}: has {state.step} steps behind it, more than the {max_steps} that this run "
            "is to have; give a larger max_steps (or epochs)"
        )


def completed(
    settings: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Settings of a checkpoint, and those that its sgflux did not have yet, with their defaults.

    A new setting has a default that changes nothing of an older run.

    Returns:
        The settings, whole, and the names of those that were lacking.
    """
    found, lacking = dict(settings), []
    for name, default in defaults.items():
        own = settings.get(name)
        if name not in settings:
            found[name] = default
            lacking.append(name)
        elif isinstance(own, Mapping) and isinstance(default, Mapping):
            found[name], inner = completed(own, default)
            lacking += [f"{name}.{one}" for one in inner]
    return found, lacking


def changed_settings(
    old: Mapping[str, Any], new: Mapping[str, Any], *, by_content: bool, by_identity: bool
) -> list[str]:
    """The settings that make another run of it, sorted by name.

    Args:
        old: Settings of the checkpoint.
        new: Settings of the run that goes on.
        by_content: Whether data is compared by content, so that paths may differ.
        by_identity: Whether the base is compared by its identity, so that paths may differ.
    """
    free = {*CADENCE, *LENGTH, *_NO_PART_OF_TRAINING, "init_from"}
    paths = {*_FILE_PATHS, "train_jsonl", "val_jsonl"}
    if new.get("select_by") != "obeyed":
        free |= set(_WATCHING)
    if by_content:
        free.add("images_dir")
    if by_identity:
        free |= set(_BASE_PATHS)
    names = set()
    for name in {*old, *new} - free:
        before, now = old.get(name), new.get(name)
        if name == "losses" and isinstance(before, Mapping) and isinstance(now, Mapping):
            # A classifier is compared by the digest of its weights.
            before, now = (
                {**one, "classifier": one.get("classifier") is not None} for one in (before, now)
            )
        if name in paths:
            before, now = before is not None, now is not None
        if before != now:
            names.add(name)
    return sorted(names)


def _check_data(
    state: TrainingState, *, path: Path, data: Mapping[str, str], content: Mapping[str, str]
) -> None:
    if state.content is None:
        changed = [name for name in _SPLITS if data.get(name) != state.data.get(name)]
        what = "JSONL has changed"
    else:
        changed = [name for name in _SPLITS if content.get(name) != state.content.get(name)]
        what = "rows or the bytes of their pictures have changed"
    if changed:
        raise SgfluxError(
            f"{path}: was trained on other data: the {' and '.join(changed)} {what} since; start "
            "a new run in another output_dir, from this adapter with --init-from if you like"
        )
    for name in {**data, **state.data}:
        # What an older sgflux did not note is not compared.
        is_known = name in state.data or state.content is not None
        if name not in _SPLITS and is_known and data.get(name) != state.data.get(name):
            raise SgfluxError(
                f"{path}: was trained with another {name}; start a new run in another output_dir"
            )


def _base_of(state: TrainingState) -> BaseIdentity | None:
    base = state.adapter.get("base")
    parts = base.get("identity") if isinstance(base, Mapping) else None
    return None if parts is None else BaseIdentity.from_json(parts)


def _shown(settings: Mapping[str, Any], name: str) -> str:
    return repr(settings[name]) if name in settings else "unknown"

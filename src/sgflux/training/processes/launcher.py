"""What ``accelerate launch`` was told about training, which this trainer takes from its own flags.

The launcher hands some of its options on in environment variables; a script that reads none of them
ignores them in silence. Here each is either what the run does anyway, or refused by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import psutil
from accelerate.utils import patch_environment  # type: ignore[import-untyped]

from sgflux.errors import SgfluxError

_NOTHING = ("", "no", "none")
_RAM_EFFICIENT = "FSDP_CPU_RAM_EFFICIENT_LOADING"
_LAUNCHERS = ("accelerate-launch", "accelerate.commands.launch")


def check_launcher(
    *,
    dtype: str,
    compiles: bool | None = None,
    accumulation: int | None = None,
    recomputes: bool = False,
    shares_base: bool = False,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] | None = None,
) -> None:
    """Refuse what the launcher was told and the run does not do.

    Args:
        dtype: Precision of the run, fp32 or bf16.
        compiles: Whether the run compiles its blocks; None: the run has no such setting.
        accumulation: Gradient accumulation steps of the run; None: the run has no such setting.
        recomputes: Whether the run recomputes activations in the backward pass.
        shares_base: Whether the run can share its base between processes.
        environment: Variables of the environment; None: those of this process.
        command: Command line of the launcher; None: that of this process's parent.

    Raises:
        SgfluxError: naming the launcher's option and the run's flag that says the same.
    """
    environment = os.environ if environment is None else environment
    if "ACCELERATE_MIXED_PRECISION" not in environment:
        return  # no launcher of accelerate's
    precision = environment["ACCELERATE_MIXED_PRECISION"].lower()
    if precision not in (*_NOTHING, dtype):
        way_out = (
            "give --dtype bf16 as well"
            if precision == "bf16"
            else "leave it out; there is --dtype bf16 and --dtype fp32"
        )
        raise SgfluxError(
            f"accelerate launch was told --mixed_precision {precision}, and the run's dtype is "
            f"{dtype}: {way_out}"
        )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "").lower()
    if backend not in _NOTHING and (backend != "inductor" or compiles is False):
        way_out = "leave it out" if compiles is None else "leave it out and give --compile"
        raise SgfluxError(
            f"accelerate launch was told --dynamo_backend {backend}, which has no effect here: "
            f"{way_out}"
        )
    told = environment.get("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    if told is None:
        # Without DeepSpeed the launcher hands it to nobody; only its command line tells.
        told = option_of(_parents_command() if command is None else command)
    if accumulation is not None and told is not None and told not in ("auto", str(accumulation)):
        raise SgfluxError(
            f"accelerate launch was told --gradient_accumulation_steps {told}, and the run's are "
            f"{accumulation}: give --gradient-accumulation-steps {told} after 'sgflux train' "
            "instead"
        )
    if asks_for_shards(environment):
        _check_fsdp(environment, recomputes=recomputes, shares_base=shares_base)


def asks_for_shards(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the launcher was told ``--use_fsdp``, which means the setting ``shard_base``.

    Args:
        environment: Variables of the environment; None: those of this process.
    """
    environment = os.environ if environment is None else environment
    return environment.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def weights_in_every_process() -> AbstractContextManager[None]:
    """A context in which the launcher's ``--use_fsdp`` does not leave models without weights.

    By its default ``fsdp_cpu_ram_efficient_loading``, transformers 5.24 leaves weights that a file
    lacks without values in all processes but the first: a wrapper, which is not used here, is to
    send them. Weights that the file has are read in every process (tried with two processes).
    """
    return patch_environment(**{_RAM_EFFICIENT: "false"}) if asks_for_shards() else nullcontext()


def _check_fsdp(environment: Mapping[str, str], *, recomputes: bool, shares_base: bool) -> None:
    """Refuse what the launcher was told about FSDP and the run does not do."""
    if not shares_base:
        raise SgfluxError(
            "accelerate launch was told --use_fsdp, which has no effect on this command; launch "
            "with --multi_gpu"
        )
    version = environment.get("FSDP_VERSION", "1")
    if version != "2":
        raise SgfluxError(
            f"accelerate launch was told --fsdp_version {version}; give --fsdp_version 2, which "
            "can leave the trained weights whole"
        )
    for variable, way_out in (
        ("FSDP_OFFLOAD_PARAMS", "leave it out; without shards there is --offload-blocks"),
        ("FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", "leave it out"),
        (
            "FSDP_ACTIVATION_CHECKPOINTING",
            "" if recomputes else "give --gradient-checkpointing after 'sgflux train' as well",
        ),
    ):
        if way_out and environment.get(variable, "false").lower() == "true":
            raise SgfluxError(
                f"accelerate launch was told --{variable.lower()} true, which has no effect here: "
                f"{way_out}"
            )
    if environment.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() in ("false", "no_reshard"):
        raise SgfluxError(
            "accelerate launch was told --fsdp_reshard_after_forward false, which has no effect "
            "here: a block's weights are always given up after it has run; leave it out"
        )


def option_of(command: Sequence[str]) -> str | None:
    """The gradient accumulation in a command line of accelerate's launcher, if it is one.

    Only the launcher's own options count, those before the program that it starts.
    """
    start = None
    for place, word in enumerate(command):
        before = Path(command[place - 1]).name if place else ""
        by_name = word == "launch" and before == "accelerate"
        if by_name or Path(word).name in _LAUNCHERS:
            start = place + 1
            break
    if start is None:
        return None
    told = None
    words = list(command[start:])
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if word.endswith(".py") or word in ("-m", "--module"):
            break
        if name.replace("-", "_") == "__gradient_accumulation_steps":
            told = value if equals else next(iter(words[place + 1 :]), None)
    return told


def _parents_command() -> list[str]:
    try:
        parent = psutil.Process().parent()
        return [] if parent is None else parent.cmdline()
    except psutil.Error:
        return []  # another user's process, or one that is gone

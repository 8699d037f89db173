"""The commands of ``sgflux``, one module each: its flags and the function that it runs."""

from __future__ import annotations

from sgflux.commands import (
    cache,
    calibrate,
    data_check,
    data_from_prompts,
    data_vg,
    data_world,
    demo,
    doctor,
    evaluate,
    evaluate_aggregate,
    evaluate_compare,
    evaluate_layout,
    evaluate_report,
    export,
    import_adapter,
    page,
    saliency,
    sample,
    train,
    train_classifier,
    world_measure_base,
    world_measure_judge,
    world_train_base,
    world_train_judge,
)
from sgflux.commands.command import Command

__all__ = ["COMMANDS", "Command"]

COMMANDS: tuple[Command, ...] = (
    demo.COMMAND,
    page.COMMAND,
    data_world.COMMAND,
    data_vg.COMMAND,
    data_from_prompts.COMMAND,
    data_check.COMMAND,
    cache.COMMAND,
    train.COMMAND,
    train_classifier.COMMAND,
    sample.COMMAND,
    saliency.COMMAND,
    evaluate.COMMAND,
    calibrate.COMMAND,
    evaluate_aggregate.COMMAND,
    evaluate_compare.COMMAND,
    evaluate_report.COMMAND,
    evaluate_layout.COMMAND,
    export.COMMAND,
    import_adapter.COMMAND,
    doctor.COMMAND,
    world_train_base.COMMAND,
    world_measure_base.COMMAND,
    world_measure_judge.COMMAND,
    world_train_judge.COMMAND,
)
"""All commands, in the order in which ``sgflux --help`` lists them."""

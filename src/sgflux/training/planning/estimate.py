"""What a run will cost, counted before it starts: operations exactly, memory roughly.

Shapes: B examples in a forward pass, S tokens of an example (image + text), h inner width.
"""

from __future__ import annotations

from dataclasses import dataclass

_KEPT_PER_TOKEN = 13
"""Inner widths kept for the backward pass, a token of a block, beside what LoRA layers keep.
Counted on small components in float32 on a CPU: 12.1 in a double block, 11.1 in a single one, about
17 in an adapted one. FLUX.1 in bf16 at 512 by 512 pixels kept 13.5 on an H200, of which 0.5 are
what the LoRA of six double blocks keeps. Other attention kernels keep something else."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What the cost of a step depends on.

    Attributes:
        inner_dim: Inner width h.
        blocks: Number of double and single blocks.
        first_adapted: Number of blocks before the first adapted one.
        tokens: S.
        batch_size: B, of one forward pass.
        examples_per_step: Number of examples over all processes and accumulated forward passes.
        bytes_per_number: Bytes of a number of the base's weights and of the arithmetic, 2 or 4.
        checkpoint_every: Every how many blocks one is recomputed in the backward pass; 0: none.
        lora_numbers: Numbers that the LoRA layers keep of an example for the backward pass.
        teacher_passes: Number of further forward passes of the base, without gradient, as a
            teacher.
    """

    inner_dim: int
    blocks: int
    first_adapted: int
    tokens: int
    batch_size: int
    examples_per_step: int
    bytes_per_number: int
    checkpoint_every: int
    lora_numbers: int = 0
    teacher_passes: float = 0

    @property
    def trained_through(self) -> int:
        """Blocks that the backward pass goes through."""
        return self.blocks - self.first_adapted


def operations_per_example(shape: Shape) -> float:
    """Multiplications and additions of one training example.

        forward   24 h^2 S + 4 h S^2   a block
        backward  24 h^2 S + 8 h S^2   a block from the first adapted one on (no weight gradients)

    Recomputed blocks are forwarded twice, and all of them once more in
    each pass of a teacher. LoRA, embedders
    and the graph are below one percent.
    """
    h, s = shape.inner_dim, shape.tokens
    forward = 24 * h * h * s + 4 * h * s * s
    backward = 24 * h * h * s + 8 * h * s * s
    recomputed = 0
    if shape.checkpoint_every:
        recomputed = -(-shape.trained_through // shape.checkpoint_every)
    forwards = shape.blocks * (1 + shape.teacher_passes) + recomputed
    return forwards * forward + shape.trained_through * backward


def activation_bytes(shape: Shape) -> int:
    """What one forward pass keeps for its backward pass, roughly."""
    number = shape.batch_size * shape.bytes_per_number
    block = number * shape.tokens * shape.inner_dim
    through = shape.trained_through
    kept = through * block * _KEPT_PER_TOKEN + number * shape.lora_numbers
    if not shape.checkpoint_every:
        return kept
    recomputed = -(-through // shape.checkpoint_every)
    # Of a recomputed block its input stays, and one of them at a time is whole again.
    return kept * (through - recomputed + 1) // through + recomputed * block


def estimate_lines(
    shape: Shape,
    *,
    encoder_bytes: int,
    base_bytes: int,
    trained_numbers: int,
    averaged: bool,
    encoders_aside: bool = False,
    offloaded_bytes: int = 0,
    shared_bytes: int = 0,
    sharers: int = 1,
    decoder_bytes: int = 0,
) -> list[str]:
    """The cost in words.

    Args:
        shape: Shape of the run.
        encoder_bytes: Bytes of the weights of text encoders and autoencoder.
        base_bytes: Bytes of the weights of the transformer.
        trained_numbers: Number of weights of the adapter.
        averaged: Whether their moving average is kept as well.
        encoders_aside: Whether the encoders are on another device than the training.
        offloaded_bytes: Bytes of those of the transformer's weights that are on the device only
            while their block runs.
        shared_bytes: Bytes of those of the transformer's weights that several processes share.
        sharers: Number of these processes.
        decoder_bytes: Bytes of the autoencoder's weights, if it stays loaded in training.
    """
    # Weight, gradient and AdamW's two moments in float32.
    trained = trained_numbers * 4 * (5 if averaged else 4)
    kept = activation_bytes(shape)
    operations = operations_per_example(shape)
    # One block at a time is there, of as many as there are.
    held = base_bytes - offloaded_bytes + offloaded_bytes // shape.blocks
    if shared_bytes:  # two blocks are whole: one runs, and the next is being gathered
        held += shared_bytes // sharers + 2 * shared_bytes // shape.blocks - shared_bytes
    decoder = 0 if encoders_aside else decoder_bytes
    training = held + trained + kept + decoder
    encoding = 0 if encoders_aside else encoder_bytes
    where = "another device" if encoders_aside else "the device"
    lines = [
        f"encoding:   {_gib(encoder_bytes)} of weights, on {where} only in this phase (plus "
        "their activations)",
        f"memory:     about {_gib(training)} in training: "
        f"base {_gib(held)}, adapter with optimizer {_gib(trained)}, "
        f"activations about {_gib(kept)}{f', autoencoder {_gib(decoder)}' if decoder else ''} "
        "(estimated, not measured)",
        f"peak:       about {_gib(max(training, encoding))}, "
        f"in {'training' if training >= encoding else 'encoding'}",
        f"arithmetic: {operations / 1e12:.3g} TFLOP an example, "
        f"{operations * shape.examples_per_step / 1e12:.3g} a step",
    ]
    if decoder_bytes:
        lines.insert(
            2,
            f"decoding:   {_gib(decoder_bytes)} of weights, on {where} in training as well, for "
            "the sample graphs",
        )
    if offloaded_bytes:
        lines.insert(
            2,
            f"offloaded:  {_gib(offloaded_bytes)} of the base's weights, fetched block by block "
            "three times a step",
        )
    if shared_bytes:
        lines.insert(
            2,
            f"shared:     {_gib(shared_bytes)} of the base's weights by {sharers} processes, "
            f"{_gib(shared_bytes / sharers)} each, gathered block by block in every pass",
        )
    return lines


def _gib(count: float) -> str:
    return f"{count / 2**30:.3g} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"

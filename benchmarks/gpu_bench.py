"""What the rows of benchmarks/gpu.py share: the card, and a FLUX of full size with random weights.

FLUX.1-schnell's transformer is made on the card once, in bf16. Each way that trains or samples puts
its LoRA in and takes it out again. A rehearsal (``--toy``) does the same on the CPU at small width,
where a batch of more than four counts as out of memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from measuring import Place, Way, fits, largest_batch, significant
from ways import VANILLA, Ours, Task, Vanilla

from sgflux.training.planning.estimate import Shape, operations_per_example
from sgflux.world.dataset import write_world

SIZES = (256, 512, 1024)
TEXT_TOKENS = {256: 128, 512: 256, 1024: 256}
EXAMPLES = {256: 192, 512: 64, 1024: 16}
"""Number of examples that batches are drawn from, which is also the largest batch tried."""


@dataclass(frozen=True)
class Scale:
    """Sizes of the models and of what is measured.

    Attributes:
        flux: Settings of the transformer.
        block_start, block_end: Range of the double blocks with the adapter.
        size_divisor: Factor by which pictures are smaller than their name.
        token_divisor: Factor by which texts are shorter.
        turns: Number of timed steps of every way.
        matrix: Side of the matrix products of the row ceilings.
        copied: Number of bytes that the row ceilings copies.
    """

    flux: dict[str, Any]
    block_start: int
    block_end: int
    size_divisor: int
    token_divisor: int
    turns: int
    matrix: int
    copied: int


FULL = Scale({"guidance_embeds": False}, 7, 13, 1, 1, 5, 8192, 4 * 2**30)
TOY = Scale(
    {
        "num_layers": 6,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 24,
        "axes_dims_rope": (4, 6, 6),
        "guidance_embeds": False,
    },
    2,
    4,
    8,
    16,
    2,
    256,
    2**20,
)


class Bench:
    """The card, and the models on it.

    Attributes:
        place: Device that measures.
        toy: Whether this is the rehearsal.
        scale: Sizes of the models.
        results: States and figures of all rows so far, by name.
        adapter: Adapter to draw pictures with; None if a row trains one.
        earlier: Figures that an earlier attempt of the current row kept.
        keep: Function that writes the figures of the current row so far.
    """

    def __init__(
        self, place: Place, *, toy: bool, results: dict[str, Any], adapter: Path | None = None
    ) -> None:
        """Hold the settings; models are made when a row needs them."""
        self.place, self.toy, self.results, self.adapter = place, toy, results, adapter
        self.scale = TOY if toy else FULL
        self._flux: FluxTransformer2DModel | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="sgflux-gpu-")
        self._compiled = self._rehearsed = False
        self.begin({}, lambda _: None)

    def begin(self, earlier: dict[str, Any], keep: Callable[[dict[str, Any]], None]) -> None:
        """Begin a row.

        Args:
            earlier: Figures that an earlier attempt kept; empty if there are none.
            keep: Function that writes the figures so far.
        """
        self.earlier, self.keep = earlier, keep

    def figures_of(self, name: str) -> dict[str, Any]:
        """Figures that another row has; empty if it has none."""
        found: dict[str, Any] = self.results.get(name, {}).get("found", {})
        return found

    @property
    def folder(self) -> Path:
        """A temporary folder that is removed with the process."""
        return Path(self._folder.name)

    def task(self, size: int) -> Task:
        """The training task at ``size`` by ``size`` pixels."""
        side = size // self.scale.size_divisor
        return Task(
            height=side,
            width=side,
            text_tokens=TEXT_TOKENS[size] // self.scale.token_divisor,
            block_start=self.scale.block_start,
            block_end=self.scale.block_end,
            dtype="bf16",
            examples=8 if self.toy else EXAMPLES[size],
        )

    # -- the model -----------------------------------------------------------------------------

    def flux(self) -> FluxTransformer2DModel:
        """The transformer on the card; the first call makes it."""
        if self._flux is None:
            self._flux = self.new_flux()
        return self._flux

    def new_flux(self, device: str | None = None) -> FluxTransformer2DModel:
        """Make a transformer with random weights, the same ones on every call on a device.

        Args:
            device: Device of the weights; None for the card.
        """
        with torch.device("meta"):
            transformer = FluxTransformer2DModel(**self.scale.flux)
        target = device or str(self.place.device)
        for weight in transformer.parameters():
            weight.data = weight.data.to(torch.bfloat16)
        transformer.to_empty(device=target)
        torch.manual_seed(0)
        for name, weight in transformer.named_parameters():
            # Norms near 1, as in any trained network, so that nothing over- or underflows.
            is_norm = ".norm_" in name and weight.ndim == 1
            weight.data.normal_(mean=1.0 if is_norm else 0.0, std=0.02)
        return transformer.requires_grad_(False).eval()

    def drop_flux(self) -> None:
        """Free the transformer; the next call of :meth:`flux` makes an equal one."""
        self._flux, self._compiled = None, False
        self.place.clean()

    def compile(self, ours: Ours) -> None:
        """Compile the transformer's blocks, and those of ``ours`` that read a graph."""
        if not self.toy:
            ours.model.flux.compile_blocks()
        elif not self._rehearsed:  # traced once, and not compiled: minutes on a CPU
            ours.model.flux.compile_blocks(backend="eager")
        self._compiled = self._rehearsed = True

    def uncompile(self) -> None:
        """Drop a transformer with compiled blocks, and the compiled code."""
        if self._compiled:
            self.drop_flux()
            torch._dynamo.reset()

    # -- the ways that train -------------------------------------------------------------------

    @contextmanager
    def vanilla(self, task: Task) -> Iterator[Vanilla]:
        """Put A's LoRA into the transformer; it is taken out at the end."""
        found = Vanilla(self.flux(), task, place=self.place)
        try:
            yield found
        finally:
            found.forget_gradients()
            found.close()
            self.place.clean()

    @contextmanager
    def ours(self, task: Task) -> Iterator[Ours]:
        """Put an adapter of sgflux into the transformer; it is taken out at the end."""
        found = Ours(self.flux(), task, place=self.place)
        try:
            yield found
        finally:
            found.close()
            self.place.clean()

    @contextmanager
    def worker(self, name: str, task: Task) -> Iterator[Callable[[int], Way]]:
        """Put one way alone into the transformer; yields a function from batch size to the way."""
        if name == VANILLA:
            with self.vanilla(task) as vanilla:

                def start(batch: int) -> Way:
                    vanilla.start(batch)
                    return vanilla

                yield start
        else:
            with self.ours(task) as ours:
                yield lambda batch: ours.run(name, batch)

    # -- what is counted -----------------------------------------------------------------------

    def operations(self, size: int, *, teaches: bool = False) -> float:
        """Number of floating-point operations of one example's training step."""
        transformer, task = self.flux(), self.task(size)
        blocks = len(transformer.transformer_blocks) + len(transformer.single_transformer_blocks)
        shape = Shape(
            inner_dim=transformer.inner_dim,
            blocks=blocks,
            first_adapted=task.block_start,
            tokens=task.image_tokens + task.text_tokens,
            batch_size=1,
            examples_per_step=1,
            bytes_per_number=2,
            checkpoint_every=0,
            teacher_passes=int(teaches),
        )
        return operations_per_example(shape)

    def speed(
        self, size: int, batch: int, seconds: float, *, teaches: bool = False
    ) -> dict[str, Any]:
        """Examples a second, TFLOP/s, and its share of the measured peak of matrix products."""
        found: dict[str, Any] = {"examples_per_second": significant(batch / seconds)}
        rate = self.operations(size, teaches=teaches) * batch / seconds
        found["tflops"] = significant(rate / 1e12)
        peak = self.figures_of("ceilings").get("matrix_tflops")
        if peak:
            found["share_of_peak"] = significant(rate / 1e12 / peak, 3)
        return found

    def world(self, train_per_class: int) -> Path:
        """Write a small data set of the bundled world; returns its folder."""
        folder = self.folder / f"world{train_per_class}"
        if not folder.exists():
            write_world(
                folder,
                train_per_class=train_per_class,
                val_per_class=0,
                test_per_class=0,
                triples="1,2",
            )
        return folder


def step_fits(way: Way) -> None:
    """Take a step of a way; its gradients are freed if it runs out of memory."""
    way.activate()
    try:
        way.step()
    except RuntimeError:
        way.forget_gradients()  # type: ignore[attr-defined]
        raise


def largest_of(
    start: Callable[[int], Way], *, place: Place, limit: int, peaks: Mapping[str, float | None]
) -> int:
    """Search the largest batch with which a way trains.

    Args:
        start: Function from batch size to the way.
        place: Device that trains.
        limit: Largest batch that is tried.
        peaks: Known peaks of memory by batch; the search begins where a straight line through them
            reaches the card's memory.
    """
    guess = 0
    known = [(int(batch), peak) for batch, peak in peaks.items() if peak is not None]
    if place.is_cuda and len(known) > 1:
        (one, low), (more, high) = known[0], known[-1]
        total = torch.cuda.get_device_properties(place.device).total_memory / 2**30
        guess = int(one + (total - 1 - low) * (more - one) / max(high - low, 1e-3))
    return largest_batch(
        lambda batch: fits(lambda: step_fits(start(batch)), place), limit=limit, guess=guess
    )

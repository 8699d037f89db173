"""Rows of benchmarks/gpu.py that compare the speed of sgflux with that of plain diffusers."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from diffusers.training_utils import cast_training_params
from gpu_bench import Bench, largest_of, step_fits
from gpu_correctness import short_training
from measuring import Action, Place, Times, Way, alternate, fits, quietly, significant
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from ways import LOSSES, VANILLA, Ours, Vanilla, statement_graph

from sgflux.bases.base import Text
from sgflux.bases.flux1.schedule import FluxScheduler
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.training.run.train import train
from sgflux.world.tiny_flux.config import TrainBaseConfig
from sgflux.world.tiny_flux.distillation import distil
from sgflux.world.tiny_flux.model import LinearCode
from sgflux.world.tiny_flux.scenes import make_scenes
from sgflux.world.tiny_flux.training import train_transformer

MISSION_EXAMPLES = 800
MISSION_PICTURES = 960
LARGEST_TURNS = 3
"""Number of timed turns at the largest batch, where a step takes seconds."""


def ceilings(bench: Bench) -> dict[str, Any]:
    """Measure the card's own limits: bf16 matrix products, and a copy within its memory."""
    place, scale = bench.place, bench.scale
    draw = partial(torch.randn, device=place.device, dtype=torch.bfloat16)
    side = scale.matrix
    shapes = {f"{side} x {side} x {side}": (side, side, side)}
    if not bench.toy:  # a block's own: four examples of 512 by 512 pixels, both feed-forward sides
        shapes["5120 x 3072 x 12288"] = (5120, 3072, 12288)
        shapes["5120 x 12288 x 3072"] = (5120, 12288, 3072)
    products = {}
    for name, (rows, inner, columns) in shapes.items():
        left, right = draw(rows, inner), draw(inner, columns)
        seconds = burst(partial(torch.mm, left, right), place, bench.toy)
        products[name] = significant(2 * rows * inner * columns / seconds / 1e12)
    source = torch.empty(scale.copied, dtype=torch.uint8, device=place.device).random_()
    target = torch.empty_like(source)
    seconds = burst(partial(target.copy_, source), place, bench.toy)
    return {
        "matrix_tflops": max(products.values()),
        "products_tflops": products,
        "copy_tb_per_second": significant(2 * scale.copied / seconds / 1e12),
    }


def burst(work: Callable[[], object], place: Place, toy: bool) -> float:
    """Time calls that follow each other; returns the median seconds of a call over bursts."""
    calls, bursts = (2, 2) if toy else (20, 7)
    for _ in range(3):
        work()
    times = []
    for _ in range(bursts):
        place.wait()
        started = time.perf_counter()
        for _ in range(calls):
            work()
        place.wait()
        times.append((time.perf_counter() - started) / calls)
    return statistics.median(times)


# --- training steps -------------------------------------------------------------------------------


def memory(bench: Bench, size: int) -> dict[str, Any]:
    """Measure the peak memory of A and of B, each alone, and the largest batch that trains."""
    task, place = bench.task(size), bench.place
    found: dict[str, Any] = bench.earlier or {"weights_gib": None}
    if place.is_cuda:
        bench.flux()
        found["weights_gib"] = significant(torch.cuda.memory_allocated() / 2**30)
    for name in (VANILLA, "B"):
        if name in found:
            continue
        with bench.worker(name, task) as start:
            peaks: dict[str, float | None] = {}
            for batch in (1, 4):
                way = start(batch)
                if fits(partial(step_fits, way), place):
                    peaks[str(batch)] = peak_of(way, place)
            largest = largest_of(start, place=place, limit=task.examples, peaks=peaks)
            measured: dict[str, Times] = {}
            place.restart_peak()

            def measure(batch: int) -> None:
                ways = {name: start(batch)}  # noqa: B023  # called at once
                measured.update(alternate(ways, place=place, turns=2))  # noqa: B023

            while largest and not fits(partial(measure, largest), place):
                largest -= 1  # several steps in a row need a little more memory than one
            own: dict[str, Any] = {"peak_gib": peaks, "largest_batch": largest}
            if largest:
                row = measured[name].row()
                row |= {"peak_gib": place.peak_gib()}
                row |= bench.speed(size, largest, row["seconds"])
                own["at_largest"] = row
        found[name] = own
        bench.keep(found)
    return found


def peak_of(way: Way, place: Place) -> float | None:
    """Measure the peak memory of a step; the optimizer's state is there already."""
    place.clean()
    place.restart_peak()
    way.step()
    place.wait()
    return place.peak_gib()


def steps(
    bench: Bench, size: int, *, names: Sequence[str], batches: Sequence[int], compiled: bool = False
) -> dict[str, Any]:
    """Time training steps of several ways that take turns.

    The LoRAs of A and of sgflux are both in the transformer, and one of them is active. A and B are
    measured at every batch first, then A and the other ways, and figures are kept after each batch.

    Args:
        bench: Card and models.
        size: Side of a picture in pixels.
        names: Names of the ways, with A and B among them.
        batches: Numbers of examples a step; 0 stands for the largest with which A and B both train.
        compiled: Whether the repeated blocks are compiled first.
    """
    task = bench.task(size)
    found: dict[str, Any] = bench.earlier or {"compiled": compiled, "batches": []}
    # No LoRA may be in the transformer yet: the search puts its own in.
    largest = largest_common(bench, size) if 0 in batches else 0
    others = [name for name in names if name not in (VANILLA, "B")]
    with ExitStack() as stack:
        if compiled:
            stack.callback(bench.uncompile)
        vanilla = stack.enter_context(bench.vanilla(task))
        ours = stack.enter_context(bench.ours(task))
        if compiled:
            bench.compile(ours)
        times_of = partial(step_times_of, bench, vanilla, ours)
        for asked in batches:
            row = row_of(found, asked, largest)
            while row["batch"] and not row["ways"]:
                times = times_of([VANILLA, "B"], row)
                if len(times) == 2:
                    add_times(bench, size, row, times)
                    bench.keep(found)
                else:  # the LoRAs and optimizers of both are there, which takes a little more
                    row["batch"] -= 1
                    bench.place.clean()
        for asked in batches:
            row = row_of(found, asked, largest)
            missing = [n for n in others if n not in row["ways"] and n not in row["does_not_fit"]]
            if row["batch"] and missing:
                times = times_of([VANILLA, *missing], row)
                add_times(bench, size, row, times)
                row["does_not_fit"] += [name for name in missing if name not in times]
                bench.keep(found)
        if compiled:
            found["compiled_graphs"] = torch._dynamo.utils.counters["stats"]["unique_graphs"]
            torch._dynamo.utils.counters.clear()
    return found


def row_of(found: dict[str, Any], asked: int, largest: int) -> dict[str, Any]:
    """The entry of a batch among the figures of :func:`steps`; a new one if there is none."""
    rows: list[dict[str, Any]] = found["batches"]
    for row in rows:
        if row["asked"] == asked:
            return row
    row = {"asked": asked, "batch": asked or largest, "is_largest": not asked}
    rows.append(row | {"ways": {}, "does_not_fit": []})
    return rows[-1]


def step_times_of(
    bench: Bench, vanilla: Vanilla, ours: Ours, names: Sequence[str], row: dict[str, Any]
) -> dict[str, Times]:
    """Time steps of some ways in turns.

    Args:
        bench: Card and models.
        vanilla: LoRA of A.
        ours: Adapter of the other ways.
        names: Names of the ways.
        row: Entry of the batch; it notes how long the first steps took.

    Returns:
        Times of the ways that fit into memory; none if they fit one by one and not in turns.
    """
    place, batch = bench.place, row["batch"]
    vanilla.start(batch)
    ways: dict[str, Way] = {
        name: vanilla if name == VANILLA else ours.run(name, batch) for name in names
    }
    started = time.perf_counter()
    ways = {name: way for name, way in ways.items() if fits(partial(step_fits, way), place)}
    row.setdefault("first_steps_seconds", significant(time.perf_counter() - started))
    turns, warm_up = bench.scale.turns, 2
    if row["is_largest"]:
        turns, warm_up = min(turns, LARGEST_TURNS), 1
    times: dict[str, Times] = {}

    def measure() -> None:
        times.update(alternate(ways, place=place, turns=turns, warm_up=warm_up))

    if VANILLA in ways:
        fits(measure, place)
    return times


def add_times(bench: Bench, size: int, row: dict[str, Any], times: Mapping[str, Times]) -> None:
    """Add figures of ways to the entry of a batch; a way that has figures keeps them."""
    for name, own in times.items():
        if name not in row["ways"]:
            beside = times[VANILLA]
            row["ways"][name] = step_row(bench, size, row["batch"], name, own, beside)


def step_row(
    bench: Bench, size: int, batch: int, name: str, times: Times, beside: Times
) -> dict[str, Any]:
    """Figures of one way; operations are counted for plain steps and those with a teacher."""
    row = times.row(beside)
    if name in (VANILLA, "B", "B2", "B+"):
        row |= bench.speed(size, batch, row["seconds"], teaches=name == "B+")
    if size == 256:
        epoch = MISSION_EXAMPLES / batch * row["seconds"]
        row["seconds_for_800_examples"] = significant(epoch)
    return row


def largest_common(bench: Bench, size: int) -> int:
    """The largest batch with which A trains alone and B trains alone.

    It comes from the row of memory; if that has no figures, it is searched for.
    """
    found = bench.figures_of(f"memory-{size}")
    if not {VANILLA, "B"} <= set(found):
        earlier, keep = bench.earlier, bench.keep
        bench.begin({}, lambda _: None)  # these figures are not the current row's
        found = memory(bench, size)
        bench.begin(earlier, keep)
    return min(found[VANILLA]["largest_batch"], found["B"]["largest_batch"])


# --- where the time goes --------------------------------------------------------------------------


class Marks:
    """Moments within a step, taken by the device's own clock."""

    def __init__(self, place: Place) -> None:
        """Begin without marks."""
        self._place = place
        self._marks: list[tuple[str, Any]] = []

    def __call__(self, ended: str) -> None:
        """Note that a part of the step has ended."""
        moment: Any = time.perf_counter()
        if self._place.is_cuda:
            moment = torch.cuda.Event(enable_timing=True)
            moment.record()
        self._marks.append((ended, moment))

    def spans(self) -> dict[str, float]:
        """Return the seconds of every part, and remove the marks."""
        self._place.wait()
        found: dict[str, float] = {}
        for (_, before), (name, after) in itertools.pairwise(self._marks):
            seconds = before.elapsed_time(after) / 1e3 if self._place.is_cuda else after - before
            found[name] = found.get(name, 0.0) + seconds
        self._marks.clear()
        return found


def parts(bench: Bench, size: int, batch: int) -> dict[str, Any]:
    """Time the parts of a step of B, and how long the host takes to launch its kernels.

    Hooks on modules and tensors mark where a part ends; "chosen blocks" have the adapter.
    """
    task, place = bench.task(size), bench.place
    with bench.ours(task) as ours:
        run = ours.run("B", batch)
        for _ in range(2):
            run.activate()
            run.step()
        place.wait()
        started = time.perf_counter()
        run.step()
        host = time.perf_counter() - started
        place.wait()
        whole = time.perf_counter() - started
        marks = Marks(place)
        spans: list[dict[str, float]] = []
        with marked(ours.model, marks, end=task.block_end):
            for _ in range(bench.scale.turns):
                marks("")
                run.step()
                marks("moving average and figures")
                spans.append(marks.spans())
    medians = {name: significant(statistics.median(s[name] for s in spans)) for name in spans[0]}
    return {
        "batch": batch,
        "seconds": significant(whole),
        "seconds_until_the_host_is_done": significant(host),
        "parts": medians,
        "sum": significant(sum(medians.values())),
    }


@contextmanager
def marked(model: Any, marks: Marks, *, end: int) -> Iterator[None]:
    """Mark the parts of every step of :class:`~sgflux.models.adapter.GraphLoraModel` inside."""
    flux = model.flux.transformer

    def on_gradient(tensor: Tensor, ended: str) -> None:
        if tensor.requires_grad:
            tensor.register_hook(lambda _: marks(ended))

    def encoded(_: Any, __: Any, features: Any) -> None:
        marks("graph encoder")
        on_gradient(features.local, "backward: chosen blocks")

    def rest_begins(_: Any, arguments: tuple[Tensor, ...]) -> None:
        marks("chosen blocks")
        on_gradient(arguments[0], "backward: rest")

    def predicted(_: Any, __: Any, velocity: Tensor) -> None:
        marks("rest")
        on_gradient(velocity, "loss")

    first_of_rest = (*flux.transformer_blocks[end:], *flux.single_transformer_blocks)[0]
    handles = [
        flux.x_embedder.register_forward_pre_hook(lambda *_: marks("batch, to the device")),
        model.encoder.register_forward_pre_hook(lambda *_: marks("prefix")),
        model.encoder.register_forward_hook(encoded),
        first_of_rest.register_forward_pre_hook(rest_begins),
        flux.proj_out.register_forward_hook(predicted),
        register_optimizer_step_pre_hook(lambda *_: marks("backward: encoder; clipping")),
        register_optimizer_step_post_hook(lambda *_: marks("optimizer")),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# --- sampling -------------------------------------------------------------------------------------


class _Texts:
    """Text encoders that return given features and cost nothing."""

    def __init__(self, hidden: Tensor, pooled: Tensor) -> None:
        self._hidden, self._pooled = hidden, pooled

    def encode(self, prompts: Sequence[str]) -> Text:
        """The same features for every prompt."""
        return {
            "hidden": self._hidden.expand(len(prompts), -1, -1),
            "pooled": self._pooled.expand(len(prompts), -1),
        }


def sampling(bench: Bench, size: int, batch: int, *, compiled: bool = False) -> dict[str, Any]:
    """Time four sampling steps of ``FluxPipeline`` and of sgflux, without encoding and decoding."""
    place, task = bench.place, bench.task(size)
    with ExitStack() as stack:
        if compiled:
            stack.callback(bench.uncompile)
        transformer = bench.flux()
        vanilla = stack.enter_context(bench.vanilla(task))
        vanilla.activate()
        cast_training_params(transformer, dtype=torch.bfloat16)  # as one loads a LoRA to draw
        ours = stack.enter_context(bench.ours(task))
        if compiled:
            bench.compile(ours)
        config = transformer.config
        draw = partial(torch.randn, device=place.device, dtype=torch.bfloat16)
        hidden = draw(1, task.text_tokens, config.joint_attention_dim)
        pooled = draw(1, config.pooled_projection_dim)
        plain = FluxPipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=None,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            transformer=transformer,
        )
        plain.set_progress_bar_config(disable=True)
        downsample = task.pixels_per_token // 2
        autoencoder: Any = SimpleNamespace(downsample=downsample, size=size)
        own = SceneGraphFluxPipeline(
            text_encoders=_Texts(hidden, pooled),  # type: ignore[arg-type]
            autoencoder=autoencoder,
            scheduler=FluxScheduler(FlowMatchEulerDiscreteScheduler()),
            transformer=transformer,
            model=ours.model,
        )
        graphs = [statement_graph(number, 1) for number in range(batch)]
        ours.add_names(graphs)

        def draw_plain() -> None:
            plain(
                prompt_embeds=hidden.expand(batch, -1, -1),
                pooled_prompt_embeds=pooled.expand(batch, -1),
                height=task.height,
                width=task.width,
                num_inference_steps=4,
                guidance_scale=0.0,
                output_type="latent",
            )

        def draw_own(scale: float) -> None:
            own(
                graphs,
                ["a photo"] * batch,
                num_inference_steps=4,
                seed=0,
                graph_scale=scale,
                height=task.height,
                width=task.width,
                output_type="latent",
            )

        def at_work(activate: Callable[[], None]) -> None:
            transformer.enable_adapters()
            activate()

        ways: dict[str, Way] = {
            "FluxPipeline": Action(draw_plain, transformer.disable_adapters),
            "FluxPipeline with LoRA": Action(draw_plain, partial(at_work, vanilla.activate)),
        }
        for scale in (1.0, 1.5):
            ready = partial(at_work, ours.activate)
            ways[f"sgflux, graph scale {scale:g}"] = Action(partial(draw_own, scale), ready)
        times = alternate(ways, place=place, turns=max(2, bench.scale.turns - 2), warm_up=1)
        transformer.enable_adapters()
    found: dict[str, Any] = {"batch": batch, "compiled": compiled, "steps": 4, "ways": {}}
    for name, measured in times.items():
        row = measured.row(times["FluxPipeline"])
        row["seconds_for_960_pictures"] = significant(MISSION_PICTURES / batch * row["seconds"])
        found["ways"][name] = row
    return found


# --- the bundled world ----------------------------------------------------------------------------


@contextmanager
def step_times(place: Place) -> Iterator[list[float]]:
    """Record when each AdamW step of a training inside ended."""
    moments: list[float] = []

    def note(optimizer: Any, *_: Any) -> None:
        if isinstance(optimizer, torch.optim.AdamW):
            place.wait()
            moments.append(time.perf_counter())

    handle = register_optimizer_step_post_hook(note)
    try:
        yield moments
    finally:
        handle.remove()


def rate(moments: Sequence[float], *, warm_up: int) -> dict[str, Any]:
    """Median steps a second; the first steps are left out."""
    apart = [b - a for a, b in itertools.pairwise(moments)][warm_up:]
    median = statistics.median(apart)
    return {"steps_per_second": significant(1 / median), "seconds": significant(median)}


def world_adapter(bench: Bench) -> dict[str, Any]:
    """Time adapter training on tiny-flux with the demo's settings and a large batch."""
    batch, count = (4, 4) if bench.toy else (512, 25)
    config = short_training(
        bench,
        bench.folder / "adapter",
        train_jsonl=bench.world(1 if bench.toy else 22) / "train.jsonl",
        batch_size=batch,
        max_steps=count,
        save_every=1_000_000,
        log_every=10,
    )
    with quietly(), step_times(bench.place) as moments:
        train(config)
    return {"batch": batch, "eager": rate(moments, warm_up=count // 4)}


def world_base(bench: Bench, *, compiled: bool = False) -> dict[str, Any]:
    """Time the training of tiny-flux itself: transformer with text encoders, then distillation."""
    batch, count = (4, 4) if bench.toy else (512, 25)
    config = TrainBaseConfig(
        output_dir=bench.folder / f"base-{'compiled' if compiled else 'eager'}",
        scenes=100 if bench.toy else 2_000,
        max_steps=count,
        batch_size=batch,
        distill_steps=count,
        save_every=1_000_000,
        compile=compiled and not bench.toy,  # minutes on a CPU
        device=str(bench.place.device),
    )
    config.output_dir.mkdir(parents=True)
    found: dict[str, Any] = {"batch": batch, "compiled": compiled}
    with quietly():
        images, captions, layouts = make_scenes(config)
        clean = LinearCode.fit(images).encode(images).bfloat16()
        with step_times(bench.place) as moments:
            model = train_transformer(config, clean, captions, layouts)
        found["transformer"] = rate(moments, warm_up=count // 4)
        bench.keep(found)
        with step_times(bench.place) as moments:
            distil(config, model, captions)
        found["distillation"] = rate(moments, warm_up=count // 4)
    return found


ALL_WAYS = (VANILLA, *[name for name in LOSSES if name not in ("C3", "S")])

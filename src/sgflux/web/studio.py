"""The worker of the page: one thread that draws what all clients have ordered, in turn.

A client asks with an :class:`Order` and looks at the :class:`Job` that it gets as often as it
likes; the thread writes into the job, and nothing here waits for a client.
"""

from __future__ import annotations

import queue
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgflux.errors import SgfluxError, first_line
from sgflux.graphs.scene_graph import SceneGraph, Triple
from sgflux.models.bundle_folder import CONFIG_FILE
from sgflux.settings.compute import SamplingCompute
from sgflux.settings.drawing import SizeSettings
from sgflux.settings.judges import JudgeSettings
from sgflux.settings.memory import MemorySettings
from sgflux.settings.model_source import ModelSource
from sgflux.settings.trained_adapter import TrainedAdapter

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from sgflux.evaluation.judges.judge import Judge, Verdict
    from sgflux.sampling import Arm, ArmPicture, SceneGraphFluxPipeline

JUDGES = {"tiny": "world"}
"""Model -> the judge of its pictures where the user names none."""

_HEAT_SIDE = 512  # pixels

NO_JUDGE = "No judge reads these pictures; 'sgflux page --judge' names one (docs/judges.md)."
"""Text above pictures that nobody judges."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a client wants drawn.

    Attributes:
        graph: The graph, with predicates that are known or allowed.
        model_id: The base model; None: the one that the adapter names.
        adapter: Folder or name of the adapter; None: the base alone.
        prompt: Text of the pictures; None: the names of the objects.
        seed: Seed of the noise.
        steps: Number of steps.
        graph_scale: Strength of the graph.
        stochastic_sampling: Whether each step draws new noise.
    """

    graph: SceneGraph
    model_id: str | None = None
    adapter: str | None = None
    prompt: str | None = None
    seed: int = 0
    steps: int = 8
    graph_scale: float = 1.0
    stochastic_sampling: bool = False


class Phase(StrEnum):
    """What happens to a job."""

    WAITING = "waiting"
    LOADING = "loading the model"
    DRAWING = "drawing"
    LOOKING = "looking for the objects"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass
class Drawn:
    """A picture of a job, and what was found in it.

    Attributes:
        picture: The picture.
        verdicts: Statements that were asked about, with the judge's verdicts; None: not judged.
        present: Objects that the judge finds, see :class:`Reading`; None: it looks for none.
        note: Reason why nothing was judged; None: something was.
        heat: Heat maps of subject, predicate and object of each statement; []: none yet.
    """

    picture: ArmPicture
    verdicts: list[tuple[Triple, Verdict | None]] = field(default_factory=list)
    present: frozenset[str] | None = None
    note: str | None = None
    heat: list[tuple[Image.Image, ...]] = field(default_factory=list)


class CancelledError(Exception):
    """The client does not want the job any more."""


@dataclass(eq=False)
class Job:
    """An order and what has become of it; the worker's thread writes, everybody may read.

    Attributes:
        order: The client's order.
        phase: Present state of the job.
        arms: Arms that are drawn; () until the model is loaded.
        arm: Arm that is being drawn.
        step: Number of steps of this arm that are done.
        preview: The picture that the last step foresees.
        drawn: Arm -> its picture.
        error: Message about the failure; None: nothing failed.
        source: Place that the base was loaded from; None until then.
    """

    order: Order
    phase: Phase = Phase.WAITING
    arms: tuple[Arm, ...] = ()
    arm: Arm | None = None
    step: int = 0
    preview: Any = None
    drawn: dict[Arm, Drawn] = field(default_factory=dict)
    error: str | None = None
    source: ModelSource | None = None
    _cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the worker to leave the job; it stops after the step that it is at."""
        self._cancelled.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.phase in (Phase.DONE, Phase.FAILED, Phase.CANCELLED)

    def check(self) -> None:
        """Go on, unless the job was cancelled.

        Raises:
            CancelledError: if it was.
        """
        if self._cancelled.is_set():
            raise CancelledError


class Studio:
    """Draws the orders of all clients in one thread; it keeps the model that it used last."""

    def __init__(
        self,
        model: ModelSource | None = None,
        trained: TrainedAdapter | None = None,
        compute: SamplingCompute | None = None,
        memory: MemorySettings | None = None,
        *,
        size: SizeSettings | None = None,
        judge: str | None = None,
        judges: JudgeSettings | None = None,
    ) -> None:
        """Keep the settings that a client does not choose.

        Args:
            model: Source of the base; an order replaces its ``model_id``.
            trained: Adapter; an order replaces its folder.
            compute: Device and precision.
            memory: Ways to need less memory of the device.
            size: Size of the pictures, and guidance.
            judge: Names of the judges, as ``sgflux eval`` takes them; None: see :data:`JUDGES`.
            judges: Models that the judges ask.
        """
        self._model = ModelSource() if model is None else model
        self._trained = TrainedAdapter() if trained is None else trained
        self._compute = SamplingCompute() if compute is None else compute
        self._memory = memory
        self._size = SizeSettings() if size is None else size
        self._loaded: tuple[Any, SceneGraphFluxPipeline] | None = None
        self._judge, self._judges = judge, JudgeSettings() if judges is None else judges
        self._made: dict[str, Judge | None] = {}
        self._waiting: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._jobs: list[Job] = []
        self._thread = threading.Thread(target=self._work, name="sgflux-studio", daemon=True)

    def load_judge(self) -> None:
        """Load the judge that the user names; without one, it is loaded with the first verdict.

        Raises:
            SgfluxError: as :func:`sgflux.evaluation.judges.make_judge`.
        """
        if self._judge is not None:
            self._judge_called(self._judge)

    def start(self) -> None:
        """Start the worker's thread."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel all jobs and end the thread."""
        for job in list(self._jobs):
            job.cancel()
        self._waiting.put(None)

    def submit(self, order: Order) -> Job:
        """Put an order at the end of the queue."""
        job = Job(order)
        self._jobs.append(job)
        self._waiting.put(job)
        return job

    def command(self, job: Job, record: Mapping[str, Any]) -> str:
        """Return the ``sgflux sample`` that draws a picture of a job again.

        Args:
            job: The job.
            record: Description of the picture.
        """
        from sgflux.sampling.arms import sample_command  # torch is there by then

        return sample_command(
            record,
            adapter=job.order.adapter,
            allow_other_base=self._trained.allow_other_base,
            source=job.source,
            memory=self._memory,
        )

    def ahead(self, job: Job) -> int:
        """Return the number of jobs that are drawn before this one."""
        jobs = list(self._jobs)
        return jobs.index(job) if job in jobs else 0

    def _work(self) -> None:
        import sgflux.sampling.arms  # noqa: F401  torch takes seconds, in which a person still draws

        while (job := self._waiting.get()) is not None:
            try:
                self._do(job)
                job.phase = Phase.DONE
            except CancelledError:
                job.phase = Phase.CANCELLED
            except SgfluxError as error:
                job.error, job.phase = str(error), Phase.FAILED
            # The page says what went wrong, and the next client's order is drawn all the same.
            except Exception as error:  # noqa: BLE001
                traceback.print_exc(file=sys.stderr)
                job.error = f"{type(error).__name__}: {first_line(error)}"
                job.phase = Phase.FAILED
            finally:
                job.preview = None
                self._jobs.remove(job)

    def _do(self, job: Job) -> None:
        job.check()
        job.phase = Phase.LOADING
        pipeline = self._pipeline(job.order)
        job.source = pipeline.source

        from sgflux.sampling.arms import arms_for, draw_arms

        order = job.order
        job.arms = arms_for(pipeline, order.graph)
        job.arm, job.phase = job.arms[0], Phase.DRAWING

        def after_step(_: Any, step: int, __: Any, tensors: dict[str, Any]) -> None:
            job.check()
            size = self._size
            (job.preview,) = pipeline.decode(
                tensors["denoised"], height=size.height, width=size.width
            )
            job.step = step + 1

        pictures = draw_arms(
            pipeline,
            order.graph,
            order.prompt,
            seed=order.seed,
            num_inference_steps=order.steps,
            graph_scale=order.graph_scale,
            stochastic_sampling=order.stochastic_sampling,
            open_vocabulary=True,
            **vars(self._size),
            callback_on_step_end=after_step,
            callback_on_step_end_tensor_inputs=["denoised"],
        )
        for number, picture in enumerate(pictures, start=1):
            job.drawn[picture.arm] = self._judged(picture, order.graph)
            job.preview, job.step = None, 0
            job.arm = job.arms[number] if number < len(job.arms) else None
        job.phase = Phase.LOOKING
        self._look(job, pipeline)

    def _look(self, job: Job, pipeline: SceneGraphFluxPipeline) -> None:
        from sgflux.sampling.saliency_maps import picture_saliency

        for drawn in job.drawn.values():
            graph = drawn.picture.graph or job.order.graph
            if graph.is_null:
                return
            job.check()
            maps = picture_saliency(
                pipeline,
                drawn.picture.image,
                graph,
                job.order.prompt,
                use_graph=drawn.picture.graph is not None,
                use_adapter=drawn.picture.record["use_adapter"],
                seed=job.order.seed,
                guidance=self._size.guidance,
            )
            drawn.heat = [tuple(map(_small, own)) for own in maps]

    def _pipeline(self, order: Order) -> SceneGraphFluxPipeline:
        """The pipeline of an order; another one than the last is loaded in its place."""
        from sgflux.sampling.pipeline import SceneGraphFluxPipeline
        from sgflux.terminal.quiet import hide_loading_bars

        model_id = order.model_id
        if model_id is None and order.adapter is None:
            model_id = "tiny"  # the only base that is always there
        model = replace(self._model, model_id=model_id)
        adapter: Any = order.adapter
        trained = replace(self._trained, adapter=adapter)
        key = (model, trained, _changed_at(order.adapter))
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # two large models may not fit side by side
            hide_loading_bars(on_a_terminal=True)
            pipeline = SceneGraphFluxPipeline.from_settings(
                model, trained, self._compute, self._memory
            )
            self._loaded = (key, pipeline)
        return self._loaded[1]

    def _judge_called(self, names: str) -> Judge | None:
        from sgflux.evaluation.judges import Means, make_judge

        if names not in self._made:
            means = Means(settings=self._judges, device=self._compute.device)
            self._made[names] = make_judge(names, means)
        return self._made[names]

    def _judged(self, picture: ArmPicture, graph: SceneGraph) -> Drawn:
        """The picture with its statements, and their verdicts or the reason why there are none."""
        import numpy as np

        from sgflux.evaluation.judges.judge import read_pictures

        asked = picture.graph or graph
        statements = list(asked.labelled_triples())
        drawn = Drawn(picture, [(triple, None) for triple in statements])
        if not statements:
            return drawn
        judge = self._judge_called(self._judge or JUDGES.get(picture.record["model"], "none"))
        if judge is None:
            drawn.note = NO_JUDGE
            return drawn
        try:
            judge.check([asked])
            (reading,) = read_pictures(judge, [np.asarray(picture.image)], [statements])
        except SgfluxError as error:
            drawn.note = f"The judge cannot read these pictures: {error.reason}."
            return drawn
        drawn.verdicts = [(triple, reading.verdicts.get(triple)) for triple in statements]
        drawn.present = reading.present
        return drawn


def _small(heat: np.ndarray) -> Image.Image:
    """A heat map of at most 512 pixels, for which a client's history has room."""
    from PIL import Image

    image = Image.fromarray(heat)
    image.thumbnail((_HEAT_SIDE, _HEAT_SIDE))
    return image


def _changed_at(adapter: str | None) -> float | None:
    """When a bundle was written: a training may have replaced it since it was loaded."""
    path = None if adapter is None else Path(adapter) / CONFIG_FILE
    return path.stat().st_mtime if path is not None and path.is_file() else None

"""Drawing the sample graphs with the weights of the moment, and having them judged.

The noise has a seed of its own, so that drawing leaves every random number of the training where it
is.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sgflux.bases.family import Autoencoder, Scheduler, TextEncoders
from sgflux.bases.identity import BaseCheck
from sgflux.data.buckets import Size
from sgflux.data.pictures import contact_sheet, save_picture, tile
from sgflux.errors import SgfluxError
from sgflux.graphs.scene_graph import Triple
from sgflux.models.adapter import GraphLoraModel
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.loading import adapter_fingerprint
from sgflux.training.checkpoints.run_folder import SAMPLES_FOLDER
from sgflux.training.processes.processes import Processes
from sgflux.training.samples.graphs import SampleGraph
from sgflux.training.samples.observer import VERDICTS, Observer

_COLUMNS = 4


@dataclass(frozen=True)
class Watched:
    """The graphs that a run draws, and who judges them.

    Attributes:
        graphs: Graphs in the order of their file.
        observer: Judge, in the main process; None: there is none, or this is another process.
        judged: Places of the graphs that the judge can judge; empty without a judge.
    """

    graphs: Sequence[SampleGraph]
    observer: Observer | None = None
    judged: Sequence[int] = ()


def admit(
    graphs: Sequence[SampleGraph], observer: Observer | None, *, size: Size
) -> tuple[Watched, list[str]]:
    """Ask a judge which graphs it can judge, and have it read a grey picture of each.

    Args:
        graphs: Graphs that are drawn.
        observer: Judge; None: nobody judges.
        size: Height and width of the pictures.

    Returns:
        The graphs with their judge, and what the user should know, a line each.

    Raises:
        SgfluxError: if the judge can judge no graph, or cannot read pictures of this size.
    """
    statements = sum(len(one.graph.relationships) for one in graphs)
    line = f"{len(graphs)} sample graphs with {statements} statements"
    if observer is None:
        return Watched(graphs), [f"{line}, which no judge reads"]
    refusals = [observer.refusal(one.graph) for one in graphs]
    judged = [place for place, why in enumerate(refusals) if why is None]
    grey = np.full((*size, 3), 128, np.uint8)
    read = observer.read([grey] * len(judged), [graphs[place].graph for place in judged])
    covered = sum(map(len, read))
    said = [
        f"{one.where} is drawn but not judged: {why}"
        for one, why in zip(graphs, refusals, strict=True)
        if why is not None
    ]
    if not covered:
        whys = "; ".join(said) or f"it covers none of their {statements} predicates"
        raise SgfluxError(
            f"judge {observer.name!r} can judge none of the sample graphs ({whys}); use judge "
            "'none' to draw them only"
        )
    said.insert(0, f"{line}, of which the judge {observer.name!r} reads {covered}")
    return Watched(graphs, observer, judged), said


@dataclass(frozen=True)
class DrawnGraph:
    """A picture of a sample graph.

    Attributes:
        sample: The graph.
        picture: (H, W, 3) uint8.
        info: Description of how it was drawn, as plain JSON.
        verdicts: Statement -> what the judge says of it; empty if it is not judged.
    """

    sample: SampleGraph
    picture: np.ndarray
    info: Mapping[str, Any]
    verdicts: Mapping[Triple, str]

    @property
    def caption(self) -> str:
        """The graph, and below it the verdicts."""
        if len(self.verdicts) == len(self.sample.graph.relationships) == 1:
            return "\n".join([self.sample.caption, *self.verdicts.values()])
        said = [f"{statement}: {verdict}" for statement, verdict in self.verdicts.items()]
        return "\n".join(said or [self.sample.caption])


@dataclass(frozen=True)
class SampleResult:
    """The pictures of all sample graphs after some step.

    Attributes:
        step: Number of optimizer steps behind the weights.
        drawn: One picture of each graph.
    """

    step: int
    drawn: Sequence[DrawnGraph]

    @property
    def _counts(self) -> Counter[str]:
        return Counter(verdict for one in self.drawn for verdict in one.verdicts.values())

    def figures(self) -> dict[str, float]:
        """Shares of the judged statements by verdict, and their number; empty without any."""
        counts = self._counts
        total = counts.total()
        if not total:
            return {}
        holds, contradicted, not_found = (counts[verdict] / total for verdict in VERDICTS)
        return {
            "obeyed": holds,
            "contradicted": contradicted,
            "not_found": not_found,
            "statements": total,
        }

    @property
    def sheet(self) -> str:
        """Path of the contact sheet below the folder of the run."""
        return sheet_of(self.step)

    def path_of(self, place: int) -> str:
        """Path of a picture below the folder of the run."""
        return f"{SAMPLES_FOLDER}/step{self.step}/{place:03d}.png"

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """Name -> picture, (H, W, 3) uint8."""
        return {f"{n:03d} {one.sample.caption}": one.picture for n, one in enumerate(self.drawn)}

    def row(self) -> dict[str, Any]:
        """The figures, and the verdicts on each picture, as plain JSON."""
        pictures = {
            self.path_of(place): {
                "graph": one.sample.caption,
                "verdicts": {str(statement): said for statement, said in one.verdicts.items()},
            }
            for place, one in enumerate(self.drawn)
        }
        return {**self.figures(), "pictures": pictures}

    def save(self, folder: Path) -> None:
        """Write the pictures and a contact sheet of them into the folder of a run.

        Raises:
            SgfluxError: if a file cannot be written.
        """
        for place, one in enumerate(self.drawn):
            save_picture(folder / self.path_of(place), one.picture, one.info)
        tiles = [tile(one.picture, count=len(self.drawn)) for one in self.drawn]
        captions = [one.caption for one in self.drawn]
        sheet = contact_sheet(tiles, captions, columns=min(len(tiles), _COLUMNS))
        save_picture(folder / self.sheet, sheet, {"step": self.step, "graphs": captions})

    def __str__(self) -> str:
        """One line for a log."""
        counts = self._counts
        if not counts:
            return f"{len(self.drawn)} sample graphs drawn ({self.sheet})"
        said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS[1:])
        return (
            f"sample graphs: {counts[VERDICTS[0]]} of {counts.total()} statements hold, {said} "
            f"({self.sheet})"
        )


def sheet_of(step: int) -> str:
    """Path of the contact sheet of a step, below the folder of the run."""
    return f"{SAMPLES_FOLDER}/step{step}.png"


def remove_later(folder: Path, *, step: int) -> None:
    """Remove the pictures of later steps, which come again, from the folder of a run."""
    for path in (folder / SAMPLES_FOLDER).glob("step*"):
        number = path.stem.removeprefix("step")
        if number.isdecimal() and int(number) > step:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def trained_pipeline(
    model: GraphLoraModel,
    *,
    text_encoders: TextEncoders,
    autoencoder: Autoencoder,
    scheduler: Scheduler,
    model_id: str,
    quantize: str,
) -> SceneGraphFluxPipeline:
    """A pipeline that draws with a model as it is in the middle or at the end of its training.

    Args:
        model: Model whose weights are those to draw with.
        text_encoders: Text encoders.
        autoencoder: Autoencoder.
        scheduler: Noise levels.
        model_id: Name of the base, for the record.
        quantize: Rounding of the base's matrices, for the record.
    """
    return SceneGraphFluxPipeline(
        text_encoders=text_encoders,
        autoencoder=autoencoder,
        scheduler=scheduler,
        transformer=model.flux.transformer,
        model=model,
        model_id=model_id,
        adapter_fingerprint=adapter_fingerprint(model.config, model.adapter_state()),
        base_identity=model.config.base_identity,
        base_check=BaseCheck("same"),
        quantize=quantize,
    )


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Draws the sample graphs with the weights of the moment.

    Attributes:
        watched: Graphs, and who judges them.
        pipeline: Function that makes the pipeline of the moment.
        size: Height and width of the pictures.
        steps: Number of Euler steps.
        seed: Seed of the noise, the same for each graph.
        batch_size: Number of pictures that are drawn at once.
        processes: Processes that share the drawing.
    """

    watched: Watched
    pipeline: Callable[[], SceneGraphFluxPipeline]
    size: Size
    steps: int
    seed: int
    batch_size: int
    processes: Processes

    def draw(self, step: int, *, should_stop: Callable[[], bool]) -> SampleResult | None:
        """Draw all graphs, each process its share, and have the main process judge them.

        Args:
            step: Number of optimizer steps behind the weights.
            should_stop: Function that says whether to stop on the way.

        Returns:
            The same result in every process; None if it was asked to stop on the way.

        Raises:
            SgfluxError: in every process, if the judge cannot read the pictures.
        """
        graphs, count = self.watched.graphs, self.processes.count
        # All draw equally many: processes that share the base must call it equally often.
        places = range(self.processes.index, -(-len(graphs) // count) * count, count)
        pipeline = self.pipeline()
        settings: dict[str, Any] = {
            "steps": self.steps,
            "height": self.size[0],
            "width": self.size[1],
        }
        found: list[tuple[int, np.ndarray]] = []
        for start in range(0, len(places), self.batch_size):
            if should_stop():
                return None
            chunk = [place % len(graphs) for place in places[start : start + self.batch_size]]
            drawn = pipeline.sample_batch(
                [graphs[place].graph for place in chunk],
                [graphs[place].prompt for place in chunk],
                [self.seed] * len(chunk),
                **settings,
            )
            found += zip(chunk, drawn, strict=True)
        picture_of = dict(self.processes.gather(found))
        pictures = [picture_of[place] for place in range(len(graphs))]
        result = []
        for sample, picture, said in zip(graphs, pictures, self._judge(pictures), strict=True):
            info = pipeline.record(
                graph=sample.graph, prompt=sample.prompt, seed=self.seed, **settings
            )
            verdicts = {str(statement): verdict for statement, verdict in said.items()}
            info |= {"training_step": step, "verdicts": verdicts}
            result.append(DrawnGraph(sample, picture, info, said))
        return SampleResult(step, result)

    def _judge(self, pictures: Sequence[np.ndarray]) -> list[Mapping[Triple, str]]:
        """The verdicts on each picture, in every process."""
        judged, observer, graphs = self.watched.judged, self.watched.observer, self.watched.graphs
        problems: list[str] = []
        verdicts: list[Mapping[Triple, str]] = []
        if observer is not None:
            try:
                verdicts = observer.read(
                    [pictures[place] for place in judged], [graphs[place].graph for place in judged]
                )
            except SgfluxError as error:
                problems.append(str(error))
        problems = self.processes.gather(problems)
        if problems:
            raise SgfluxError(f"judge of the sample graphs: {problems[0]}")
        said = dict(self.processes.gather(list(zip(judged, verdicts, strict=True))))
        return [said.get(place, {}) for place in range(len(pictures))]

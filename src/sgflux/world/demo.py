"""``sgflux demo``: the whole way on the bundled world, with the functions that the commands call.

    data        write_world      -> {out_dir}/data
    training    train            -> {out_dir}/training
    evaluation  evaluate         -> {out_dir}/evaluation
    hard        write_world, evaluate: graphs of three statements by the bundled adapter, in the
                                 short demo -> {out_dir}/hard_data, {out_dir}/hard
    report      write_report     -> {out_dir}/evaluation/report.html, {out_dir}/hard/report.html

A demo that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from rich.console import Console
from rich.text import Text

import sgflux
from sgflux.errors import SgfluxError
from sgflux.evaluation.evaluator import evaluate
from sgflux.evaluation.report.data import read_results
from sgflux.evaluation.report.headline import HeadlineRow, cut_notes, kind_rows, print_headline
from sgflux.evaluation.report.page import REPORT, Section, write_report
from sgflux.files.folder_lock import hold_folder, is_empty_folder
from sgflux.files.json_files import read_json
from sgflux.files.reading import table_beside
from sgflux.files.writing import make_folder, replace_file
from sgflux.models.bundle_folder import BUNDLED_ADAPTER, find_bundle
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.files import shipped_configs
from sgflux.training.log.run_log import METRICS_FILE, duration
from sgflux.training.run.train import train_by_settings
from sgflux.world.dataset import write_world

RECORD = "demo.json"
"""What a demo's folder is, and which stages are finished."""


Stage = Literal["data", "training", "second_training", "evaluation", "hard"]


class DemoRecord(msgspec.Struct):
    """The content of :data:`RECORD`.

    Attributes:
        preset: name of the demo.
        recipe: fingerprint of everything that its results follow from.
        seconds: finished stage -> how long it took.
    """

    preset: str
    recipe: str
    seconds: dict[Stage, Annotated[float, msgspec.Meta(ge=0, le=1e9)]]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """What a demo does.

    Attributes:
        name: Name of the preset, and of its folder.
        purpose: one sentence for the screen and the report.
        world: settings of :func:`sgflux.world.dataset.write_world`.
        training: settings of :class:`sgflux.settings.training.TrainConfig`.
        evaluation: settings of :class:`sgflux.settings.evaluation.EvalConfig`.
        second_training: Settings of a second training, which starts from the first one's adapter,
            where they differ from the first one's; None: there is none.
        hard: ``world`` and ``evaluation`` of the hard graphs that the bundled adapter draws; None:
            it draws none.
    """

    name: str
    purpose: str
    world: Mapping[str, Any]
    training: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    second_training: Mapping[str, Any] | None = None
    hard: Mapping[str, Mapping[str, Any]] | None = None

    @property
    def recipe(self) -> str:
        """A fingerprint of everything that the demo's results follow from."""
        parts = [sgflux.__version__, self.world, self.training, self.evaluation]
        parts += [part for part in (self.second_training, self.hard) if part is not None]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


_TABLE = table_beside(__file__)

DEMO = Preset(**_TABLE["demo"], hard=_TABLE["hard"])

FULL = Preset(
    **_TABLE["full"],
    training=tomllib.loads(shipped_configs()["tiny_hard_graphs"].read_text(encoding="utf-8")),
)


def controlled(preset: Preset) -> Preset:
    """Return the built-in negative control: the preset with text that states the relation."""
    text = {"prompt_mix": {"neutral": 0.0, "relational": 1.0}}
    again = preset.second_training
    return replace(
        preset,
        hard=None,  # the bundled adapter would draw the same pictures again
        name=f"{preset.name}-control",
        purpose="The negative control: trained with text that already states the relation, the "
        "adapter has no reason to read its graph, and its figures should show that it does not.",
        training={**preset.training, **text},
        second_training=None if again is None else {**again, **text},
    )


def choose_preset(*, full: bool, control: bool) -> Preset:
    """Return the preset that the flags of ``sgflux demo`` ask for."""
    preset = FULL if full else DEMO
    return controlled(preset) if control else preset


def run_demo(preset: Preset, *, out_dir: Path, console: Console | None = None) -> int:
    """Run a demo, or the rest of it.

    Args:
        preset: Settings of the demo.
        out_dir: a new or empty folder, or one in which the same demo was begun.
        console: Console to print on.

    Returns:
        0, or :attr:`sgflux.training.run.train.TrainResult.exit_status` of an interruption.

    Raises:
        SgfluxError: if the folder holds anything else, or as the stages do.
    """
    console = console or Console(highlight=False)
    with hold_folder(out_dir, command="sgflux demo"):
        return _run(preset, out_dir=out_dir, console=console)


def _run(preset: Preset, *, out_dir: Path, console: Console) -> int:
    if preset.hard is not None:
        find_bundle(BUNDLED_ADAPTER, allow_download=False)  # refused now, not after the training
    progress = Progress.open(out_dir, preset, console)
    data, first, evaluation = (out_dir / name for name in ("data", "training", "evaluation"))
    training = first if preset.second_training is None else out_dir / "second_training"
    hard_data, hard = out_dir / "hard_data", out_dir / "hard"
    console.print(f"[bold]sgflux demo[/bold]  {preset.purpose}")

    def write_data() -> int:
        if not data.exists():  # it comes into being complete
            write_world(data, progress=sys.stderr.isatty(), **preset.world)
        return 0

    def train_adapter(folder: Path, **changes: Any) -> int:
        result = train_by_settings(
            train_jsonl=data / "train.jsonl",
            val_jsonl=data / "validation.jsonl",
            output_dir=folder,
            resume="auto",
            **{**preset.training, **changes},
        )
        return result.exit_status

    def evaluate_adapter() -> int:
        config = EvalConfig.from_flat(
            data=data / "test.jsonl",
            output_dir=evaluation,
            adapter=training / "final",
            **preset.evaluation,
        )
        evaluate(config, show_progress=sys.stderr.isatty())
        return 0

    def draw_hard_graphs(settings: Mapping[str, Mapping[str, Any]]) -> int:
        if not hard_data.exists():
            write_world(hard_data, progress=sys.stderr.isatty(), **settings["world"])
        config = EvalConfig.from_flat(
            data=hard_data / "test.jsonl",
            output_dir=hard,
            adapter=Path(BUNDLED_ADAPTER),
            **settings["evaluation"],
        )
        evaluate(config, show_progress=sys.stderr.isatty())
        return 0

    stages: list[tuple[Stage, str, Callable[[], int]]] = [
        ("data", "Write pictures of the bundled world, with known relations", write_data),
        ("training", "Train a scene-graph adapter for tiny-flux", partial(train_adapter, first)),
    ]
    if preset.second_training is not None:
        again = partial(
            train_adapter, training, init_from=str(first / "final"), **preset.second_training
        )
        stages.append(("second_training", "Train the adapter further", again))
    stages.append(("evaluation", "Draw and judge every arm from the same noise", evaluate_adapter))
    if preset.hard is not None:
        title = "Draw three statements and twins with the bundled adapter"
        stages.append(("hard", title, partial(draw_hard_graphs, preset.hard)))
    for number, (name, what, work) in enumerate(stages, start=1):
        status = progress.stage(name, f"{number}/{len(stages)}  {what}", work)
        if status:
            console.print("Interrupted; the same command goes on from here.")
            return status
    sections = [_about(preset, progress.seconds)]
    rows: list[HeadlineRow] = []
    if preset.hard is not None:
        results = read_results(hard)
        rows = kind_rows(results, group=_HARD_TITLE)
        sections.insert(0, _hard_section(results, rows))
        write_report(hard, title=_HARD_TITLE)
    report = write_report(evaluation, metrics=training / METRICS_FILE, extra_sections=sections)
    console.print()
    print_headline(read_results(evaluation), further=rows, console=console)
    # As text: a folder may be called "[bold]" or ":smile:", which rich would take for its own.
    console.print(Text.assemble(("\nReport", "bold"), f"   {report}"), soft_wrap=True)
    go_on = (
        f"    sgflux sample --adapter {shlex.quote(str(training / 'final'))} --model-id tiny "
        '--steps 8 --graph "man, riding, horse"'
    )
    console.print(Text.assemble(("Go on", "bold"), go_on), soft_wrap=True)
    return 0


_HARD_TITLE = "Three statements, drawn by the bundled adapter"
_HARD_TEXT = (
    "These graphs have three statements, and half of them have twins: objects of one name, which "
    "only the graph tells apart. They are drawn by the adapter that comes with sgflux, and a "
    "picture counts as right if it shows all statements."
)


def _hard_section(results: Mapping[str, Any], rows: Sequence[HeadlineRow]) -> Section:
    text = " ".join([_HARD_TEXT, *cut_notes(results)])
    link = ("The report of these pictures", f"../hard/{REPORT}")
    return Section(_HARD_TITLE, text, rows=rows, link=link)


def _about(preset: Preset, seconds: Mapping[Stage, float]) -> Section:
    times = ", ".join(f"{name} {duration(spent)}" for name, spent in seconds.items())
    settings = {"world": dict(preset.world), "training": dict(preset.training)}
    if preset.second_training is not None:
        settings["second_training"] = dict(preset.second_training)
    text = f"{preset.purpose} Preset {preset.name}; time: {times}."
    return Section("About this run", text, code=json.dumps(settings))


class Progress:
    """Which stages of a demo are finished, on disk and on the screen."""

    def __init__(self, out_dir: Path, record: DemoRecord, console: Console) -> None:
        """Keep the parts; see :meth:`open`."""
        self._path = out_dir / RECORD
        self._record = record
        self._console = console

    @classmethod
    def open(cls, out_dir: Path, preset: Preset, console: Console) -> Progress:
        """Begin or continue the demo in a folder.

        Raises:
            SgfluxError: if the folder holds something else than the same demo.
        """
        path = out_dir / RECORD
        if not path.is_file():
            if out_dir.exists() and not is_empty_folder(out_dir):
                raise SgfluxError(
                    f"{out_dir} is in use and holds no demo; give another --output-dir"
                )
            make_folder(out_dir)
            progress = cls(out_dir, DemoRecord(preset.name, preset.recipe, {}), console)
            progress._save()
            return progress
        found = read_json(path, DemoRecord, way_out="give another --output-dir")
        if found.preset != preset.name:
            raise SgfluxError(
                f"{out_dir} holds the demo {found.preset!r}, not {preset.name!r}; give another "
                "--output-dir, or the flags of that demo"
            )
        if found.recipe != preset.recipe:
            raise SgfluxError(
                f"{out_dir} holds a demo of another version or recipe of sgflux "
                f"({found.recipe}, now {preset.recipe}); give another --output-dir, or delete it"
            )
        return cls(out_dir, found, console)

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """Finished stages and how long each took, interruptions left out."""
        return self._record.seconds

    def stage(self, name: Stage, title: str, work: Callable[[], int]) -> int:
        """Do a stage unless it is finished; returns what ``work`` returns, 0 for done."""
        self._console.print(f"\n[bold]{title}[/bold]")
        if name in self.seconds:
            took = duration(self.seconds[name])
            self._console.print(f"there already (it took {took})", style="dim")
            return 0
        started = time.monotonic()
        status = work()
        seconds = time.monotonic() - started
        if not status:
            self._record.seconds[name] = round(seconds, 1)
            self._save()
        self._console.print(
            f"{'stopped after' if status else 'done in'} {duration(seconds)}", style="dim"
        )
        return status

    def _save(self) -> None:
        record = msgspec.structs.asdict(self._record)
        replace_file(self._path, json.dumps(record, indent=2) + "\n")

"""Publishing of an adapter: its bundle, a card with judged figures, a diffusers pipeline.

<bundle's files>   weights and settings, as sgflux and the base's diffusers pipeline read them
README.md          the model card, with the figures of an evaluation where one is given
pipeline.py        DiffusionPipeline.from_pretrained(base, custom_pipeline=...) draws graphs
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard

from sgflux.bases.name import BaseName
from sgflux.caveats import caveats
from sgflux.errors import SgfluxError, located
from sgflux.files.leftovers import replace_folder
from sgflux.files.reading import naming_unreadable, read_json_object
from sgflux.files.templates import render
from sgflux.files.writing import unfinished_folder
from sgflux.models.bundle import (
    CARD_FILE,
    check_reducible,
    is_rounded_by_half,
    load_bundle,
    read_config,
    recommend_drawing,
    reduce_rank,
    store_in_half,
)
from sgflux.models.bundle_folder import expect_place, read_base, read_drawing
from sgflux.models.card_data import card_data
from sgflux.models.card_text import with_reduction, without_section
from sgflux.models.hub import push_to_hub
from sgflux.sampling.loading import adapter_fingerprint
from sgflux.settings.drawing import NOTHING_RECOMMENDED, RecommendedDrawing

PIPELINE_FILE = "pipeline.py"
_ASSETS = Path(__file__).parent / "assets"
_RESULTS_FILE = "evaluation_results.json"

_ARMS = (
    ("graph", "true graph"),
    ("negative_graph", "negative graph, which is not true of the picture"),
    ("null_graph", "adapter without a graph"),
    ("base_relational", "base told the relation in words"),
    ("base_neutral", "base told the objects alone"),
)
"""Arms of an evaluation in the order of the card, and what they are called there."""

_DRAWING = ("steps", "graph_scale", "stochastic_sampling")
"""Settings that an adapter may recommend, in the order of :meth:`RecommendedDrawing.chosen`."""


@dataclass(frozen=True, kw_only=True)
class Publication:
    """An adapter that was read and checked, as it is to be published.

    Attributes:
        adapter: Folder of the bundle.
        card: Text of the model card.
        lost_figures: Whether judged figures of the card were left out, since they are of the
            weights before they are rounded or reduced.
        drawn_otherwise: Drawing of the card's judged pictures in words, where the adapter is drawn
            otherwise by default; else empty.
        pipeline: Text of pipeline.py.
        half: Whether the weights are rounded to float16.
        rank: Rank to which the LoRA is reduced; None: it keeps its own.
        drawing: Recommended drawing; what is None stays as the adapter has it.
    """

    adapter: Path
    card: str
    lost_figures: bool
    drawn_otherwise: str
    pipeline: str
    half: bool
    rank: int | None
    drawing: RecommendedDrawing

    def write(self, folder: Path) -> None:
        """Write the folder that is published, all of it or nothing.

        Args:
            folder: Folder that is new, empty, or an older adapter, which is replaced.

        Raises:
            SgfluxError: if the folder holds something else, or the adapter is damaged.
        """
        expect_place(folder)
        target = folder.resolve()  # where a link leads
        with unfinished_folder(target) as temporary:
            hidden = shutil.ignore_patterns(".*")
            shutil.copytree(self.adapter, temporary, ignore=hidden, dirs_exist_ok=True)
            (temporary / CARD_FILE).write_text(self.card, encoding="utf-8")
            (temporary / PIPELINE_FILE).write_text(self.pipeline, encoding="utf-8")
            if self.rank is not None:
                said = reduce_rank(temporary, self.rank)
                card = with_reduction(self.card, self.rank, said)
                (temporary / CARD_FILE).write_text(card, encoding="utf-8")
            if self.half:
                store_in_half(temporary)
            if self.drawing.to_json():
                recommend_drawing(temporary, self.drawing)
            replace_folder(temporary, target)

    def upload(self, repository: str, *, private: bool) -> str:
        """Upload to the hub what :meth:`write` writes.

        Args:
            repository: Repository on the hub (user/name).
            private: Whether the repository is private if it is created.

        Returns:
            The repository's address.

        Raises:
            SgfluxError: as :meth:`write`, or if the hub refuses.
        """
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "adapter"
            self.write(folder)
            return push_to_hub(folder, repository, private=private)


def prepare(
    adapter: Path,
    *,
    repository: str | None,
    evaluation: Path | None,
    licence: str | None,
    half: bool = False,
    rank: int | None = None,
    drawing: RecommendedDrawing = NOTHING_RECOMMENDED,
) -> Publication:
    """Read an adapter and check that it can be published, and write nothing.

    Args:
        adapter: Folder of the bundle.
        repository: Repository on the hub (user/name) as which it is published, where there is one.
        evaluation: Results of ``sgflux eval`` whose figures the card shows, or their folder.
        licence: Licence by the hub's name; None: the card's own.
        half: Whether the weights are rounded to float16.
        rank: Rank to which the LoRA is reduced; None: it keeps its own.
        drawing: Recommended drawing; what is None stays as the adapter has it.

    Raises:
        SgfluxError: if it cannot be published so, or the evaluation is of another adapter.
    """
    card = _read_card(adapter)
    changes = rank is not None or (half and is_rounded_by_half(adapter))
    lost_figures = changes and _drop_figures(card)
    recommended = replace(read_drawing(adapter), **drawing.to_json())
    if evaluation is not None:
        _put_figures(card, adapter, repository, evaluation)
    drawn_otherwise = _drawn_otherwise(card, recommended)
    _complete(card, adapter, repository, licence, recommended, drawn_otherwise)
    config = read_config(adapter)
    if rank is not None:
        check_reducible(adapter, config, rank)
    family = config.family
    if family.published is None:
        raise SgfluxError(
            f"{adapter}: no diffusers pipeline that draws graphs is known for "
            f"{family.pipelines[0]}, so the adapter cannot be published"
        )
    source = (_ASSETS / "published" / family.published).read_text(encoding="utf-8")
    if repository is not None:
        source = source.replace(
            "ADAPTER: str | None = None", f"ADAPTER: str | None = {repository!r}"
        )
    return Publication(
        adapter=adapter,
        card=f"---\n{card.data.to_yaml()}\n---\n{card.text}",
        lost_figures=lost_figures,
        drawn_otherwise=drawn_otherwise,
        pipeline=source,
        half=half,
        rank=rank,
        drawing=drawing,
    )


def _read_card(adapter: Path) -> Any:
    path = adapter / CARD_FILE
    with naming_unreadable(path, ValueError):
        return ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)


def _drop_figures(card: Any) -> bool:
    """Take the judged figures out of a card; returns whether there were any."""
    text = without_section(card.text, "Judged pictures")
    had_figures = text != card.text or card.data.get("eval_results") is not None
    card.text, card.data.eval_results, card.data.model_name = text, None, None
    return had_figures


def _complete(
    card: Any,
    adapter: Path,
    repository: str | None,
    licence: str | None,
    recommended: RecommendedDrawing,
    drawn_otherwise: str,
) -> None:
    """Put into a card what the hub shows, and how diffusers draws."""
    base = read_base(adapter) or BaseName(name="", model_id=None)
    for name, value in card_data(base).to_dict().items():
        if card.data.get(name) is None:  # cards of earlier versions have less
            setattr(card.data, name, value)
    if licence is not None:
        for name in ("license_name", "license_link"):
            card.data.pop(name)
        card.data.license = licence
    in_diffusers = render(
        _ASSETS / "cards" / "in_diffusers.md.jinja",
        base=repr(card.data.get("base_model") or "the base model"),
        where=repr(repository or "."),
        is_on_the_hub=repository is not None,
        has_steps=recommended.steps is not None,
        recommended=_in_words(recommended.to_json()),
        drawn_otherwise=drawn_otherwise,
    )
    card.text = f"{without_section(card.text, 'In diffusers').rstrip()}\n\n{in_diffusers}"


def _put_figures(card: Any, adapter: Path, repository: str | None, evaluation: Path) -> None:
    """Put the figures of an evaluation into a card, in place of others."""
    results = _results_of(evaluation, adapter)
    _drop_figures(card)
    card.data.model_name = (repository or adapter.resolve().name).rpartition("/")[2]
    card.data.eval_results = list(eval_results(results))
    card.text = f"{card.text.rstrip()}\n\n{judged(results)}"


def _drawing_of(settings: object) -> dict[str, Any]:
    """How pictures were drawn, as far as an evaluation's settings or a card say it."""
    if not isinstance(settings, Mapping):
        return {}
    found = {name: settings.get(name) for name in _DRAWING}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _in_words(drawing: Mapping[str, Any]) -> str:
    """A drawing like "8 steps, graph scale 1, stochastic sampling"."""
    steps, scale, stochastic = (drawing.get(name) for name in _DRAWING)
    parts = [] if steps is None else ["1 step" if steps == 1 else f"{steps} steps"]
    parts += [] if scale is None else [f"graph scale {scale:g}"]
    if stochastic is not None:
        parts.append("stochastic sampling" if stochastic else "no stochastic sampling")
    return ", ".join(parts)


def _drawn_otherwise(card: Any, recommended: RecommendedDrawing) -> str:
    """How a card's judged pictures were drawn, if not as the adapter is by default; else empty."""
    figures = card.data.get("eval_results") or [None]
    drawn = _drawing_of((getattr(figures[0], "metric_args", None) or {}).get("drawing"))
    now = dict(zip(_DRAWING, recommended.chosen(), strict=True))
    is_other = any(value != now[name] for name, value in drawn.items())
    return _in_words(drawn) if is_other else ""


def _results_of(path: Path, adapter: Path) -> Mapping[str, Any]:
    """Read an evaluation's figures, and check that they are of this adapter."""
    file = path / _RESULTS_FILE if path.is_dir() else path
    with located("evaluation"):
        results = read_json_object(file)
    try:
        measured = results["adapter"]["fingerprint"]
        _ = results["judge"], results["arms"], results["data"]["path"], caveats(results)
        _ = list(_drawn_in_words(results))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SgfluxError(f"evaluation {file}: is no result of sgflux eval: {error!r}") from error
    own = adapter_fingerprint(*load_bundle(adapter))
    if measured != own:
        raise SgfluxError(
            f"evaluation {file}: is of another adapter ({str(measured)[:12]}) than {adapter} "
            f"({own[:12]}); evaluate this one"
        )
    if not any(_accuracy(results, arm) for arm, _ in _ARMS):
        raise SgfluxError(
            f"evaluation {file}: nobody judged its pictures (--judge none), so that there is no "
            "accuracy to publish"
        )
    return results


def _accuracy(results: Mapping[str, Any], arm: str) -> Mapping[str, Any] | None:
    found = (results["arms"].get(arm) or {}).get("relation_accuracy") or {}
    return found if found.get("macro") is not None else None


def eval_results(results: Mapping[str, Any]) -> list[EvalResult]:
    """An evaluation's figures as the hub shows them."""
    judge = results["judge"]
    about: dict[str, Any] = {
        "task_type": "text-to-image",
        "task_name": "Relations of a scene graph",
        "dataset_type": "scene-graphs",
        "dataset_name": Path(str(results["data"]["path"])).name,
    }
    args = {"judge": judge.get("name"), "judge_accuracy": judge.get("accuracy")}
    if notes := caveats(results):
        args["caveats"] = notes
    if drawing := _drawing_of(results.get("settings")):
        args["drawing"] = drawing

    def figure(kind: str, name: str, measured: Mapping[str, Any], key: str) -> EvalResult:
        return EvalResult(
            **about,
            metric_type=kind,
            metric_name=name,
            metric_value=round(100 * measured[key], 1),
            metric_args={**args, "ci95": _percent(measured["ci95"]), "n": measured["n"]},
        )

    found = [
        figure("accuracy", f"Relation accuracy, {name}", accuracy, "macro")
        for arm, name in _ARMS
        if (accuracy := _accuracy(results, arm)) is not None
    ]
    wins = results.get("win_rate") or {}
    if wins.get("value") is not None:
        found.append(figure("win_rate", "Win rate, roles swapped", wins, "value"))
    return found


def judged(results: Mapping[str, Any]) -> str:
    """Write the card's section with the judged figures."""
    wins = results.get("win_rate") or {}
    return render(
        _ASSETS / "cards" / "judged.md.jinja",
        notes=caveats(results),
        judge={"name": None, "accuracy": None, "ci95": None, **results["judge"]},
        data=Path(str(results["data"]["path"])).name,
        drawn=", ".join(filter(None, _drawn_in_words(results))),
        arms=[(name, found) for arm, name in _ARMS if (found := _accuracy(results, arm))],
        wins=wins if wins.get("value") is not None else None,
        share=_with_interval,
    )


def _drawn_in_words(results: Mapping[str, Any]) -> Iterator[str]:
    """What must be given to draw the pictures again: steps, graph, noise, size and guidance."""
    settings = results.get("settings") or {}
    yield _in_words(_drawing_of(settings))
    if settings.get("width") and settings.get("height"):
        yield f"{settings['width']} x {settings['height']} pixels"
    if settings.get("guidance") is not None:
        yield f"guidance {settings['guidance']}"
    if settings.get("seed") is not None:
        yield f"seed {settings['seed']}"


def _percent(interval: Any) -> list[float] | None:
    return None if interval is None else [round(100 * end, 1) for end in interval]


def _with_interval(value: float | None, interval: Any) -> str:
    if value is None:
        return "an unknown share"
    ends = _percent(interval)
    shown = f"{100 * value:.1f} %"
    return shown if ends is None else f"{shown} ({ends[0]:.1f} to {ends[1]:.1f})"

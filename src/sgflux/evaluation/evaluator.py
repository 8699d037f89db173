"""``sgflux eval``: draw the arms, judge them, and write figures that state their controls.

pictures/{arm}/{row}-{repeat}.png   every picture, with how it was made inside
results.jsonl                       one line a picture: what it is, what the judge said
evaluation_results.json             the figures, with their intervals
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import chain, islice
from pathlib import Path
from typing import Any

import sgflux
from sgflux.data.examples import Digest, SceneExample, read_examples
from sgflux.data.expressible import keep_expressible
from sgflux.data.progress import progress_bar
from sgflux.data.repairs import repairs
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import (
    ALL_ARMS,
    Arm,
    EvaluationItem,
    PictureRequest,
    batches,
    choose_rows,
    make_items,
    plan_pictures,
)
from sgflux.evaluation.calibration import judge_figures
from sgflux.evaluation.cut_prompts import prompts_cut
from sgflux.evaluation.drawing import DrawingCount, draw_arm, judge_arm, sweep_pictures
from sgflux.evaluation.generators import Generator, ModelGenerator
from sgflux.evaluation.judges import Means, make_judge
from sgflux.evaluation.judges.judge import Judge
from sgflux.evaluation.known.file import read_calibration
from sgflux.evaluation.overlap import check_overlap
from sgflux.evaluation.precheck import check_graphs
from sgflux.evaluation.quality import (
    load_features,
    load_lpips,
    quality_figures,
    quality_lines,
)
from sgflux.evaluation.ranking import NOT_MEASURED, measure_errors, ranking_summary
from sgflux.evaluation.real_pictures import RealPictures, any_picture
from sgflux.evaluation.records import calibration_lines, coverage_line, judge_line, write_lines
from sgflux.evaluation.scoring import comparisons, coverage, sensitivity, summary
from sgflux.files.folder_lock import hold_folder
from sgflux.files.writing import make_folder, replace_file
from sgflux.flow_matching import sigma_grid
from sgflux.graphs.predicates import CGIP_PREDICATES, vocabulary_of
from sgflux.models.bundle import read_config
from sgflux.models.cgip_vocabulary import CGIPVocabulary
from sgflux.preflight.data import check_pictures
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.companions import ALONE, Companions
from sgflux.settings.drawing import SizeSettings
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.flat import as_json, flat_values
from sgflux.settings.shared import Crop
from sgflux.versions import installed_versions
from sgflux.world.generators import WorldGenerator

RESULTS, PICTURE_RESULTS = "evaluation_results.json", "results.jsonl"
_PACKAGES = ("torch", "diffusers", "transformers", "peft", "numpy")


def evaluate(
    config: EvalConfig,
    *,
    generator: Generator | None = None,
    judge: Judge | None = None,
    command: str | Sequence[str] | None = None,
    companions: Companions = ALONE,
    show_progress: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run an evaluation, or finish one that was interrupted.

    Args:
        config: Settings of the evaluation.
        generator: draws the pictures instead of what the config names.
        judge: reads them instead of what the config names.
        command: Command line for the record, as text or word by word; None: that of this
            process.
        companions: Processes that share the drawing and the measurement of errors. The first one
            does everything else, and holds the folder.
        show_progress: show bars on stderr.
        say: gets lines for the user.

    Returns:
        What is written to ``evaluation_results.json``; nothing in a process that is not the first.

    Raises:
        SgfluxError: on bad data, or anything that would leave an item out.
    """
    is_first = companions.index == 0
    if judge is None and is_first:
        means = Means(settings=config.judges, device=config.compute.device)
        judge = make_judge(config.judge, means)
    features = lpips = None
    if config.quality.quality_features is not None and is_first:
        features = load_features(config.quality.quality_features, config.compute.device)
    if config.quality.lpips is not None and is_first:
        lpips = load_lpips(config.quality.lpips, config.compute.device)
    holding = hold_folder(config.output_dir, command="sgflux eval") if is_first else nullcontext()
    with holding:
        started = time.time()
        adapter, size, batch_size = config.trained.adapter, config.size, config.drawing.batch_size
        if generator is None and config.generator == "model" and adapter is None:
            _expect_no_adapter_needed(config.arms)
        digest = hashlib.sha256()
        examples, left_out = _read_data(
            config.data, vocabulary=config.vocabulary, adapter=adapter, digest=digest, say=say
        )
        images_dir = config.data.parent if config.images_dir is None else config.images_dir
        items = make_items(
            examples,
            choose_rows(examples, config.items),
            seed=config.seed,
            predicates=None if left_out is None else CGIP_PREDICATES,
            vocabulary=vocabulary_of(config.vocabulary),
        )
        # All is planned before anything is drawn: an item that lacks something stops it here.
        plan = {
            Arm(name): plan_pictures(
                items, Arm(name), seeds_per_item=config.seeds_per_item, seed=config.seed
            )
            for name in config.arms
        }
        has_pictures = any_picture(examples, images_dir)
        if not has_pictures:
            say(
                f"{config.data.name}: none of its pictures is in {str(images_dir)!r}: its graphs "
                "are evaluated alone, so a judge is not calibrated on them and there is no ranking "
                "accuracy"
            )
        elif generator is None and adapter is not None and config.ranking_sigmas:
            looked_at = check_pictures(
                config.data,
                [item.example for item in items],
                images_dir=images_dir,
                crop=config.crop,
                # A box is outside a picture or not, whatever the size of the result.
                height=size.height or 1024,
                width=size.width or 1024,
                progress=show_progress,
            )
            if "squashed" in looked_at:
                say(looked_at)
        pictures = RealPictures(images_dir) if has_pictures else None
        seen = check_overlap(
            adapter if generator is None else None,
            examples,
            pictures,
            data=config.data,
            allowed=config.allow_seen_data,
        )
        if seen["text"] is not None:
            say(f"{config.data.name}: {seen['text']}")
        of_judge: dict[str, Any] = {}
        calibration: dict[str, Any] | None = None
        if is_first:
            calibration = _read_calibration(config.calibration, judge)
            of_judge = judge_figures(
                judge, examples, items, pictures, seed=config.seed, show_progress=show_progress
            )
            say(judge_line(of_judge))
            for sentence in calibration_lines(calibration):
                say(sentence)
            if (line := coverage_line(of_judge)) is not None:
                say(line)
        pipeline = None
        if generator is None and config.generator == "model":
            pipeline = SceneGraphFluxPipeline.from_settings(
                config.model, config.trained, config.compute, config.memory
            )
            generator = ModelGenerator(
                pipeline,
                steps=config.drawing.steps,
                graph_scale=config.drawing.graph_scale,
                guidance=size.guidance,
                height=size.height,
                width=size.width,
            )
            requests = [request for planned in plan.values() for request in planned]
            check_graphs(pipeline, items, requests, data=config.data)
        elif generator is None:
            generator = WorldGenerator(config.generator, resolution=size.height or 64)
        count, seconds = _draw(
            plan,
            generator,
            out_dir=config.output_dir,
            batch_size=batch_size,
            companions=companions,
            show_progress=show_progress,
        )
        again = f", {count.replaced} that were made differently drawn again"
        say(
            f"pictures: {count.drawn} drawn, {count.reused} kept{again if count.replaced else ''} "
            f"({seconds:.0f} s)"
        )
        ranking = _rank(
            pipeline,
            items,
            pictures,
            levels=config.ranking_sigmas,
            size=size,
            crop=config.crop,
            seed=config.seed,
            batch_size=batch_size,
            companions=companions,
            show_progress=show_progress,
        )
        if not is_first:
            return {}
        # What is judged is what is on the disk, whoever drew it.
        total, shown = sum(map(len, plan.values())), show_progress and judge is not None
        with progress_bar(total, "verdicts", show=shown) as advance:
            judged = {
                arm: judge_arm(
                    judge,
                    generator,
                    requests,
                    out_dir=config.output_dir,
                    batch_size=128,
                    advance=advance,
                )
                for arm, requests in plan.items()
            }
        predicates = Counter(item.example.triple.predicate for item in items)
        found = summary(judged, out_dir=config.output_dir, judge=of_judge["name"])
        if lpips is not None:
            found["graph_sensitivity"][f"lpips_{config.quality.lpips}"] = sensitivity(
                judged, out_dir=config.output_dir, distance=lpips
            )
        quality = None
        if features is not None:
            quality = quality_figures(judged, features, out_dir=config.output_dir)
            for line in quality_lines(quality):
                say(line)
        figures = {
            "judge": {**of_judge, "coverage": coverage(found["arms"])},
            "calibration": calibration,
            **found,
            "quality": quality,
            "quality_features": None
            if features is None
            else {"name": features.name, "sha256": features.sha256},
            "ranking_accuracy": ranking,
            "items": {
                "rows": len(items),
                "of": len(examples),
                "left_out": left_out,
                "held_out_combination": sum(item.held_out is True for item in items),
                "by_predicate": dict(sorted(predicates.items())),
                "seeds_per_item": config.seeds_per_item,
            },
            "prompts_cut": prompts_cut(pipeline, plan),
            "generator": generator.name,
            "adapter": {
                "path": None if adapter is None else str(adapter),
                "fingerprint": None if pipeline is None else pipeline.adapter_fingerprint,
            },
            "model": {
                "model_id": None if pipeline is None else pipeline.model_id,
                "fingerprint": None if pipeline is None else pipeline.model_fingerprint,
                **({} if pipeline is None else pipeline.base_record()),
            },
            "data": {
                "path": str(config.data),
                "sha256": digest.hexdigest(),
                "pictures_sha256": None if pictures is None else pictures.summary(),
                "overlap": seen,
            },
            "seeds": {
                "seed": config.seed,
                "noise": "of (seed, row, repeat) alone, the same in every arm",
            },
            "settings": as_json(flat_values(config)),
            "command": command if isinstance(command, str) else shlex.join(command or sys.argv),
            "versions": {
                "sgflux": sgflux.__version__,
                "python": platform.python_version(),
                **installed_versions(_PACKAGES),
            },
            "timing": {
                "seconds": round(time.time() - started, 1),
                "drawing_seconds": round(seconds, 1),
                **count._asdict(),
            },
            "comparisons": comparisons(judged),
            "picture_results": write_lines(config.output_dir / PICTURE_RESULTS, judged),
        }
        text = json.dumps(figures, indent=2, allow_nan=False)
        replace_file(config.output_dir / RESULTS, text + "\n")
        return figures


# --- steps --------------------------------------------------------------------------------------


def _read_data(
    data: Path,
    *,
    vocabulary: Path | None,
    adapter: Path | None,
    digest: Digest,
    say: Callable[[str], None],
) -> tuple[list[SceneExample], dict[str, dict[str, int]] | None]:
    """Read the examples that the adapter can read; return what its encoder lacks, too."""
    examples = read_examples(
        data, vocabulary=vocabulary_of(vocabulary), open_vocabulary=True, digest=digest
    )
    if (line := repairs(examples)) is not None:
        say(f"{data.name}: {line}")
    encoder = {} if adapter is None else read_config(adapter).encoder
    if encoder.get("kind") != "cgip":
        return examples, None
    words = CGIPVocabulary(
        objects=encoder["objects"],
        predicates=encoder["predicates"],
        synonyms=encoder["synonyms"],
    )
    kept = keep_expressible(
        examples,
        predicates=words.canonical_predicates,
        knows_object=words.knows_object,
    )
    for line in kept.lines():
        say(f"{data.name}: {line}")
    if not kept.examples:
        raise SgfluxError(
            f"{data}: the adapter's cgip graph encoder can read none of its {kept.of} examples"
        )
    return kept.examples, kept.to_json()


def _expect_no_adapter_needed(arms: Sequence[str]) -> None:
    adapted = [name for name in arms if Arm(name).uses_adapter]
    if adapted:
        raise SgfluxError(
            f"the arms {adapted} need an adapter: give adapter, or only the arms "
            f"{[str(arm) for arm in ALL_ARMS if not arm.uses_adapter]}"
        )


def _read_calibration(path: Path | None, judge: Judge | None) -> dict[str, Any] | None:
    if path is None:
        return None
    if judge is None:
        raise SgfluxError("calibration has no effect with judge 'none'; leave it out")
    return read_calibration(path, judge.identity)


def _draw(
    plan: dict[Arm, list[PictureRequest]],
    generator: Generator,
    *,
    out_dir: Path,
    batch_size: int,
    companions: Companions,
    show_progress: bool,
) -> tuple[DrawingCount, float]:
    """Draw what is missing of every arm; return what all processes drew, and the seconds of it."""
    make_folder(out_dir)
    if companions.index == 0:
        sweep_pictures(out_dir)
    companions.wait()  # nobody draws what is being swept
    # The batches are those of one process.
    shares = [
        list(chain(*islice(batches(own, batch_size), companions.index, None, companions.count)))
        for own in plan.values()
    ]
    counts = [DrawingCount()]
    started = time.time()
    with progress_bar(sum(map(len, shares)), "pictures", show=show_progress) as advance:
        for requests in shares:
            counts.append(
                draw_arm(
                    generator,
                    requests,
                    out_dir=out_dir,
                    batch_size=batch_size,
                    advance=advance,
                )
            )
    counts = companions.gather(counts)
    seconds = time.time() - started
    return DrawingCount(*map(sum, zip(*counts, strict=True))), seconds


def _rank(
    pipeline: SceneGraphFluxPipeline | None,
    items: Sequence[EvaluationItem],
    pictures: RealPictures | None,
    *,
    levels: int,
    size: SizeSettings,
    crop: Crop,
    seed: int,
    batch_size: int,
    companions: Companions,
    show_progress: bool,
) -> dict[str, Any]:
    if pipeline is None or pipeline.model is None or pictures is None or not levels:
        return dict(NOT_MEASURED)
    sigmas = sigma_grid(levels)
    own = items[companions.index :: companions.count]
    with progress_bar(len(own), "ranking", show=show_progress) as advance:
        errors = measure_errors(
            pipeline,
            own,
            pictures=pictures,
            height=size.height or pipeline.default_size,
            width=size.width or pipeline.default_size,
            crop=crop,
            sigmas=sigmas,
            guidance=size.guidance,
            seed=seed,
            batch_size=batch_size,
            advance=advance,
        )
    shares = companions.gather([errors])
    everywhere = errors.new_empty(len(errors), len(items), len(sigmas))
    for index, share in enumerate(shares):
        everywhere[:, index :: len(shares)] = share
    return ranking_summary(items, everywhere, sigmas=sigmas)

"""``sgflux eval``: draw the arms, judge them, and write figures that state their controls.

pictures/{arm}/{row}-{repeat}.png   every picture, with how it was made inside
results.jsonl                       one line a picture: what it is, what the judge said
evaluation_results.json             the figures, with their intervals
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import sgflux
from sgflux.data.boxes import Layout
from sgflux.data.layouts import shown_layouts
from sgflux.data.progress import progress_bar
from sgflux.errors import SgfluxError
from sgflux.evaluation.arms import Arm, EvaluationItem, choose_rows, make_items, plan_pictures
from sgflux.evaluation.base_wording import choose_wording, read_validation
from sgflux.evaluation.calibration import judge_figures
from sgflux.evaluation.correction import correction_of
from sgflux.evaluation.cut_prompts import prompts_cut
from sgflux.evaluation.drawing import draw_plan, judge_arm
from sgflux.evaluation.generators import Generator, ModelGenerator
from sgflux.evaluation.judges import Means, make_judge
from sgflux.evaluation.judges.judge import Judge, predicate_of
from sgflux.evaluation.known.file import calibration_for
from sgflux.evaluation.overlap import check_overlap
from sgflux.evaluation.precheck import check_graphs
from sgflux.evaluation.quality import (
    load_features,
    load_lpips,
    quality_figures,
    quality_lines,
)
from sgflux.evaluation.ranking import rank
from sgflux.evaluation.readable import expect_no_adapter_needed, readable_examples
from sgflux.evaluation.real_pictures import RealPictures, any_picture
from sgflux.evaluation.records import (
    PICTURE_RESULTS,
    RESULTS,
    calibration_lines,
    correction_lines,
    coverage_line,
    judge_line,
    write_lines,
)
from sgflux.evaluation.scoring import coverage, sensitivity, summary
from sgflux.files.folder_lock import hold_folder
from sgflux.files.writing import replace_file
from sgflux.graphs.predicates import CGIP_PREDICATES, vocabulary_of
from sgflux.models.bundle_folder import find_bundle, read_drawing
from sgflux.preflight.data import check_pictures
from sgflux.sampling import SceneGraphFluxPipeline
from sgflux.sampling.companions import ALONE, Companions
from sgflux.settings.drawing import NOTHING_RECOMMENDED, SizeSettings
from sgflux.settings.evaluation import EvalConfig
from sgflux.settings.flat import as_json, flat_values
from sgflux.settings.shared import Crop
from sgflux.versions import installed_versions
from sgflux.world.generators import WorldGenerator

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
        recommended, bundle = NOTHING_RECOMMENDED, None
        if adapter is not None:
            bundle = find_bundle(adapter, allow_download=config.model.allow_download)
            recommended = read_drawing(bundle)
        given = config.drawing
        steps, graph_scale, is_stochastic = recommended.chosen(
            given.steps, given.graph_scale, given.stochastic_sampling
        )
        drawing = replace(
            given, steps=steps, graph_scale=graph_scale, stochastic_sampling=is_stochastic
        )
        config = replace(config, drawing=drawing)  # the record has the values that are used
        if generator is None and config.generator == "model" and adapter is None:
            expect_no_adapter_needed(config.arms)
        readable = readable_examples(
            config.data, vocabulary=config.vocabulary, adapter=bundle, say=say
        )
        examples = readable.examples
        images_dir = config.data.parent if config.images_dir is None else config.images_dir
        items = make_items(
            examples,
            choose_rows(examples, config.items),
            seed=config.seed,
            predicates=None if readable.left_out is None else CGIP_PREDICATES,
            vocabulary=vocabulary_of(config.vocabulary),
            places=readable.rows,
        )
        # All is planned before anything is drawn: an item that lacks something stops it here.
        plan = {
            Arm(name): plan_pictures(
                items, Arm(name), seeds_per_item=config.seeds_per_item, seed=config.seed
            )
            for name in config.arms
        }
        validation = None
        if config.base_prompts is not None:
            vocabulary = vocabulary_of(config.vocabulary)
            validation = read_validation(config.base_prompts, readable.every, vocabulary)
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
            bundle if generator is None else None,
            examples,
            pictures,
            data=config.data,
            allowed=config.allow_seen_data,
        )
        if seen["text"] is not None:
            say(f"{config.data.name}: {seen['text']}")
        of_judge: dict[str, Any] = {}
        calibration: dict[str, Any] | None = None
        correction: dict[str, Any] | None = None
        if is_first:
            if config.calibration is not None:
                if judge is None:
                    raise SgfluxError("calibration has no effect with judge 'none'; leave it out")
                calibration = calibration_for(judge, config.calibration)
                stated = (predicate_of(t) for item in items for t in item.graph.triples())
                correction = correction_of(calibration, stated, judge)
            of_judge = judge_figures(
                judge,
                examples,
                items,
                pictures,
                seed=config.seed,
                show_progress=show_progress,
            )
            say(judge_line(of_judge))
            for sentence in (*calibration_lines(calibration), *correction_lines(correction)):
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
                steps=steps,
                graph_scale=graph_scale,
                stochastic_sampling=is_stochastic,
                guidance=size.guidance,
                height=size.height,
                width=size.width,
                boxes=None if config.boxes == "oracle" else config.boxes,
                oracle=None
                if config.boxes != "oracle"
                else _true_boxes(
                    pipeline, items, images_dir=images_dir, size=size, crop=config.crop
                ),
            )
            every = chain.from_iterable(plan.values())
            check_graphs(pipeline, items, every, data=config.data)
        elif generator is None:
            generator = WorldGenerator(config.generator, resolution=size.height or 64)
        told = None
        if validation is not None:
            told = choose_wording(
                validation,
                generator,
                judge,
                seed=config.seed,
                out_dir=config.output_dir,
                batch_size=batch_size,
                companions=companions,
                show_progress=show_progress,
            )
            for sentence in told.lines():
                say(sentence)
            plan[Arm.BASE_RELATIONAL] = plan_pictures(
                items,
                Arm.BASE_RELATIONAL,
                seeds_per_item=config.seeds_per_item,
                seed=config.seed,
                wording=told,
            )
        count, seconds = draw_plan(
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
        ranking = rank(
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
        found = summary(
            judged, out_dir=config.output_dir, judge=of_judge["name"], correction=correction
        )
        if lpips is not None:
            found["graph_sensitivity"][f"lpips_{config.quality.lpips}"] = sensitivity(
                judged, out_dir=config.output_dir, distance=lpips
            )
        quality = None
        if features is not None:
            quality = quality_figures(judged, features, out_dir=config.output_dir)
            for line in quality_lines(quality):
                say(line)
        later = ("comparisons", "graph_kinds")  # keys that came later stand at the end
        figures = {
            "judge": {**of_judge, "coverage": coverage(found["arms"])},
            "calibration": calibration,
            "correction": correction,
            **{name: own for name, own in found.items() if name not in later},
            "quality": quality,
            "quality_features": None
            if features is None
            else {"name": features.name, "sha256": features.sha256},
            "ranking_accuracy": ranking,
            "items": {
                "rows": len(items),
                "of": len(examples),
                "left_out": readable.left_out,
                "held_out_combination": sum(item.held_out is True for item in items),
                "by_predicate": dict(sorted(predicates.items())),
                "seeds_per_item": config.seeds_per_item,
            },
            "prompts_cut": prompts_cut(pipeline, plan),
            "base_prompts": None if told is None else told.to_json(),
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
                "sha256": readable.sha256,
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
            "comparisons": found["comparisons"],
            "picture_results": write_lines(config.output_dir / PICTURE_RESULTS, judged),
            "graph_kinds": found["graph_kinds"],
        }
        text = json.dumps(figures, indent=2, allow_nan=False)
        replace_file(config.output_dir / RESULTS, text + "\n")
        return figures


def _true_boxes(
    pipeline: SceneGraphFluxPipeline,
    items: Sequence[EvaluationItem],
    *,
    images_dir: Path,
    size: SizeSettings,
    crop: Crop,
) -> dict[int, Layout]:
    """Return the boxes of each item's picture as it is shown, by row.

    Raises:
        SgfluxError: if the adapter reads no boxes, or an item has none.
    """
    if pipeline.model is None or not pipeline.model.takes_layouts:
        raise SgfluxError("the adapter reads no boxes, so that --boxes oracle has no effect")
    for item in items:
        if item.example.boxes is None:
            name = item.example.named(item.row, kind="row")
            raise SgfluxError(f"{name} of the test set has no boxes, which --boxes oracle needs")
    layouts = shown_layouts(
        [item.example for item in items],
        images_dir=images_dir,
        sizes=[pipeline.picture_size(size.height, size.width)] * len(items),
        crop=crop,
    )
    return {item.row: layout for item, layout in zip(items, layouts, strict=True)}

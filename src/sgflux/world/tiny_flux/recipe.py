"""The recipe of tiny-flux: an ordinary FLUX pipeline, trained from nothing on the bundled world.

Stages, each resumable and each skipped when its result is already there:

    scenes        pictures of the world and their captions      -> scenes.npz
    transformer   text encoders and FluxTransformer2DModel      -> transformer.pt
    distillation  guidance and few steps into the transformer   -> distilled.pt
    autoencoder   AutoencoderKL that imitates a linear code     -> vae/
    pipeline      all of it, as diffusers saves it              -> pipeline/

The base sees relational and neutral captions, as real FLUX did: it can draw every relation and
knows the words for it, and from a neutral caption it draws any relation. Like FLUX.1-schnell it is
distilled: its pictures need no second, guiding pass and few steps.

The settings of a run are in its folder's recipe.json. A run of other settings is refused where it
would take over what was made with these.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline

from sgflux.bases.devices import resolve_device
from sgflux.errors import SgfluxError
from sgflux.files.json_files import read_json
from sgflux.files.leftovers import replace_folder
from sgflux.files.writing import make_folder, replace_file, unfinished_folder
from sgflux.world.shape_spread import Shapes
from sgflux.world.shapes import MAX_STATEMENTS
from sgflux.world.tiny_flux.autoencoder import train_autoencoder
from sgflux.world.tiny_flux.config import TrainBaseConfig, log
from sgflux.world.tiny_flux.distillation import distil
from sgflux.world.tiny_flux.model import SHIFT, CaptionedFlux, LinearCode
from sgflux.world.tiny_flux.scenes import make_scenes
from sgflux.world.tiny_flux.training import train_transformer

RECIPE = "recipe.json"
_RESULTS = ("scenes.npz", "transformer.pt", "distilled.pt", "vae")  # in the order of their stages
_OF_SCENES = ("seed", "scenes", "scene_sizes", "twins", "hold_out_shapes")
_OF_AUTOENCODER = ("vae_steps", "vae_batch_size")
_STEPS = {"max_steps": "transformer.pt", "distill_steps": "distilled.pt"}
_MAY_CHANGE = ("output_dir", "save_every", "device", "compile", "threads")


def save_pipeline(model: CaptionedFlux, vae: AutoencoderKL, code: LinearCode, folder: Path) -> None:
    """Write the ordinary diffusers folder; the transformer, most of it, in bfloat16.

    transformers loads weights in the precision they are stored in, diffusers in float32: with
    anything else in bfloat16 a plain ``from_pretrained`` would mix the two.
    """
    for tokenizer in (model.tokenizer, model.tokenizer_2):
        tokenizer.backend_tokenizer.no_padding()  # a call's padding is not the tokenizer's own
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        vae=vae,
        text_encoder=model.clip,
        tokenizer=model.tokenizer,
        text_encoder_2=model.t5,
        tokenizer_2=model.tokenizer_2,
        transformer=model.transformer.bfloat16(),
    )
    with unfinished_folder(folder) as partial:
        pipeline.save_pretrained(partial)
        code.save(partial)
        # The class's public name, which every transformers release knows.
        index = json.loads((partial / "model_index.json").read_text("utf-8"))
        for name in ("tokenizer", "tokenizer_2"):
            index[name] = ["transformers", "PreTrainedTokenizerFast"]
        replace_file(partial / "model_index.json", json.dumps(index, indent=2) + "\n")
        # Where the autoencoder was loaded from is nobody's business.
        vae_config = json.loads((partial / "vae/config.json").read_text("utf-8"))
        vae_config.pop("_name_or_path", None)
        replace_file(partial / "vae/config.json", json.dumps(vae_config, indent=2) + "\n")
        replace_folder(partial, folder)


def _check_scenes(config: TrainBaseConfig) -> None:
    """Refuse settings by which no scenes can be drawn."""
    sizes = config.scene_sizes
    if not 1 <= len(sizes) <= MAX_STATEMENTS or min(sizes) < 0 or abs(sum(sizes) - 1) > 1e-6:
        raise SgfluxError(
            f"scene_sizes must be up to {MAX_STATEMENTS} shares whose sum is 1, got {sizes!r}"
        )
    if not 0 <= config.twins <= 1:
        raise SgfluxError(f"twins must be a share from 0 to 1, got {config.twins!r}")
    drawn = tuple(size for size, share in enumerate(sizes, start=1) if share)
    if config.twins or config.hold_out_shapes:
        # No scene is drawn for one predicate: those without room are drawn anew.
        held_out = config.hold_out_shapes
        Shapes.of(drawn, twins=config.twins, held_out=held_out, predicates=())


def _results_of(setting: str) -> tuple[str, ...]:
    """Return the results of the stages that a setting belongs to, and of those after them.

    A training may have another length as long as nothing was made of its weights.
    """
    if setting in _OF_SCENES:
        return _RESULTS
    if setting in _OF_AUTOENCODER or setting == "distill_steps":
        return _RESULTS[3:]
    is_of_distillation = setting == "guidance" or setting.startswith("distill_")
    return _RESULTS[2:] if is_of_distillation or setting == "max_steps" else _RESULTS[1:]


def _check_begun(config: TrainBaseConfig, recipe: Mapping[str, str]) -> None:
    """Refuse a folder with results of other settings, or of more steps than there shall be."""
    folder, changed, others = config.output_dir, [], set()
    if not (folder / RECIPE).exists():
        return
    begun = read_json(
        folder / RECIPE, dict[str, str], way_out="give another --output-dir, or delete it"
    )
    defaults = {name: str(value) for name, value in asdict(TrainBaseConfig()).items()}
    for name, now in recipe.items():
        before = begun.get(name, defaults[name])  # a run of an older sgflux lacks settings
        if name in _MAY_CHANGE or before == now:
            continue
        made = [result for result in _results_of(name) if (folder / result).exists()]
        if made:
            changed.append(f"{name}: {before} in {RECIPE}, {now} now")
            others.update(made)
        elif (checkpoint := folder / _STEPS.get(name, "")).is_file():
            steps = torch.load(checkpoint, weights_only=True, mmap=True, map_location="cpu")["step"]
            if 0 < int(now) < steps:
                raise SgfluxError(
                    f"{checkpoint}: has {steps} steps behind it, more than the {now} that this run "
                    f"is to have; give a larger {name}, or another --output-dir"
                )
    if changed:
        raise SgfluxError(
            f"{folder}: {', '.join(filter(others.__contains__, _RESULTS))} there were made with "
            f"other settings ({'; '.join(changed)}); give the former ones or another --output-dir, "
            "or delete what is named, which is then made anew"
        )


def train_base(config: TrainBaseConfig) -> Path:
    """Run the recipe, continuing an unfinished run; returns the finished pipeline's folder.

    Raises:
        SgfluxError: if settings need a pipeline to start from, a weight or share cannot be, or the
            folder has results of other settings.
    """
    if config.start_from is None and (config.keep_text or config.distill_onto_start):
        setting = "keep_text" if config.keep_text else "distill_onto_start"
        raise SgfluxError(f"{setting} needs start_from, a pipeline that this recipe made")
    if config.distill_onto_start and config.max_steps and not config.keep_text:
        raise SgfluxError(
            "distill_onto_start needs keep_text where the transformer is trained: the student has "
            "the text encoders of start_from, which would know less than its teacher's"
        )
    if not config.sharing_weight > 0:
        raise SgfluxError(f"sharing_weight must be positive, got {config.sharing_weight!r}")
    if not 0 <= config.distill_early_share <= 1:
        raise SgfluxError(
            f"distill_early_share must be between 0 and 1, got {config.distill_early_share!r}"
        )
    _check_scenes(config)
    config = replace(config, device=str(resolve_device(config.device)))
    make_folder(config.output_dir)
    if config.threads:
        torch.set_num_threads(config.threads)
    recipe = {key: str(value) for key, value in asdict(config).items()}
    _check_begun(config, recipe)
    replace_file(config.output_dir / RECIPE, json.dumps(recipe, indent=2) + "\n")
    images, captions, layouts = make_scenes(config)
    if config.start_from is None:
        code = LinearCode.fit(images[:4096])
    else:
        code = LinearCode.load(config.start_from)
    parts = [code.encode(images[start : start + 1000]) for start in range(0, len(images), 1000)]
    clean = torch.cat([part.bfloat16() for part in parts])
    model = train_transformer(config, clean, captions, layouts)
    if config.distill_steps:
        model = distil(config, model, captions)
    vae = train_autoencoder(config, images, captions, code, model)
    folder = config.output_dir / "pipeline"
    save_pipeline(model, vae, code, folder)
    log(config, f"pipeline written to {folder}")
    return folder

"""Checks of a base model before it is loaded: configuration, weights' headers, tokenizers.

What this cannot see is whether the values of the weights are the right ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from transformers import CLIPTextConfig, T5Config

from sgflux.bases.family import ModelReport
from sgflux.bases.flux1.parts import PARTS, part_in_file, settings_in_file
from sgflux.bases.flux1.text import text_length
from sgflux.bases.folder_checks import (
    Folder,
    PartWeights,
    check_settings,
    expect_layers,
    expect_weights,
    read_json,
    read_weights,
)
from sgflux.bases.hub import repository_folder, resolve_model_id
from sgflux.bases.name_tokens import unreadable_names
from sgflux.bases.tokenizers import check_tokenizer, expect_vocabulary
from sgflux.errors import SgfluxError, first_line
from sgflux.files.weights_header import StoredTensor
from sgflux.files.writing import readable_size
from sgflux.settings.model_source import ModelSource

_LIKE: dict[str, dict[str, Any]] = {
    "transformer": {
        **dict.fromkeys(("num_layers", "num_single_layers", "num_attention_heads"), 1),
        **dict.fromkeys(("attention_head_dim", "in_channels", "joint_attention_dim"), 1),
        **dict.fromkeys(("pooled_projection_dim", "patch_size"), 1),
        "guidance_embeds": True,
        "axes_dims_rope": [1],
    },
    "vae": {
        **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "layers_per_block"), 1),
        **dict.fromkeys(("norm_num_groups", "sample_size"), 1),
        **dict.fromkeys(("scaling_factor", "shift_factor"), 1.0),
        "block_out_channels": [1],
    },
    "text_encoder": {
        **dict.fromkeys(("vocab_size", "hidden_size", "intermediate_size"), 1),
        **dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 1),
        "max_position_embeddings": 1,
    },
    "text_encoder_2": {
        **dict.fromkeys(("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"), 1),
        "relative_attention_num_buckets": 1,
    },
}
"""Part -> examples of its settings, whose kinds the settings must have."""

_LAYERS = {
    "transformer": {
        "num_layers": r"^transformer_blocks\.(\d+)\.",
        "num_single_layers": r"^single_transformer_blocks\.(\d+)\.",
    },
    "vae": {"layers_per_block": r"^encoder\.down_blocks\.0\.resnets\.(\d+)"},
    "text_encoder": {"num_hidden_layers": r"encoder\.layers\.(\d+)\."},
    "text_encoder_2": {"num_layers": r"^encoder\.block\.(\d+)\."},
}
"""Part -> its settings that count layers, and the pattern of such a layer's number."""

_FITTING = {
    "transformer": ("in_channels", 64),
    "vae": ("latent_channels", 4),
    "text_encoder": ("vocab_size", CLIPTextConfig().vocab_size),
    "text_encoder_2": ("vocab_size", T5Config().vocab_size),
}
"""Part -> its setting that another part must fit, and what its library takes if it is left out."""

_CLASSES = {"transformer": "FluxTransformer2DModel", "vae": "AutoencoderKL"}
_SCHEDULER: dict[str, Any] = {
    **dict.fromkeys(("num_train_timesteps", "base_image_seq_len", "max_image_seq_len"), 1),
    **dict.fromkeys(("shift", "base_shift", "max_shift"), 1.0),
    "use_dynamic_shifting": True,
}
_FAMILY = "sgflux trains on FLUX.1: give FLUX.1-schnell, FLUX.1-dev, or a model made of them"
_TIED = (("shared.weight", "encoder.embed_tokens.weight"),)
_OLD_ATTENTION = {
    ".query.": ".to_q.",
    ".key.": ".to_k.",
    ".value.": ".to_v.",
    ".proj_attn.": ".to_out.0.",
}


def check_model(source: ModelSource, *, needs_transformer: bool = True) -> ModelReport:
    """See :meth:`sgflux.bases.family.Files.check`."""
    folder = _folder_of(source)
    sizes: dict[str, int] = {}
    fitting: dict[str, int | None] = {}
    parts = [part for part in PARTS if needs_transformer or part != "transformer"]
    for part, path in source.files.items():
        if part in parts:
            fitting[part] = _check_file(part, path, sizes)
    if folder is not None:
        is_whole = needs_transformer and not source.is_file
        if is_whole:
            _check_index(folder)
        for part in parts:
            if part not in source.files:
                fitting[part] = _check_part(folder, part, sizes)
        if is_whole:
            _check_scheduler(folder)
    channels, latent_channels = fitting.get("transformer"), fitting.get("vae")
    if channels is not None and latent_channels is not None:
        check_input_channels(source.name, channels, latent_channels=latent_channels)
    tokenizers: tuple[Any, Any] = (None, None)
    if folder is not None and folder.incomplete and not _has_tokenizers(folder):
        folder.pending.append("tokenizers")
    elif folder is not None:
        tokenizers = _check_tokenizers(
            folder, clip=fitting.get("text_encoder"), t5=fitting.get("text_encoder_2")
        )
    t5 = tokenizers[1]

    def unreadable(
        names: Iterable[str], max_sequence_length: int | None
    ) -> Iterator[tuple[str, SgfluxError]]:
        length = text_length(max_sequence_length, t5.model_max_length, model=source.name)
        return unreadable_names(t5, names, max_sequence_length=length)

    return ModelReport(
        tuple(_lines(source, folder, sizes)), unreadable=None if t5 is None else unreadable
    )


def check_input_channels(model_id: str, channels: int, *, latent_channels: int) -> None:
    """Refuse a base that reads more than noise: FLUX.1 Fill, Canny, Depth, Redux' relatives.

    Args:
        model_id: Name of the model, for the message.
        channels: Number of input channels of the transformer.
        latent_channels: Channels of the autoencoder's latents before they are packed 2 by 2.

    Raises:
        SgfluxError: if they do not go together.
    """
    own = 4 * latent_channels
    if channels == own:
        return
    if channels in (2 * own, 6 * own):
        kind = "Canny or Depth" if channels == 2 * own else "Fill"
        raise SgfluxError(
            f"model {model_id!r} takes {channels} input channels, the {own} of the noisy picture "
            f"and those of a further one: it is FLUX.1 {kind}, which sgflux cannot train or "
            "sample; give FLUX.1-schnell or FLUX.1-dev"
        )
    raise SgfluxError(
        f"model {model_id!r}: its transformer takes {channels} input channels, its autoencoder "
        f"gives 4 times {latent_channels}: they do not belong together"
    )


# --- parts of a folder --------------------------------------------------------------------------


def _folder_of(source: ModelSource) -> Folder | None:
    """Return the model's folder on this machine; None if all of it is still to be fetched."""
    model_id = source.rest
    folder = resolve_model_id(model_id)
    if Path(folder).is_dir():
        return Folder(Path(folder), model_id)
    what, revision = f"model {model_id!r}", source.revision
    try:
        found = repository_folder(folder, revision=revision, allow_download=False, what=what)
    except SgfluxError:
        if source.allow_download:
            return None
        raise
    return Folder(found, model_id, incomplete=source.allow_download)


def _check_index(folder: Folder) -> None:
    index = read_json(folder, "model_index.json")
    name = None if index is None else index.get("_class_name")
    if index is not None and not (isinstance(name, str) and re.match(r"Flux(?!2)", name)):
        raise SgfluxError(
            f"{folder.path / 'model_index.json'}: the model is a {name!r}, no FluxPipeline; "
            f"{_FAMILY}"
        )


def _check_file(part: str, path: Path, sizes: dict[str, int]) -> int:
    """Check a part in a file of its own; returns as :func:`_check_part`."""
    if not path.is_file():
        raise SgfluxError(f"{path}: there is no such file ({part} of the model)")
    settings = settings_in_file(part, path)
    sizes[part] = path.stat().st_size
    if part == "transformer":
        _, state = part_in_file(part, path, header_alone=True)
        tensors = {name: StoredTensor("", tuple(value.shape)) for name, value in state.items()}
        weights = PartWeights(tensors, dict.fromkeys(tensors, path), sizes[part])
        expect_weights(path, weights, partial(PARTS[part].build, settings))
    return int(settings[_FITTING[part][0]])


def _check_part(folder: Folder, part: str, sizes: dict[str, int]) -> int | None:
    """Compare a part's configuration with its weights, whose size is noted.

    Returns:
        The setting of the part that another part must fit; None: it is still to be fetched.
    """
    like, layers = _LIKE[part], _LAYERS[part]
    name = f"{part}/config.json"
    path, settings = folder.path / name, read_json(folder, name)
    if settings is None:
        folder.pending.append(part)
    else:
        own, expected = settings.get("_class_name", _CLASSES.get(part)), _CLASSES.get(part)
        if expected is not None and own != expected:
            raise SgfluxError(f"{path}: the {part} is a {own!r}, no {expected}; {_FAMILY}")
        check_settings(path, settings, like)
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    weights = read_weights(folder, part, stem=stem)
    if settings is None:
        return None
    if weights is not None:
        sizes[part] = weights.size
        expect_layers(path, settings, weights, layers)
        shared = _TIED if part == "text_encoder_2" else ()
        build = partial(PARTS[part].build, settings)
        expect_weights(path, weights, build, rename=partial(_name_today, part), shared=shared)
    width, axes = (settings.get(name) for name in ("attention_head_dim", "axes_dims_rope"))
    if width is not None and axes is not None and sum(axes) != width:
        raise SgfluxError(
            f"{path}: 'axes_dims_rope' {axes} must add up to 'attention_head_dim' {width}"
        )
    if settings.get("scaling_factor", 1.0) == 0:
        raise SgfluxError(f"{path}: 'scaling_factor' must not be 0")
    fitting, default = _FITTING[part]
    return int(settings.get(fitting, default))


def _name_today(part: str, name: str) -> str:
    """Return the name of a weight that older files, or files of a larger model, name otherwise."""
    if part == "vae" and ".attentions." in name:
        for old, new in _OLD_ATTENTION.items():
            name = name.replace(old, new)
    return name.removeprefix("text_model.") if part == "text_encoder" else name


def _check_scheduler(folder: Folder) -> None:
    name = "scheduler/scheduler_config.json"
    settings = read_json(folder, name)
    if settings is None:
        return
    path = folder.path / name
    own = settings.get("_class_name", "FlowMatchEulerDiscreteScheduler")
    if own != "FlowMatchEulerDiscreteScheduler":
        raise SgfluxError(
            f"{path}: the scheduler is a {own!r}, no FlowMatchEulerDiscreteScheduler; {_FAMILY}"
        )
    check_settings(path, settings, _SCHEDULER)
    try:
        scheduler = FlowMatchEulerDiscreteScheduler.from_config(settings)
        scheduler.set_timesteps(4, mu=1.0)
        values = scheduler.timesteps.tolist()
    except Exception as error:  # a foreign constructor stumbles over bad settings in any way
        raise SgfluxError(f"{path}: makes no schedule: {error}") from error
    if not all(map(math.isfinite, values)) or sorted(values, reverse=True) != values:
        raise SgfluxError(f"{path}: makes no schedule that falls: {values}")


# --- tokenizers ---------------------------------------------------------------------------------


def _has_tokenizers(folder: Folder) -> bool:
    try:
        for part in ("tokenizer", "tokenizer_2"):
            expect_vocabulary(folder.path / part)
    except SgfluxError:
        return False
    return True


def _check_tokenizers(folder: Folder, *, clip: int | None, t5: int | None) -> tuple[Any, Any]:
    """Load both tokenizers and compare them with their encoders' embeddings."""
    for part in ("tokenizer", "tokenizer_2"):
        if not (folder.path / part).is_dir():
            raise folder.missing(f"{part}/")
        expect_vocabulary(folder.path / part)
    absent = ("transformer", "vae", "text_encoder", "text_encoder_2", "scheduler")
    try:
        pipeline = FluxPipeline.from_pretrained(
            str(folder.path), local_files_only=True, **dict.fromkeys(absent)
        )
        tokenizers = (pipeline.tokenizer, pipeline.tokenizer_2)
    except Exception as error:  # damaged files make the tokenizers library raise anything at all
        raise SgfluxError(
            f"{folder.path}: its tokenizers cannot be read (tokenizer/, tokenizer_2/): "
            f"{first_line(error)}; download them again"
        ) from error
    for tokenizer, rows, part in zip(
        tokenizers, (clip, t5), ("tokenizer", "tokenizer_2"), strict=True
    ):
        if rows is not None:
            check_tokenizer(tokenizer, embeddings=rows, where=folder.path, part=part)
    return tokenizers


def _lines(source: ModelSource, folder: Folder | None, sizes: Mapping[str, int]) -> list[str]:
    lines = []
    if sizes:
        lines.append(
            f"{source.name}: configuration, tokenizers and the headers of "
            f"{readable_size(sum(sizes.values()))} of weights ({', '.join(sizes)})"
        )
    pending = ["all of it"] if folder is None else list(dict.fromkeys(folder.pending))
    if pending:
        lines.append(f"NOT checked, because still to be fetched from the hub: {', '.join(pending)}")
    return lines

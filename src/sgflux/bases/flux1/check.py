"""Checks of a base model before it is loaded: configuration, weights' headers, tokenizers.

What this cannot see is whether the values of the weights are the right ones.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)
from huggingface_hub import snapshot_download
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from sgflux.bases.family import ModelReport
from sgflux.bases.flux1.original_layout import described_state
from sgflux.bases.flux1.single_files import described_autoencoder, described_clip, described_t5
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
from sgflux.bases.hub import resolve_model_id, why_not_loaded
from sgflux.bases.name_tokens import unreadable_names
from sgflux.bases.tokenizers import check_tokenizer, expect_vocabulary
from sgflux.errors import SgfluxError, first_line
from sgflux.files.weights_header import StoredTensor, read_header
from sgflux.files.writing import readable_size
from sgflux.settings.model_source import ModelSource

_TRANSFORMER: dict[str, Any] = {
    **dict.fromkeys(("num_layers", "num_single_layers", "num_attention_heads"), 1),
    **dict.fromkeys(("attention_head_dim", "in_channels", "joint_attention_dim"), 1),
    **dict.fromkeys(("pooled_projection_dim", "patch_size"), 1),
    "guidance_embeds": True,
    "axes_dims_rope": [1],
}
_AUTOENCODER: dict[str, Any] = {
    **dict.fromkeys(("in_channels", "out_channels", "latent_channels", "layers_per_block"), 1),
    **dict.fromkeys(("norm_num_groups", "sample_size"), 1),
    **dict.fromkeys(("scaling_factor", "shift_factor"), 1.0),
    "block_out_channels": [1],
}
_CLIP: dict[str, Any] = dict.fromkeys(
    (
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
        *("num_attention_heads", "max_position_embeddings"),
    ),
    1,
)
_T5: dict[str, Any] = dict.fromkeys(
    (
        *("vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads"),
        "relative_attention_num_buckets",
    ),
    1,
)
_SCHEDULER: dict[str, Any] = {
    **dict.fromkeys(("num_train_timesteps", "base_image_seq_len", "max_image_seq_len"), 1),
    **dict.fromkeys(("shift", "base_shift", "max_shift"), 1.0),
    "use_dynamic_shifting": True,
}
_FAMILY = "sgflux trains on FLUX.1: give FLUX.1-schnell, FLUX.1-dev, or a model made of them"
_TIED = (("shared.weight", "encoder.embed_tokens.weight"),)
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v."}


def check_model(source: ModelSource, *, needs_transformer: bool = True) -> ModelReport:
    """See :meth:`sgflux.bases.family.Files.check`."""
    folder = _folder_of(source)
    sizes: dict[str, int] = {}
    channels, clip_tokens, t5_tokens = _check_singles(
        source, sizes, needs_transformer=needs_transformer
    )
    latent_channels = None
    if folder is not None:
        if needs_transformer and not source.is_file:
            _check_index(folder)
            channels = _check_transformer(folder, sizes)
            _check_scheduler(folder)
        if source.autoencoder is None:
            latent_channels = _check_autoencoder(folder, sizes)
        if source.text_encoder is None:
            clip_tokens = _check_clip(folder, sizes)
        if source.text_encoder_2 is None:
            t5_tokens = _check_t5(folder, sizes)
    if source.autoencoder is not None:
        latent_channels = described_autoencoder(source.autoencoder)["latent_channels"]
    if channels is not None and latent_channels is not None:
        check_input_channels(source.name, channels, latent_channels=latent_channels)
    tokenizers: tuple[Any, Any] = (None, None)
    if folder is not None and folder.incomplete and not _has_tokenizers(folder):
        folder.pending.append("tokenizers")
    elif folder is not None:
        tokenizers = _check_tokenizers(folder, clip=clip_tokens, t5=t5_tokens)
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
    try:
        found = snapshot_download(folder, revision=source.revision, local_files_only=True)
    except (OSError, ValueError) as error:
        if source.allow_download:
            return None
        raise SgfluxError(
            f"model {model_id!r} cannot be loaded: "
            + why_not_loaded(error, model_id, allow_download=False, revision=source.revision)
        ) from error
    return Folder(Path(found), model_id, incomplete=source.allow_download)


def _check_index(folder: Folder) -> None:
    index = read_json(folder, "model_index.json")
    name = None if index is None else index.get("_class_name")
    if index is not None and not (isinstance(name, str) and re.match(r"Flux(?!2)", name)):
        raise SgfluxError(
            f"{folder.path / 'model_index.json'}: the model is a {name!r}, no FluxPipeline; "
            f"{_FAMILY}"
        )


def _check_transformer(folder: Folder, sizes: dict[str, int]) -> int | None:
    path, settings = _settings(folder, "transformer", _TRANSFORMER, FluxTransformer2DModel)
    layers = {
        "num_layers": r"^transformer_blocks\.(\d+)\.",
        "num_single_layers": r"^single_transformer_blocks\.(\d+)\.",
    }
    _check_weights(folder, path, settings, sizes, layers, FluxTransformer2DModel.from_config)
    if settings is not None:
        width, axes = (settings.get(name) for name in ("attention_head_dim", "axes_dims_rope"))
        if width is not None and axes is not None and sum(axes) != width:
            raise SgfluxError(
                f"{path}: 'axes_dims_rope' {axes} must add up to 'attention_head_dim' {width}"
            )
    return None if settings is None else int(settings.get("in_channels", 64))


def _check_autoencoder(folder: Folder, sizes: dict[str, int]) -> int | None:
    path, settings = _settings(folder, "vae", _AUTOENCODER, AutoencoderKL)
    if settings is not None and settings.get("scaling_factor", 1.0) == 0:
        raise SgfluxError(f"{path}: 'scaling_factor' must not be 0")
    layers = {"layers_per_block": r"^encoder\.down_blocks\.0\.resnets\.(\d+)"}
    build = AutoencoderKL.from_config
    _check_weights(folder, path, settings, sizes, layers, build, rename=_of_autoencoder)
    return None if settings is None else int(settings.get("latent_channels", 4))


def _check_clip(folder: Folder, sizes: dict[str, int]) -> int | None:
    weights = _check_weights(
        folder,
        *_settings(folder, "text_encoder", _CLIP),
        sizes,
        {"num_hidden_layers": r"encoder\.layers\.(\d+)\."},
        lambda settings: CLIPTextModel(CLIPTextConfig.from_dict(settings)),
        rename=lambda name: name.removeprefix("text_model."),
    )
    return _rows(weights, r"token_embedding\.weight$")


def _check_t5(folder: Folder, sizes: dict[str, int]) -> int | None:
    weights = _check_weights(
        folder,
        *_settings(folder, "text_encoder_2", _T5),
        sizes,
        {"num_layers": r"^encoder\.block\.(\d+)\."},
        lambda settings: T5EncoderModel(T5Config.from_dict(settings)),
        shared=_TIED,
    )
    return _rows(weights, r"^(shared|encoder\.embed_tokens)\.weight$")


def _check_weights(
    folder: Folder,
    path: Path,
    settings: dict[str, Any] | None,
    sizes: dict[str, int],
    layers: Mapping[str, str],
    build: Callable[[dict[str, Any]], nn.Module],
    **names: Any,
) -> PartWeights | None:
    """Compare a part's weights with its configuration ``path``, and note their size."""
    part = path.parent.name
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    weights = read_weights(folder, part, stem=stem)
    if weights is not None and settings is not None:
        sizes[part] = weights.size
        expect_layers(path, settings, weights, layers)
        expect_weights(path, weights, lambda: build(settings), **names)
    return weights


def _settings(
    folder: Folder, part: str, like: Mapping[str, Any], kind: type | None = None
) -> tuple[Path, dict[str, Any] | None]:
    name = f"{part}/config.json"
    settings = read_json(folder, name)
    path = folder.path / name
    if settings is None:
        folder.pending.append(part)
        return path, None
    own = settings.get("_class_name", None if kind is None else kind.__name__)
    if kind is not None and own != kind.__name__:
        raise SgfluxError(f"{path}: the {part} is a {own!r}, no {kind.__name__}; {_FAMILY}")
    check_settings(path, settings, like)
    return path, settings


def _rows(weights: PartWeights | None, pattern: str) -> int | None:
    """Rows of the first tensor whose name has the pattern."""
    for name, entry in ({} if weights is None else weights.tensors).items():
        if re.search(pattern, name) and entry.shape:
            return entry.shape[0]
    return None


def _of_autoencoder(name: str) -> str:
    """Return today's name of an attention weight that older files name otherwise."""
    if ".attentions." in name:
        for old, new in _OLD_ATTENTION.items():
            name = name.replace(old, new)
        name = name.replace(".proj_attn.", ".to_out.0.")
    return name


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


# --- single files -------------------------------------------------------------------------------


def _check_singles(
    source: ModelSource, sizes: dict[str, int], *, needs_transformer: bool
) -> tuple[int | None, int | None, int | None]:
    """The transformer's input channels and both embeddings' rows, as far as files tell them."""
    channels = clip = t5 = None
    files = source.files
    if not needs_transformer:
        files.pop("transformer", None)
    for part, path in files.items():
        if not path.is_file():
            raise SgfluxError(f"{path}: there is no such file ({part} of the model)")
        read_header(path)
        sizes[part] = path.stat().st_size
    if "transformer" in files:
        path = files["transformer"]
        settings, state = described_state(path)
        channels = int(settings["in_channels"])
        tensors = {name: StoredTensor("", tuple(value.shape)) for name, value in state.items()}
        weights = PartWeights(tensors, dict.fromkeys(tensors, path), path.stat().st_size)
        expect_weights(path, weights, lambda: FluxTransformer2DModel.from_config(settings))
    if source.text_encoder is not None:
        clip = described_clip(source.text_encoder).vocab_size
    if source.text_encoder_2 is not None:
        t5 = described_t5(source.text_encoder_2).vocab_size
    return channels, clip, t5


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

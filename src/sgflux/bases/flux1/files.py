"""The identity of a base, taken from its files; see :mod:`sgflux.bases.identity`."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CLIPTextConfig, T5Config

from sgflux.bases.digests import remembered, state_digest
from sgflux.bases.flux1.load import load_scheduler
from sgflux.bases.flux1.parts import part_in_file
from sgflux.bases.hub import model_folder
from sgflux.bases.identity import BaseIdentity
from sgflux.errors import SgfluxError
from sgflux.files.reading import read_json_object
from sgflux.settings.model_source import ModelSource

PARTS = (
    "transformer",
    "text_encoder",
    "text_encoder_2",
    "vae",
    "tokenizer",
    "tokenizer_2",
    "scheduler",
)
"""The parts of FLUX.1, as diffusers names their folders."""

_VERSION = "1"
"""Of how digests are taken; another one makes the remembered ones unknown."""

_SETTINGS: dict[str, tuple[str, ...]] = {
    "transformer": ("patch_size", "attention_head_dim", "guidance_embeds", "axes_dims_rope"),
    "vae": ("scaling_factor", "shift_factor", "norm_num_groups", "act_fn"),
    "text_encoder": ("num_attention_heads", "hidden_act", "layer_norm_eps"),
    "text_encoder_2": (
        "num_heads",
        "relative_attention_max_distance",
        "feed_forward_proj",
        "layer_norm_epsilon",
    ),
}
"""What weights do not show and pictures depend on."""

_ONLY_WITH_DYNAMIC_SHIFT = (
    "base_image_seq_len",
    "base_shift",
    "max_image_seq_len",
    "max_shift",
    "time_shift_type",
)

_PROBES = (
    "a photo of man riding horse",
    "A Photo: the man's 2 hats, left of dog #2 (in_front/behind)!",
    "wearing holding carrying hanging from standing on sitting on playing with looking at",
    "Zoë isn’t naïve – 1,234.56 % 𝛼 β\t日本語\n end",
    "",
)
"""What a tokenizer is asked to split."""

_Tensors = Mapping[str, Tensor | Callable[[], Tensor]]


def identify_base(source: ModelSource) -> BaseIdentity:
    """The identity of the base that a source names.

    Everything is read once; later calls find the digests by the files' times, see
    :mod:`sgflux.bases.digests`.

    Raises:
        SgfluxError: if a part is not on this machine or cannot be read; the message names it.
    """
    files = source.files
    folders = [part for part in PARTS if part not in files]
    if source.is_file:
        folders.remove("scheduler")  # goes with the transformer
    folder = model_folder(source.rest, **source.hub, parts=folders)
    parts: dict[str, str] = {}
    for part in PARTS:
        if part == "scheduler":
            parts[part] = _scheduler_digest(source)
        elif part in files:
            parts[part] = _digest(part, [files[part]], partial(_of_file, part, files[part]))
        elif part.startswith("tokenizer"):
            parts[part] = _tokenizer_digest(folder, part)
        else:
            parts[part] = _folder_digest(folder / part, part)
    return BaseIdentity(parts)


# --- weights ------------------------------------------------------------------------------------


def _folder_digest(folder: Path, part: str) -> str:
    weights = _weight_files(folder, part)
    config = folder / "config.json"
    return _digest(part, [config, *weights], lambda: _of_folder(part, config, weights))


def _digest(what: str, files: Sequence[Path], compute: Callable[[], str]) -> str:
    return remembered(f"{what} {_VERSION}", files, compute)


def _of_folder(part: str, config: Path, weights: Sequence[Path]) -> str:
    return _part_digest(part, read_json_object(config), _lazy(weights))


def _of_file(part: str, path: Path) -> str:
    """The digest of a part in a single file, under diffusers' or transformers' names."""
    return _part_digest(part, *part_in_file(part, path))


def _part_digest(part: str, settings: Mapping[str, Any], state: _Tensors) -> str:
    complete = {**_defaults(part), **settings}
    chosen = {name: complete.get(name) for name in _SETTINGS[part]}
    content = [part, chosen, state_digest(_named_alike(part, state))]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _defaults(part: str) -> dict[str, Any]:
    """What the libraries take for a setting that a file leaves out."""
    if part == "text_encoder":
        return CLIPTextConfig().to_dict()
    if part == "text_encoder_2":
        return T5Config().to_dict()
    model = FluxTransformer2DModel if part == "transformer" else AutoencoderKL
    parameters = inspect.signature(model.__init__).parameters.values()
    return {entry.name: entry.default for entry in parameters if entry.name != "self"}


def _named_alike(part: str, state: _Tensors) -> dict[str, Tensor | Callable[[], Tensor]]:
    """Names as all layouts have them; buffers, unused halves and second copies are left out."""
    alike = {
        name.removeprefix("text_model.") if part == "text_encoder" else name: value
        for name, value in state.items()
        if not name.endswith(("position_ids", "logit_scale", "text_projection.weight"))
    }
    if part == "text_encoder_2":
        copy = alike.pop("encoder.embed_tokens.weight", None)
        if copy is not None:
            alike.setdefault("shared.weight", copy)
    return alike


def _weight_files(folder: Path, part: str) -> list[Path]:
    """The files that diffusers or transformers would load, in their order of preference."""
    if part in ("transformer", "vae"):
        stem, index_first = "diffusion_pytorch_model", True
        pickled = f"{stem}.bin"
    else:
        stem, index_first = "model", False
        pickled = "pytorch_model.bin"
    names = [f"{stem}.safetensors.index.json", f"{stem}.safetensors"]
    names = [*(names if index_first else names[::-1]), f"{pickled}.index.json", pickled]
    for path in (folder / name for name in names):
        if not path.is_file():
            continue
        if path.suffix != ".json":
            return [path]
        try:
            shards = {str(shard) for shard in json.loads(path.read_bytes())["weight_map"].values()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SgfluxError(f"model file {str(path)!r} is no index of shards: {error}") from error
        return [path.parent / shard for shard in sorted(shards)]
    raise SgfluxError(f"model folder {str(folder)!r} has no weights: none of {', '.join(names)}")


def _lazy(paths: Sequence[Path]) -> dict[str, Tensor | Callable[[], Tensor]]:
    """Tensors of files, each read when it is called."""
    found: dict[str, Tensor | Callable[[], Tensor]] = {}
    for path in paths:
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt") as file:
                    found |= {name: partial(_tensor, path, name) for name in file.keys()}  # noqa: SIM118
            else:
                loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                found |= {name: v for name, v in loaded.items() if isinstance(v, Tensor)}
        except (SafetensorError, RuntimeError, pickle.UnpicklingError, AttributeError) as error:
            raise SgfluxError(f"model file {str(path)!r} cannot be read: {error}") from error
    return found


def _tensor(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        tensor: Tensor = file.get_tensor(name)
        return tensor


# --- tokenizers and scheduler -------------------------------------------------------------------


def _tokenizer_digest(folder: Path, part: str) -> str:
    files = sorted(path for path in (folder / part).rglob("*") if path.is_file())
    if not files:
        raise SgfluxError(f"model folder {str(folder)!r} has no {part}/")
    kind = f"{part} {transformers.__version__}"
    return _digest(kind, files, lambda: _of_tokenizer(folder, part))


def _of_tokenizer(folder: Path, part: str) -> str:
    """The digest of a vocabulary, its merges or scores, and of the probes' tokens."""
    try:
        index = json.loads((folder / "model_index.json").read_bytes())
        kind = getattr(transformers, index[part][1])
        tokenizer = kind.from_pretrained(folder / part, local_files_only=True)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise SgfluxError(f"{part} of {str(folder)!r} cannot be loaded: {error}") from error
    content: dict[str, Any] = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "length": min(tokenizer.model_max_length, 512),
        "padding": tokenizer.pad_token_id,
        "probes": [
            tokenizer(text, truncation=True, max_length=512)["input_ids"] for text in _PROBES
        ],
    }
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        model = json.loads(backend.to_str())["model"]
        merges = model.get("merges") or []
        content["merges"] = [one if isinstance(one, str) else " ".join(one) for one in merges]
        if isinstance(model.get("vocab"), list):
            content["scores"] = model["vocab"]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _scheduler_digest(source: ModelSource) -> str:
    """The digest of those settings that have an effect and are not the default."""
    scheduler = load_scheduler(source).scheduler
    unused = ("shift",) if scheduler.config["use_dynamic_shifting"] else _ONLY_WITH_DYNAMIC_SHIFT
    # Without the defaults, of which another version of diffusers may have more.
    content = {
        name: scheduler.config[name]
        for name, entry in inspect.signature(type(scheduler).__init__).parameters.items()
        if name not in (*unused, "self") and scheduler.config.get(name) != entry.default
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

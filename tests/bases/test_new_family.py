"""A base family of one's own: one folder, one line in the table, and every command takes it.

Broken, another family would need a change in the rooms of training, sampling or evaluation. The
classes are those of docs/extending.md.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from sgflux.bases.base import GraphTokens, State, Text
from sgflux.bases.digests import files_identity
from sgflux.bases.families import FAMILIES, family_in
from sgflux.bases.family import Components, Facts, ModelReport, Outline, Schedule
from sgflux.bases.identity import BaseIdentity
from sgflux.bases.lora_weights import LoraWeights
from sgflux.cli import main
from sgflux.errors import SgfluxError
from sgflux.settings.model_source import ModelSource
from sgflux.training.encoding.lazy_encoders import LazyEncoders
from sgflux.world.dataset import write_world

EXTENDING = Path(__file__).parents[2] / "docs" / "extending.md"


class PatchBlock(nn.Module):
    """Image tokens look at the text and at each other."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def look(self, image: Tensor, at: Tensor, mask: Tensor | None = None) -> Tensor:
        parts = (layer[:, None] for layer in (self.query(image), self.key(at), self.value(at)))
        return F.scaled_dot_product_attention(*parts, attn_mask=mask)[:, 0]

    def forward(self, image: Tensor, text: Tensor, temb: Tensor) -> Tensor:
        image = image + self.look(image + temb[:, None], torch.cat([text, image], dim=1))
        return image + self.mlp(image)


class PatchTransformer(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """The library's model: it knows nothing of sgflux, of graphs or of concepts."""

    @register_to_config
    def __init__(self, dim: int = 32, text_dim: int = 16, channels: int = 3, layers: int = 3):
        super().__init__()
        self.patches, self.words = nn.Linear(channels, dim), nn.Linear(text_dim, dim)
        self.time = nn.Linear(1, dim)
        self.blocks = nn.ModuleList([PatchBlock(dim) for _ in range(layers)])
        self.out = nn.Linear(dim, channels)


@dataclass(frozen=True)
class NetworkBlock:
    """See ``Block``: the same block, and what a graph does in it."""

    module: Any

    def plain(self, state: State, call: Any) -> State:
        image = call(state.hidden_states, state.encoder_hidden_states, state.temb)
        return state._replace(hidden_states=image)

    def with_graph(self, state: State, graph: GraphTokens) -> tuple[State, Tensor | None]:
        seen = self.module.look(state.hidden_states, graph.states, graph.mask)
        after = self.plain(state, self.module)
        image = after.hidden_states + (graph.gate_image * seen).to(seen.dtype)
        return after._replace(hidden_states=image), None if graph.is_last else graph.states

    def with_concepts(self, state: State, graph: GraphTokens | None) -> Any:
        raise SgfluxError("the patch family has no concepts; choose losses that need none")


class PatchNetwork:
    """See ``Network``: the transformer block by block."""

    patch, is_guided = 1, False

    def __init__(self, transformer: PatchTransformer) -> None:
        self.transformer, config = transformer, transformer.config
        self.blocks = [NetworkBlock(block) for block in transformer.blocks]
        self.num_layers, self.inner_dim = config.layers, config.dim
        self.channels = config.channels

    @property
    def device(self) -> torch.device:
        return self.transformer.out.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.out.weight.dtype

    def pack(self, latents: Tensor) -> Tensor:
        return latents.flatten(2).mT

    def unpack(self, tokens: Tensor, height: int, width: int) -> Tensor:
        return tokens.mT.unflatten(2, (height, width))

    def grid(self, latents: Tensor) -> tuple[int, int]:
        return latents.shape[2], latents.shape[3]

    def inputs(
        self, latents: Tensor, text: Text, sigma: Tensor, *, guidance: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        return self.pack(latents), text["words"], sigma

    def embed(self, inputs: Any, *, concepts: Any = None, concept_text: Any = None) -> State:
        tokens, words, sigma = (part.to(self.dtype) for part in inputs)
        base, nowhere = self.transformer, tokens.new_empty(0)
        temb = base.time(sigma[:, None])
        return State(base.patches(tokens), base.words(words), temb, (nowhere, nowhere))

    def embed_words(self, features: Tensor) -> Tensor:
        return self.transformer.words(features.to(self.dtype))

    def rotary_at(self, state: State, centers: Tensor, placed: Tensor) -> Any:
        raise SgfluxError("the patch family has no positions; train without --box-positions")

    def coverage(self, state: State, boxes: Tensor) -> Tensor:
        raise SgfluxError("the patch family has no positions; train without --box-attention")

    def image_places(self, state: State) -> Tensor:
        raise SgfluxError("the patch family has no positions; train without --box-map")

    def velocity(self, state: State) -> Tensor:
        return self.transformer.out(state.hidden_states)

    def rounded(self, inputs: Any) -> Any:
        return inputs

    def plain(self, inputs: Any) -> Tensor:
        state = self.embed(inputs)
        for block in self.blocks:
            state = block.plain(state, block.module)
        return self.velocity(state)

    def check_block(self, index: int) -> None:
        """Every block takes a graph."""

    def compile(self, **options: Any) -> None:
        self.transformer.compile_repeated_blocks(**options)


@dataclass(frozen=True)
class HashedText:
    """See ``TextEncoders``: a word is a random vector that its letters decide."""

    max_sequence_length: int = 12
    dim: int = 16
    device: torch.device | str = "cpu"

    def encode_names(self, names: Sequence[str]) -> Tensor:
        seeds = [torch.Generator().manual_seed(zlib.crc32(name.encode())) for name in names]
        rows = [torch.randn(self.dim, generator=seed) for seed in seeds]
        return torch.stack(rows).to(self.device)

    def encode(self, prompts: Sequence[str]) -> Text:
        length = self.max_sequence_length
        words = [(*prompt.split(), *[""] * length)[:length] for prompt in prompts]
        return {"words": torch.stack([self.encode_names(one) for one in words])}

    def unreadable(self, names: Iterable[str]) -> Iterator[tuple[str, SgfluxError]]:
        return iter(())

    def cuts(self, prompts: Sequence[str]) -> list[bool]:
        return [len(prompt.split()) > self.max_sequence_length for prompt in prompts]


class Mosaic:
    """See ``Autoencoder``: a latent pixel is the mean of eight by eight pixels."""

    downsample, size = 8, 64

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        latents = F.avg_pool2d(images, self.downsample)
        return latents, torch.full_like(latents, 0.01)

    def scale(self, latents: Tensor) -> Tensor:
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        images = F.interpolate(latents.float(), scale_factor=self.downsample)
        return (images / 2 + 0.5).clamp(0, 1)


class EvenSteps:
    """See ``Scheduler``."""

    def schedule(self, steps: int, *, image_tokens: int, device: torch.device) -> Schedule:
        sigmas = torch.linspace(1, 0, steps + 1, device=device)
        return Schedule(sigmas[:-1], sigmas.diff())

    def resolution_shift(self, image_tokens: int, *, always: bool) -> float:
        return 1.0


class Patches:
    """See ``Family``; ``published`` would be a diffusers pipeline for an adapter on the hub."""

    transformer, network = PatchTransformer, PatchNetwork
    pipelines, published = ("PatchPipeline",), None

    def describe(self, transformer: PatchTransformer) -> dict[str, Any]:
        config, weights = transformer.config, transformer.out.weight
        return {
            "num_layers": config.layers,
            "inner_dim": config.dim,
            "joint_attention_dim": config.text_dim,
            "fingerprint": hashlib.sha256(weights.detach().float().cpu().numpy()).hexdigest(),
        }

    # Files

    def check(self, source: ModelSource, *, needs_transformer: bool = True) -> ModelReport:
        config = Path(source.name, "transformer", "config.json")
        if needs_transformer and not config.is_file():
            raise SgfluxError(f"{config} is missing; copy the model again")
        return ModelReport((f"{source.name}: configuration",), lambda names, length: iter(()))

    def facts(self, source: ModelSource, *, max_sequence_length: int | None) -> Facts:
        text = self.load_text_encoders(source, max_sequence_length=max_sequence_length)
        return Facts(
            text_dim=text.dim,
            text_tokens=text.max_sequence_length,
            channels=3,
            downsample=Mosaic.downsample,
            patch=Mosaic.downsample * PatchNetwork.patch,
            latent_shift=0.0,
            latent_scale=1.0,
        )

    def picture_size(self, source: ModelSource) -> int:
        return Mosaic.size

    def encoder_identity(self, source: ModelSource, part: str) -> str:
        return f"{part} 1"

    def identity(self, source: ModelSource) -> BaseIdentity:
        return BaseIdentity({"transformer": files_identity(Path(source.name), ["transformer"])})

    def outline(self, source: ModelSource, *, max_sequence_length: int | None) -> Outline:
        facts = self.facts(source, max_sequence_length=max_sequence_length)
        transformer = self.load_transformer(source)
        return Outline(transformer, (), nn.Identity(), facts.text_tokens, facts.patch)

    # Loading

    def load_text_encoders(
        self, source: ModelSource, *, max_sequence_length: int | None = None, **where: Any
    ) -> HashedText:
        length = HashedText.max_sequence_length
        return HashedText(max_sequence_length or length, device=where.get("device", "cpu"))

    def load_autoencoder(self, source: ModelSource, **where: Any) -> Mosaic:
        return Mosaic()

    def load_transformer(
        self, source: ModelSource, *, dtype: torch.dtype = torch.float32, device: Any = "cpu"
    ) -> PatchTransformer:
        folder = Path(source.name, "transformer")
        transformer = PatchTransformer.from_pretrained(folder, torch_dtype=dtype)
        return transformer.to(device).requires_grad_(False).eval()

    def load_scheduler(self, source: ModelSource) -> EvenSteps:
        return EvenSteps()

    def of_pipeline(self, pipeline: Any, *, max_sequence_length: int) -> Components:
        text = HashedText(max_sequence_length)
        return Components(text, Mosaic(), EvenSteps(), pipeline.transformer)

    # LoRA

    def lora_layers(
        self, base: Mapping[str, Any], blocks: Iterable[int], targets: str
    ) -> dict[str, tuple[int, int]]:
        names = [f"blocks.{index}.{part}" for index in blocks for part in ("query", "value")]
        return dict.fromkeys(names, (base["inner_dim"], base["inner_dim"]))

    def tokens_of(self, layer: str, *, image: int, text: int) -> int:
        return image + text

    def read_lora(self, path: Any) -> LoraWeights:
        weights = {name.partition(".")[2]: value for name, value in load_file(path).items()}
        return LoraWeights.with_alpha(weights, next(iter(weights.values())).shape[0])

    def write_lora(self, path: Any, lora: LoraWeights, *, layout: str, **header: Any) -> None:
        if layout != "diffusers":
            raise SgfluxError(f"the patch family has no layout {layout!r}; use 'diffusers'")
        weights = lora.folded().weights
        save_file({f"transformer.{name}": value for name, value in weights.items()}, path)

    def lora_header(self, base: Mapping[str, Any]) -> dict[str, str]:
        return {}

    def hub_id(self, base: Mapping[str, Any]) -> str | None:
        return None


CLASSES = (
    *(PatchBlock, PatchTransformer, NetworkBlock, PatchNetwork),
    *(HashedText, Mosaic, EvenSteps, Patches),
)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base of the new family on disk."""
    monkeypatch.setitem(FAMILIES, "patches", Patches())
    torch.manual_seed(0)
    folder = tmp_path / "model"
    PatchTransformer().save_pretrained(folder / "transformer")
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "PatchPipeline"}))
    return folder


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_the_page_about_extending_shows_this_family() -> None:
    """Code of a page that nobody runs soon does not work any more."""
    page = EXTENDING.read_text(encoding="utf-8")
    for kind in CLASSES:
        assert inspect.getsource(kind) in page, kind.__name__


@pytest.mark.parametrize("name", ["flux9", 3, ["flux1"], None])
def test_an_unknown_family_is_named(name: object) -> None:
    """Also what a damaged file says."""
    with pytest.raises(SgfluxError, match=r"of the family .*; this sgflux knows flux1"):
        family_in({"family": name})


def test_the_keys_of_a_cache_name_another_family(model: Path) -> None:
    """Two families could give encoders the same identity; FLUX.1's keys stay as they were."""

    def identity(name: str) -> str:
        return LazyEncoders(
            ModelSource(model_id=name),
            device=torch.device("cpu"),
            dtype="fp32",
            max_sequence_length=None,
        ).text_identity

    assert identity(str(model)) == "patches text 1 fp32"
    digest, dtype = identity("tiny").split()
    assert (len(digest), dtype) == (64, "fp32")


def test_a_new_family_is_trained_sampled_and_evaluated(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out, bundle = tmp_path / "data", tmp_path / "run", tmp_path / "run" / "final"
    write_world(data, train_per_class=1, val_per_class=1, test_per_class=1)
    training = (
        *("train", "--train-jsonl", data / "train.jsonl", "--val-jsonl", data / "validation.jsonl"),
        *("--model-id", model, "--output-dir", out, "--device", "cpu", "--dtype", "fp32"),
        *("--latent-cache-dir", tmp_path / "cache", "--val-examples", 2, "--val-every", 2),
        *("--save-every", 2, "--sample-steps", 1, "--lora-rank", 2),
    )
    assert run(*training, "--max-steps", 2) == 0
    assert run(*training, "--max-steps", 3, "--resume", "auto") == 0
    settings = json.loads((bundle / "sgflux_adapter.json").read_text())["adapter"]
    assert settings["base"]["family"] == "patches"
    assert settings["base"]["identity"].keys() == {"transformer"}
    assert "with `PatchPipeline.load_lora_weights`" in (bundle / "README.md").read_text()

    graph = ("--adapter", bundle, "--model-id", model, "--device", "cpu", "--steps", 1)
    assert (
        run("sample", *graph, "--graph", "man, riding, horse", "--out-dir", tmp_path / "drawn") == 0
    )
    evaluation = ("--data", data / "test.jsonl", "--out-dir", tmp_path / "evaluation")
    assert run("eval", *graph, *evaluation, "--items", 2) == 0
    found = json.loads((tmp_path / "evaluation" / "evaluation_results.json").read_text())
    assert found["ranking_accuracy"]["n"] > 0
    assert found["arms"]["graph"]["relation_accuracy"]["n"] > 0

    lora = tmp_path / "lora.safetensors"
    exported = ("export", "--adapter", bundle)
    assert run(*exported, "--format", "diffusers", "--output", lora) == 0
    layers = {f"blocks.{index}.{part}" for index in (1, 2) for part in ("query", "value")}
    assert set(FAMILIES["patches"].read_lora(lora).modules) == layers
    assert run(*exported, "--format", "kohya", "--output", lora) != 0
    assert run(*exported, "--output-dir", tmp_path / "published") != 0
    assert "no diffusers pipeline that draws graphs is known" in capsys.readouterr().err

    # A bundle of another family than the base, or of one that is not there any more.
    capsys.readouterr()
    assert run("sample", *graph, "--model-id", "tiny", "--graph", "man, riding, horse") != 0
    said = capsys.readouterr().err
    assert "a base of the family 'patches', and this base is of the family 'flux1'" in said
    assert run(*training, "--model-id", "tiny", "--resume", "auto") != 0
    assert "this base is of the family 'flux1'" in capsys.readouterr().err
    monkeypatch.delitem(FAMILIES, "patches")
    assert run("sample", *graph, "--model-id", "tiny", "--graph", "man, riding, horse") != 0
    assert "of the family 'patches'; this sgflux knows flux1" in capsys.readouterr().err

"""The ComfyUI nodes compute what sgflux computes, in a stand-in and, if it is there, in ComfyUI.

Set COMFYUI_PATH to a copy of ComfyUI, in an environment with its requirements, to test against its
own classes.

If one of these failed, ComfyUI would draw something else than sgflux from the same adapter, graph
and noise.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from sgflux.bases.flux1.latents import image_ids, text_ids
from sgflux.bases.flux1.network import FluxInputs
from sgflux.data.boxes import Layout
from sgflux.data.given_boxes import layout_by_name
from sgflux.errors import SgfluxError
from sgflux.graphs.reading import read_graph
from sgflux.models.adapter import GraphLoraModel
from sgflux.models.bundle_folder import LORA_FILE
from sgflux.models.graph_encoder import GraphFeatures
from sgflux.sampling import SceneGraphFluxPipeline
from tests.helpers.adapters import write_adapter
from tests.helpers.flux_stand_in import Flux
from tests.helpers.original_layout import original_state

ROOT = Path(__file__).parent.parent.parent
GRAPH = "man, riding, horse; man, wearing, hat"
COMFYUI = os.environ.get("COMFYUI_PATH")
SETTINGS: dict[str, dict[str, Any]] = {
    "read": {"read_boxes": True},
    "read in temb": {"read_boxes": True, "graph_mode": "temb"},
    "positions": {"box_positions": True},
    "attention": {"box_attention": True},
    "map": {"box_attention": True, "box_map": True},
    "all": {"read_boxes": True, "box_positions": True, "box_attention": True, "box_map": True},
}
"""Ways in which boxes reach the model."""


def load_pack() -> ModuleType:
    """The folder as ComfyUI imports a node pack: by its path, under a name of its own."""
    folder = ROOT / "integrations" / "comfyui"
    spec = importlib.util.spec_from_file_location(
        "sgflux_nodes", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["sgflux_nodes"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    return load_pack()


def sizes_of(transformer: Any) -> dict[str, Any]:
    config = transformer.config
    return {
        "in_channels": config.in_channels,
        "vec_in_dim": config.pooled_projection_dim,
        "context_in_dim": config.joint_attention_dim,
        "hidden_size": transformer.inner_dim,
        "num_heads": config.num_attention_heads,
        "depth": config.num_layers,
        "depth_single_blocks": config.num_single_layers,
        "axes_dim": list(config.axes_dims_rope),
    }


def comfy_flux(sizes: dict[str, Any]) -> Any:
    """ComfyUI's own class."""
    if COMFYUI is None:
        pytest.skip("COMFYUI_PATH is not set")
    if COMFYUI not in sys.path:
        sys.path.insert(0, COMFYUI)
    from comfy.cli_args import args

    args.cpu = True
    import comfy.ldm.flux.model
    import comfy.ops

    return comfy.ldm.flux.model.Flux(
        **{**sizes, "in_channels": sizes["in_channels"] // 4},
        out_channels=sizes["in_channels"] // 4,
        mlp_ratio=4.0,
        theta=10000,
        patch_size=2,
        qkv_bias=True,
        guidance_embed=False,
        dtype=torch.float32,
        device="cpu",
        operations=comfy.ops.disable_weight_init,
    )


@pytest.fixture(scope="module", params=["token", "temb"])
def adapter(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "final"
    return write_adapter(folder, "tiny", strength=0.1, graph_mode=request.param)


@pytest.fixture(scope="module")
def ours(adapter: Path) -> SceneGraphFluxPipeline:
    return SceneGraphFluxPipeline.from_pretrained("tiny", adapter=adapter)


class StandInT5:
    """ComfyUI's way of calling a T5."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def __call__(self, input_ids: Tensor, attention_mask: Any) -> tuple[Tensor, None]:
        assert attention_mask is None
        return self._model(input_ids)[0], None

    def get_input_embeddings(self) -> Any:
        return self._model.get_input_embeddings()


def comfy_t5(model: Any) -> Any:
    """The same weights in ComfyUI's own T5."""
    sys.path.insert(0, str(COMFYUI))
    from comfy.cli_args import args

    args.cpu = True
    import comfy.ops
    import comfy.text_encoders.t5

    config = model.config
    settings = {
        "num_layers": config.num_layers,
        "d_model": config.d_model,
        "d_kv": config.d_kv,
        "d_ff": config.d_ff,
        "num_heads": config.num_heads,
        "vocab_size": config.vocab_size,
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
        "model_type": "t5",
    }
    t5 = comfy.text_encoders.t5.T5(settings, torch.float32, "cpu", comfy.ops.manual_cast)
    state = {n: v for n, v in model.state_dict().items() if n != "encoder.embed_tokens.weight"}
    t5.load_state_dict(state)
    return t5


def clip_of(pipeline: SceneGraphFluxPipeline, t5: Any) -> Any:
    """ComfyUI's CLIP object as far as the node reads it."""
    text = pipeline.text_encoders
    return SimpleNamespace(
        cond_stage_model=SimpleNamespace(t5xxl=SimpleNamespace(transformer=t5)),
        tokenizer=SimpleNamespace(t5xxl=SimpleNamespace(tokenizer=text.tokenizer_2)),
        load_model=lambda: None,
    )


def with_lora(state: dict[str, Tensor], adapter: Path) -> dict[str, Tensor]:
    """Original weights with the LoRA added as ComfyUI adds it: B A, at the rows of its layer."""
    lora, out = load_file(adapter / LORA_FILE), dict(state)
    places = {
        "to_q": ("img_attn.qkv", 0), "to_k": ("img_attn.qkv", 1), "to_v": ("img_attn.qkv", 2),
        "to_out.0": ("img_attn.proj", 0), "add_q_proj": ("txt_attn.qkv", 0),
        "add_k_proj": ("txt_attn.qkv", 1), "add_v_proj": ("txt_attn.qkv", 2),
        "to_add_out": ("txt_attn.proj", 0),
    }  # fmt: skip
    for key, up in lora.items():
        if not key.endswith(".lora_B.weight"):
            continue
        _, _, block, _, part = key.removesuffix(".lora_B.weight").split(".", 4)
        layer, place = places[part]
        name, rows = f"double_blocks.{block}.{layer}.weight", up.shape[0]
        matrix = out[name].clone()
        matrix[place * rows : (place + 1) * rows] += up @ lora[key.replace("lora_B", "lora_A")]
        out[name] = matrix
    return out


@dataclass(frozen=True)
class Both:
    """The same weights, adapter, noise and text in ComfyUI's model and in sgflux'."""

    pack: ModuleType
    part: Any
    graph: GraphFeatures
    flux: Any
    model: GraphLoraModel
    inputs: FluxInputs

    def theirs(
        self, kinds: list[int] | None = None, strength: float = 1.0, ids: Tensor | None = None
    ) -> Tensor:
        hooks = self.pack.graph_blocks.GraphHooks(
            self.flux, self.part, self.graph, strength=strength
        ).hooks()
        replaced = {("double_block", index): hook for index, hook in hooks.items()}
        options: dict[str, Any] = {"patches_replace": {"dit": replaced}}
        if kinds is not None:
            options["cond_or_uncond"] = kinds
        # ComfyUI runs its nodes and its sampler in inference mode.
        with torch.inference_mode():
            return self.flux.forward_orig(
                self.inputs.hidden_states,
                (self.inputs.img_ids if ids is None else ids).expand(2, -1, -1),
                self.inputs.encoder_hidden_states,
                self.inputs.txt_ids.expand(2, -1, -1),
                self.inputs.timestep,
                self.inputs.pooled_projections,
                transformer_options=options,
            )

    def ours(self, layout: Layout | None = None) -> Tensor:
        graph = read_graph(GRAPH, open_vocabulary=False).graph
        with torch.no_grad():
            features = self.model.features([graph, graph], [layout, layout])
            return self.model.flux(self.inputs, graph=features)

    def alone(self) -> Tensor:
        """sgflux' velocity with the LoRA and without a graph."""
        with torch.no_grad():
            return self.model(None, self.inputs)

    def check(self, told: Tensor) -> None:
        """The hooks compute this, in every kind of a batch."""
        alone = self.alone()
        assert (told - alone).abs().mean() > 0.01, "the graph has its say"
        close(self.theirs(), told)
        # The unconditional half of a batch has no graph.
        mixed = self.theirs([1, 0])
        close(mixed[:1], alone[:1])
        close(mixed[1:], told[1:])
        close(self.theirs(strength=0.0), alone)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@functools.cache
def base() -> Any:
    return SceneGraphFluxPipeline.from_pretrained("tiny").transformer


def both(
    pack: ModuleType,
    ours: SceneGraphFluxPipeline,
    adapter: Path | str,
    kind: str = "stand-in",
    *,
    grid: tuple[int, int] = (4, 4),
    **boxes: Any,
) -> Both:
    sizes, state = sizes_of(base()), original_state(base())
    flux = Flux(sizes) if kind == "stand-in" else comfy_flux(sizes)
    flux.load_state_dict(state)
    t5 = ours.text_encoders.text_encoder_2
    clip = clip_of(ours, StandInT5(t5) if kind == "stand-in" else comfy_t5(t5))
    with torch.inference_mode():
        loaded = pack.nodes.LoadAdapter().load(str(adapter), False)[0]
        pack.nodes.check_model(flux, loaded)
        lines = GRAPH.replace("; ", "\n")
        (graph,) = pack.nodes.EncodeGraph().encode(loaded, clip, lines, False, **boxes)
    flux.load_state_dict(with_lora(state, loaded.folder))
    generator = torch.Generator().manual_seed(0)
    text = ours.text_encoders.encode(["a photo of man and horse"])
    hidden = text["hidden"].expand(2, -1, -1).clone()
    inputs = FluxInputs(
        hidden_states=torch.randn(2, grid[0] * grid[1], 64, generator=generator),
        encoder_hidden_states=hidden,
        pooled_projections=text["pooled"].expand(2, -1),
        timestep=torch.tensor([0.7, 0.7]),
        img_ids=image_ids(*grid),
        txt_ids=text_ids(hidden.shape[1]),
    )
    assert ours.model is not None
    return Both(pack, loaded.part, graph.features, flux, ours.model, inputs)


@pytest.mark.parametrize("kind", ["stand-in", "ComfyUI"])
def test_the_hooks_compute_what_sgflux_computes(
    pack: ModuleType, ours: SceneGraphFluxPipeline, adapter: Path, kind: str
) -> None:
    pair = both(pack, ours, adapter, kind)
    pair.check(pair.ours())


@pytest.fixture(scope="module", params=[*SETTINGS])
def boxed(
    request: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, SceneGraphFluxPipeline]:
    folder = tmp_path_factory.mktemp("boxed") / "final"
    write_adapter(folder, "tiny", strength=0.2, **SETTINGS[request.param])
    return folder, SceneGraphFluxPipeline.from_pretrained("tiny", adapter=folder)


@pytest.mark.parametrize("kind", ["stand-in", "ComfyUI"])
@pytest.mark.parametrize("grid", [(4, 4), (3, 5)])
def test_given_boxes_act_as_in_sgflux(
    pack: ModuleType,
    boxed: tuple[Path, SceneGraphFluxPipeline],
    kind: str,
    grid: tuple[int, int],
) -> None:
    folder, pipeline = boxed
    given = {"man": [0.1, 0.2, 0.4, 0.7], "horse": [0.2, 0.5, 0.8, 0.45]}
    pair = both(pack, pipeline, folder, kind, grid=grid, boxes=json.dumps(given))
    # The hat has no box, so that one statement is placed in part.
    graph = read_graph(GRAPH, open_vocabulary=False).graph
    told = pair.ours(layout_by_name(graph, given))
    assert (told - pair.ours()).abs().mean() > 0.01, "the boxes have their say"
    pair.check(told)
    open_ = both(pack, pipeline, folder, kind, grid=grid, boxes="none")
    open_.check(open_.ours())
    close(both(pack, pipeline, folder, kind, grid=grid).theirs(), open_.ours())


@pytest.mark.parametrize("kind", ["stand-in", "ComfyUI"])
def test_the_bundled_adapter_predicts_boxes_as_in_sgflux(pack: ModuleType, kind: str) -> None:
    tiny = SceneGraphFluxPipeline.from_pretrained("tiny", adapter="tiny")
    assert tiny.model is not None
    graph = read_graph(GRAPH, open_vocabulary=False).graph
    (first,), (second,) = (tiny.model.sample_layouts([graph], [seed]) for seed in (0, 5))
    pair = both(pack, tiny, "tiny", kind, grid=(6, 4))
    told = pair.ours(first)
    assert (told - pair.ours()).abs().mean() > 0.01, "the boxes have their say"
    pair.check(told)
    assert (told - pair.ours(second)).abs().mean() > 0.01, "so has the seed"
    other = both(pack, tiny, "tiny", kind, grid=(1, 6), seed=5)
    other.check(other.ours(second))


def test_boxes_need_positions_of_flux(pack: ModuleType) -> None:
    """Reference latents and nodes that move positions have no place in a picture's grid."""
    tiny = SceneGraphFluxPipeline.from_pretrained("tiny", adapter="tiny")
    given, left_open = (both(pack, tiny, "tiny", boxes=boxes) for boxes in ("predicted", "none"))
    picture, reference = image_ids(2, 4), image_ids(2, 4)
    reference[:, 0] = 1
    for ids in (torch.cat([picture, reference]), image_ids(4, 4) * 1.5):
        with pytest.raises(ValueError, match="encode the graph with boxes 'none'"):
            given.theirs(ids=ids)
        left_open.theirs(ids=ids)


def test_boxes_without_effect_are_refused(
    pack: ModuleType, ours: SceneGraphFluxPipeline, adapter: Path
) -> None:
    for boxes in ("none", '{"man": [0.1, 0.2, 0.4, 0.7]}'):
        with pytest.raises(SgfluxError, match="the adapter reads no boxes"):
            both(pack, ours, adapter, boxes=boxes)
    with pytest.raises(SgfluxError, match="there are boxes of 'dog', but"):
        both(pack, ours, "tiny", boxes='{"dog": [0.1, 0.2, 0.4, 0.7]}')


def test_another_model_is_refused(
    pack: ModuleType, ours: SceneGraphFluxPipeline, adapter: Path
) -> None:
    loaded = pack.nodes.LoadAdapter().load(str(adapter), False)[0]
    sizes = sizes_of(ours.transformer)
    with pytest.raises(ValueError, match="another model: num_layers is"):
        pack.nodes.check_model(Flux({**sizes, "depth": 1}), loaded)
    flux = Flux(sizes)
    with pytest.raises(ValueError, match="another model of the same sizes"):
        pack.nodes.check_model(flux, loaded)
    with pytest.raises(ValueError, match="has not got them: it is no"):
        pack.graph_blocks.GraphHooks(Flux({**sizes, "depth": 1}), loaded.part, None)
    del flux.double_blocks[loaded.part.block_start].txt_mod
    with pytest.raises(ValueError, match="has no txt_mod: this version of ComfyUI"):
        pack.graph_blocks.GraphHooks(flux, loaded.part, None)
    other = SimpleNamespace(cond_stage_model=object(), tokenizer=object())
    with pytest.raises(ValueError, match="load CLIP-L and T5 as type flux"):
        pack.nodes.EncodeGraph().encode(loaded, other, GRAPH, False)


def test_a_graph_of_another_adapter_is_refused(
    pack: ModuleType,
    ours: SceneGraphFluxPipeline,
    adapter: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also of an earlier state of the same folder, which ComfyUI is told to read again."""
    load = pack.nodes.LoadAdapter
    folder = Path(shutil.copytree(adapter, tmp_path / "final"))
    loaded, before = load().load(str(folder), False)[0], load.IS_CHANGED(str(folder), False)
    assert load.IS_CHANGED(str(folder), False) == before
    clip = clip_of(ours, StandInT5(ours.text_encoders.text_encoder_2))
    (graph,) = pack.nodes.EncodeGraph().encode(loaded, clip, GRAPH, False)
    shutil.rmtree(folder)
    write_adapter(folder, "tiny", strength=0.3, graph_mode=loaded.config.graph_mode)
    assert load.IS_CHANGED(str(folder), False) != before
    (again,) = load().load(str(folder), False)
    monkeypatch.setitem(sys.modules, "comfy", ModuleType("comfy"))
    monkeypatch.setitem(sys.modules, "comfy.sd", ModuleType("comfy.sd"))
    flux = Flux(sizes_of(base()))
    flux.load_state_dict(original_state(base()))
    with pytest.raises(ValueError, match="encoded by another adapter, or by an earlier state"):
        pack.nodes.ApplyGraph().apply(Patcher(flux), again, graph, 1.0, 1.0)
    assert load.IS_CHANGED("no such folder", False) == ""
    flux.img_in.bias = None
    with pytest.raises(ValueError, match="another model of the same sizes"):
        pack.nodes.check_model(flux, again)


class Patcher:
    """A MODEL of ComfyUI as far as the node uses it."""

    def __init__(self, flux: Any) -> None:
        self.model = SimpleNamespace(diffusion_model=flux)
        self.model_options: dict[str, Any] = {"transformer_options": {}}

    def set_model_patch_replace(self, patch: Any, name: str, block: str, number: int) -> None:
        options = self.model_options["transformer_options"]
        replaced = options.setdefault("patches_replace", {}).setdefault(name, {})
        replaced[block, number] = patch


def test_the_apply_node_adds_the_lora_and_takes_the_chosen_blocks(
    pack: ModuleType,
    ours: SceneGraphFluxPipeline,
    adapter: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flux = Flux(sizes_of(base()))
    flux.load_state_dict(original_state(base()))
    loaded = pack.nodes.LoadAdapter().load(str(adapter), False)[0]
    clip = clip_of(ours, StandInT5(ours.text_encoders.text_encoder_2))
    (graph,) = pack.nodes.EncodeGraph().encode(loaded, clip, GRAPH, False)
    given: list[Any] = []

    def load_lora_for_models(model: Any, clip: Any, lora: Any, strength: float, _: float) -> Any:
        given.append((set(lora), strength))
        return model, None

    comfy, sd = ModuleType("comfy"), ModuleType("comfy.sd")
    sd.load_lora_for_models = load_lora_for_models  # type: ignore[attr-defined]
    comfy.sd = sd  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.sd", sd)
    model = Patcher(flux)
    (patched,) = pack.nodes.ApplyGraph().apply(model, loaded, graph, 0.5, 1.0)
    assert given == [(set(load_file(adapter / LORA_FILE)), 0.5)]
    replaced = patched.model_options["transformer_options"]["patches_replace"]["dit"]
    assert list(replaced) == [("double_block", index) for index in (3, 4)]
    with pytest.raises(ValueError, match="already takes the place of double block 3"):
        pack.nodes.ApplyGraph().apply(model, loaded, graph, 1.0, 1.0)


def test_every_node_says_its_inputs(pack: ModuleType) -> None:
    assert set(pack.NODE_CLASS_MAPPINGS) == set(pack.NODE_DISPLAY_NAME_MAPPINGS)
    for node in pack.NODE_CLASS_MAPPINGS.values():
        assert callable(getattr(node, node.FUNCTION))
        assert node.INPUT_TYPES()["required"]
        assert node.__doc__

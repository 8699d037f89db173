"""A small FLUX with the real head width, and its weights under the original release's names."""

from __future__ import annotations

import torch
from diffusers import FluxTransformer2DModel


def make_transformer(
    *, guidance_embeds: bool, pooled_projection_dim: int = 24
) -> FluxTransformer2DModel:
    """FLUX with its own head width, and otherwise small."""
    torch.manual_seed(4)
    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=64,
        num_layers=2,
        num_single_layers=3,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=32,
        pooled_projection_dim=pooled_projection_dim,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(16, 56, 56),
    ).eval()


def original_state(model: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    """The model's weights under the names of the original release, written down one by one."""
    own = model.state_dict()
    out: dict[str, torch.Tensor] = {}

    def copy(target: str, *sources: str) -> None:
        for part in ("weight", "bias"):
            out[f"{target}.{part}"] = torch.cat([own[f"{source}.{part}"] for source in sources])

    def embedder(target: str, source: str) -> None:
        copy(f"{target}.in_layer", f"time_text_embed.{source}.linear_1")
        copy(f"{target}.out_layer", f"time_text_embed.{source}.linear_2")

    copy("img_in", "x_embedder")
    copy("txt_in", "context_embedder")
    embedder("time_in", "timestep_embedder")
    embedder("vector_in", "text_embedder")
    if model.config.guidance_embeds:
        embedder("guidance_in", "guidance_embedder")
    for i in range(model.config.num_layers):
        new, old = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for stream, norm, feed, projections, output, norms in (
            ("img", "norm1", "ff", ("to_q", "to_k", "to_v"), "to_out.0", ("norm_q", "norm_k")),
            (
                "txt", "norm1_context", "ff_context", ("add_q_proj", "add_k_proj", "add_v_proj"),
                "to_add_out", ("norm_added_q", "norm_added_k"),
            ),
        ):  # fmt: skip
            copy(f"{new}.{stream}_mod.lin", f"{old}.{norm}.linear")
            copy(f"{new}.{stream}_attn.qkv", *(f"{old}.attn.{name}" for name in projections))
            copy(f"{new}.{stream}_attn.proj", f"{old}.attn.{output}")
            copy(f"{new}.{stream}_mlp.0", f"{old}.{feed}.net.0.proj")
            copy(f"{new}.{stream}_mlp.2", f"{old}.{feed}.net.2")
            for kind, name in zip(("query", "key"), norms, strict=True):
                scale = own[f"{old}.attn.{name}.weight"]
                out[f"{new}.{stream}_attn.norm.{kind}_norm.scale"] = scale
    for i in range(model.config.num_single_layers):
        new, old = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        copy(f"{new}.modulation.lin", f"{old}.norm.linear")
        projections = tuple(f"{old}.attn.{name}" for name in ("to_q", "to_k", "to_v"))
        copy(f"{new}.linear1", *projections, f"{old}.proj_mlp")
        copy(f"{new}.linear2", f"{old}.proj_out")
        for kind, name in (("query", "norm_q"), ("key", "norm_k")):
            out[f"{new}.norm.{kind}_norm.scale"] = own[f"{old}.attn.{name}.weight"]
    copy("final_layer.linear", "proj_out")
    for part in ("weight", "bias"):
        scale, shift = own[f"norm_out.linear.{part}"].chunk(2)
        out[f"final_layer.adaLN_modulation.1.{part}"] = torch.cat([shift, scale])
    return {name: value.contiguous().clone() for name, value in out.items()}

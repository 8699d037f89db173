"""A FLUX with ComfyUI's attribute names, forward structure and hooks, for where ComfyUI is not."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class Modulation:
    shift: Tensor
    scale: Tensor
    gate: Tensor


class Modulator(nn.Module):
    def __init__(self, dim: int, count: int) -> None:
        super().__init__()
        self.lin = nn.Linear(dim, count * dim)
        self.count = count

    def forward(self, vec: Tensor) -> tuple[Modulation, Modulation | None]:
        parts = self.lin(F.silu(vec))[:, None, :].chunk(self.count, dim=-1)
        return Modulation(*parts[:3]), Modulation(*parts[3:]) if self.count == 6 else None


class Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, x.shape[-1:], self.scale, eps=1e-6)


class QKNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query_norm, self.key_norm = Scale(dim), Scale(dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return self.query_norm(q).to(v), self.key_norm(k).to(v)


class SelfAttention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.norm = QKNorm(dim // heads)


def plain_norm(dim: int) -> nn.LayerNorm:
    return nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)


def feed_forward(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU("tanh"), nn.Linear(4 * dim, dim))


def attention(q: Tensor, k: Tensor, v: Tensor, pe: Tensor) -> Tensor:
    def turn(x: Tensor) -> Tensor:
        real, imaginary = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = pe[..., 0, 0], pe[..., 1, 0]
        pair = torch.stack([cos * real - sin * imaginary, sin * real + cos * imaginary], dim=-1)
        return pair.flatten(-2).to(x)

    out = F.scaled_dot_product_attention(turn(q), turn(k), v)
    return out.transpose(1, 2).flatten(2)


def split_heads(fused: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = fused.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


class DoubleBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.num_heads = heads
        self.img_mod, self.txt_mod = Modulator(dim, 6), Modulator(dim, 6)
        self.img_attn, self.txt_attn = SelfAttention(dim, heads), SelfAttention(dim, heads)
        self.img_mlp, self.txt_mlp = feed_forward(dim), feed_forward(dim)
        self.img_norm1, self.img_norm2 = plain_norm(dim), plain_norm(dim)
        self.txt_norm1, self.txt_norm2 = plain_norm(dim), plain_norm(dim)

    def forward(self, *, img: Tensor, txt: Tensor, vec: Tensor, pe: Tensor, **_: Any) -> Any:
        found, streams = [], (("txt", txt), ("img", img))
        modulations = {name: getattr(self, f"{name}_mod")(vec) for name, _ in streams}
        for name, x in streams:
            one, attn = modulations[name][0], getattr(self, f"{name}_attn")
            x = getattr(self, f"{name}_norm1")(x) * (1 + one.scale) + one.shift
            q, k, v = split_heads(attn.qkv(x), self.num_heads)
            found.append((*attn.norm(q, k, v), v))
        q, k, v = (torch.cat(pair, dim=2) for pair in zip(*found, strict=True))
        both = attention(q, k, v, pe).split([txt.shape[1], img.shape[1]], dim=1)
        out = {}
        for (name, x), attended in zip(streams, both, strict=True):
            one, two = modulations[name]
            x = x + one.gate * getattr(self, f"{name}_attn").proj(attended)
            y = getattr(self, f"{name}_norm2")(x) * (1 + two.scale) + two.shift
            out[name] = x + two.gate * getattr(self, f"{name}_mlp")(y)
        return out["img"], out["txt"]


class SingleBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim, self.heads = dim, heads
        self.linear1, self.linear2 = nn.Linear(dim, 7 * dim), nn.Linear(5 * dim, dim)
        self.norm, self.pre_norm = QKNorm(dim // heads), plain_norm(dim)
        self.modulation = Modulator(dim, 3)

    def forward(self, x: Tensor, *, vec: Tensor, pe: Tensor) -> Tensor:
        mod, _ = self.modulation(vec)
        fused, mlp = self.linear1(self.pre_norm(x) * (1 + mod.scale) + mod.shift).split(
            [3 * self.dim, 4 * self.dim], dim=-1
        )
        q, k, v = split_heads(fused, self.heads)
        attended = attention(*self.norm(q, k, v), v, pe)
        return x + mod.gate * self.linear2(
            torch.cat([attended, F.gelu(mlp, approximate="tanh")], 2)
        )


class Embedder(nn.Module):
    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(size, dim), nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.out_layer(F.silu(self.in_layer(x)))


class LastLayer(nn.Module):
    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, out)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, vec: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(vec)[:, None].chunk(2, dim=-1)
        return self.linear(F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift)


class Positions(nn.Module):
    def __init__(self, axes_dim: list[int]) -> None:
        super().__init__()
        self.axes_dim = axes_dim

    def forward(self, ids: Tensor) -> Tensor:
        parts = []
        for axis, size in enumerate(self.axes_dim):
            omega = 1.0 / 10000 ** (torch.arange(0, size, 2, dtype=torch.float64) / size)
            angle = ids[..., axis, None].double() * omega
            cos, sin = angle.cos(), angle.sin()
            parts.append(torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2)))
        return torch.cat(parts, dim=-3).float().unsqueeze(1)


class Flux(nn.Module):
    """Packed latents in, velocity out: the method that ComfyUI calls ``forward_orig``."""

    def __init__(self, sizes: dict[str, Any]) -> None:
        super().__init__()
        dim, heads = sizes["hidden_size"], sizes["num_heads"]
        self.hidden_size = dim
        self.pe_embedder = Positions(sizes["axes_dim"])
        self.img_in = nn.Linear(sizes["in_channels"], dim)
        self.txt_in = nn.Linear(sizes["context_in_dim"], dim)
        self.time_in, self.vector_in = Embedder(256, dim), Embedder(sizes["vec_in_dim"], dim)
        self.double_blocks = nn.ModuleList(DoubleBlock(dim, heads) for _ in range(sizes["depth"]))
        self.single_blocks = nn.ModuleList(
            SingleBlock(dim, heads) for _ in range(sizes["depth_single_blocks"])
        )
        self.final_layer = LastLayer(dim, sizes["in_channels"])

    def forward_orig(
        self,
        img: Tensor,
        img_ids: Tensor,
        txt: Tensor,
        txt_ids: Tensor,
        timesteps: Tensor,
        y: Tensor,
        transformer_options: dict[str, Any],
    ) -> Tensor:
        img, txt = self.img_in(img), self.txt_in(txt)
        rates = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        angles = 1000 * timesteps[:, None] * rates
        vec = self.time_in(torch.cat([angles.cos(), angles.sin()], -1)) + self.vector_in(y)
        pe = self.pe_embedder(torch.cat([txt_ids, img_ids], dim=1))
        hooks = transformer_options.get("patches_replace", {}).get("dit", {})
        for index, block in enumerate(self.double_blocks):
            args = {"img": img, "txt": txt, "vec": vec, "pe": pe, "attn_mask": None}
            if ("double_block", index) in hooks:

                def original(args: dict[str, Any], block: Any = block) -> dict[str, Any]:
                    out = block(**{n: args[n] for n in ("img", "txt", "vec", "pe")})
                    return {"img": out[0], "txt": out[1]}

                out = hooks["double_block", index](
                    {**args, "transformer_options": transformer_options},
                    {"original_block": original},
                )
                img, txt = out["img"], out["txt"]
            else:
                img, txt = block(**args)
        x = torch.cat([txt, img], 1)
        for block in self.single_blocks:
            x = block(x, vec=vec, pe=pe)
        return self.final_layer(x[:, txt.shape[1] :], vec)

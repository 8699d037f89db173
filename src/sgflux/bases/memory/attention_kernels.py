"""Which of PyTorch's attention kernels compute gradients."""

from __future__ import annotations

import contextlib

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


def without_cudnn() -> contextlib.AbstractContextManager[object]:
    """Allow every attention kernel but cuDNN's; forward and backward passes both run inside.

    On an H200 with PyTorch 2.11, which prefers cuDNN there, the backward pass of cuDNN's bf16
    attention gave NaN under a mask, which graph tokens need (pytorch/pytorch issue 196678), and
    ended with an illegal memory access in FLUX's blocks without one.
    """
    return sdpa_kernel(
        [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    )


def attention_kernel(
    device: torch.device, *, dtype: torch.dtype = torch.float32, tokens: int = 0
) -> contextlib.AbstractContextManager[object]:
    """Choose the attention kernels of adapter training; both passes run inside.

    Gradient checkpointing computes the forward again within the backward. On a CPU PyTorch chooses,
    except for short sequences in bf16: there the fused kernel's backward pass takes twice as long
    as the plain formula.

    Args:
        device: Device that trains.
        dtype: Precision of the arithmetic.
        tokens: Number of text and image tokens of an example.
    """
    if device.type != "cpu":
        return without_cudnn()
    plain = dtype == torch.bfloat16 and tokens < _SHORT_SEQUENCE
    return sdpa_kernel(SDPBackend.MATH) if plain else contextlib.nullcontext()


_SHORT_SEQUENCE = 192
"""Number of tokens from which the fused kernel has larger blocks and the faster backward pass."""

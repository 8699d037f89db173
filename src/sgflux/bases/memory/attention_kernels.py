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


def attention_kernel(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Choose the attention kernels of adapter training; both passes run inside.

    Gradient checkpointing computes the forward again within the backward. On a CPU, attention is
    its plain formula, since the fused kernel's backward pass in bf16 takes several times longer.

    Args:
        device: Device that trains.
    """
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else without_cudnn()

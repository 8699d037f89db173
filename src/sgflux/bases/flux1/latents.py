"""Latents as the transformer's tokens, and where the tokens are.

Shapes: B batch; latents (B, 16, h, w); packed 2 by 2 they are (B, h/2 * w/2, 64).
"""

from __future__ import annotations

import torch
from torch import Tensor


def pack_latents(latents: Tensor) -> Tensor:
    """Patches of 2 by 2 latent pixels as tokens: (B, C, h, w) -> (B, h/2 * w/2, 4C).

    Raises:
        ValueError: if h or w is odd.
    """
    batch, channels, height, width = latents.shape
    if height % 2 or width % 2:
        raise ValueError(f"latents must have even height and width, got {height} by {width}")
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack_latents(tokens: Tensor, height: int, width: int) -> Tensor:
    """Undo :func:`pack_latents`: (B, height/2 * width/2, 4C) -> (B, C, height, width).

    Args:
        tokens: packed latents.
        height: Height in latent pixels, even.
        width: Width in latent pixels, even.

    Raises:
        ValueError: if the tokens do not fill that size.
    """
    batch, count, channels = tokens.shape
    if height % 2 or width % 2 or count != (height // 2) * (width // 2):
        raise ValueError(f"{count} tokens do not fill latents of {height} by {width}")
    patches = tokens.reshape(batch, height // 2, width // 2, channels // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, channels // 4, height, width)


def image_ids(rows: int, columns: int) -> Tensor:
    """Positions of packed image tokens, (rows * columns, 3) float32: (0, row, column)."""
    ids = torch.zeros(rows, columns, 3)
    ids[..., 1] = torch.arange(rows)[:, None]
    ids[..., 2] = torch.arange(columns)[None, :]
    return ids.reshape(-1, 3)


def text_ids(length: int) -> Tensor:
    """Positions of text tokens, (length, 3) float32: FLUX puts them all at 0."""
    return torch.zeros(length, 3)


def place_ids(centers: Tensor, placed: Tensor, *, last: Tensor) -> Tensor:
    """Positions of tokens that belong to places of the picture, (B, G, 3) float32.

    The center of the image token in row r is at r + 0.5 rows, so a place there has the id r. A
    token without a place has the position of the text, 0.

    Args:
        centers: Centers (x, y) in shares of the picture's sides, (B, G, 2).
        placed: True at tokens that have a place, (B, G) bool.
        last: Position of the last image token, (3,).
    """
    places = centers.float().flip(-1) * (last[1:] + 1) - 0.5
    places = places.masked_fill(~placed[..., None], 0.0)
    return torch.cat([torch.zeros_like(places[..., :1]), places], dim=-1)


def token_places(tokens: int, *, last: Tensor) -> Tensor:
    """Centers (x, y) of image tokens in shares of the picture's sides, (S, 2) float32.

    Args:
        tokens: Number of image tokens, S.
        last: Position of the last image token, (3,).
    """
    rows, columns = (last[1:] + 1).float()
    row, column = _rows_and_columns(tokens, columns)
    return torch.stack([(column + 0.5) / columns, (row + 0.5) / rows], dim=-1)


def _rows_and_columns(tokens: int, columns: Tensor) -> tuple[Tensor, Tensor]:
    place = torch.arange(tokens, device=columns.device)
    row = torch.div(place, columns, rounding_mode="floor")
    return row, place - row * columns


def coverage(boxes: Tensor, *, tokens: int, last: Tensor) -> Tensor:
    """Which share of each image token's place lies in each box, (B, G, S) float32.

    Args:
        boxes: Boxes (center x, center y, width, height) in shares of the picture's sides,
            (B, G, 4).
        tokens: Number of image tokens, S.
        last: Position of the last image token, (3,).
    """
    rows, columns = (last[1:] + 1).float()
    row, column = _rows_and_columns(tokens, columns)
    center_x, center_y, width, height = boxes.float()[..., None].unbind(-2)

    def inside(center: Tensor, length: Tensor, count: Tensor, start: Tensor) -> Tensor:
        """Share of the places from ``start`` to ``start + 1`` that lies in the box's extent."""
        first, end = (center - length / 2) * count, (center + length / 2) * count
        return (torch.minimum(end, start + 1) - torch.maximum(first, start)).clamp(min=0)

    return inside(center_x, width, columns, column) * inside(center_y, height, rows, row)

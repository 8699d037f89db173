"""Pictures that browsers fetch: kept in memory, each under an address that nobody can guess."""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from sgflux.data.pictures import picture_bytes
from sgflux.errors import SgfluxError

ROUTE = "/sgflux/pictures"
"""Beginning of the pictures' addresses."""


def jpeg_bytes(image: np.ndarray | Image.Image) -> bytes:
    """Return an RGB picture as JPEG."""
    content = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(content, format="JPEG", quality=88, subsampling=0)
    return content.getvalue()


class Gallery:
    """Bytes and media types of pictures by token; a token is a secret of the client that has it."""

    def __init__(self) -> None:
        """Begin without pictures."""
        self._kept: dict[str, tuple[bytes, str]] = {}

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._kept)

    def png(self, image: Image.Image, record: dict[str, Any]) -> str:
        """Keep a PNG that says how it was made; returns its address."""
        return self._keep(picture_bytes(image, record), "image/png")

    def jpeg(self, image: np.ndarray | Image.Image) -> str:
        """Keep a small JPEG, for a preview or a heat map; returns its address."""
        return self._keep(jpeg_bytes(image), "image/jpeg")

    def get(self, token: str) -> tuple[bytes, str]:
        """Return a picture and its media type.

        Raises:
            SgfluxError: if there is none under the token.
        """
        if token not in self._kept:
            raise SgfluxError("there is no such picture (any more)")
        return self._kept[token]

    def drop(self, addresses: Iterable[str]) -> None:
        """Forget pictures."""
        for address in addresses:
            self._kept.pop(address.rpartition("/")[2], None)

    def _keep(self, content: bytes, media_type: str) -> str:
        token = secrets.token_urlsafe(24)
        self._kept[token] = content, media_type
        return f"{ROUTE}/{token}"

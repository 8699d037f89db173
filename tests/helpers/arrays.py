"""Training arrays of examples, encoded in memory or through a store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

from sgflux.data.cache.arrays import TrainingArrays
from sgflux.data.cache.encoding import Encoders, EncodingPlan
from sgflux.data.cache.store import CacheStore
from sgflux.data.examples import SceneExample


def prepare_training_arrays(
    examples: Iterable[SceneExample],
    *,
    store: CacheStore | None = None,
    encode_images: Callable[[Tensor], tuple[Tensor, Tensor]],
    encode_text: Callable[[list[str]], Any],
    batch_size: int = 16,
    **settings: Any,
) -> TrainingArrays:
    """Encode every different picture and prompt once, or take it from the store."""
    encoders = Encoders(images=encode_images, text=encode_text, batch_size=batch_size)
    plan = EncodingPlan(examples, **settings)
    if store is None:
        return plan.in_memory(encoders)
    plan.fill(store, encoders)
    return plan.opened(store)

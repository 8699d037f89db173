"""What the hub's errors mean, and what to do about them."""

from __future__ import annotations

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from sgflux.files.writing import disk_error, write_error


def why_not_loaded(
    error: BaseException, model_id: str, *, allow_download: bool, revision: str | None = None
) -> str:
    """What went wrong with the hub, or a folder, and what to do about it, in one line."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if (full := disk_error(error)) is not None:
        return str(write_error(full.filename or constants.HF_HUB_CACHE, full))
    text = " ".join(map(str, chain))
    if any(isinstance(one, GatedRepoError) for one in chain) or "gated repo" in text:
        return (
            f"its licence must be accepted first, at https://huggingface.co/{model_id}; then log "
            "in with `hf auth login`"
        )
    if any(isinstance(one, RevisionNotFoundError) for one in chain):
        return f"the repository has no revision {revision!r}; give one of its branches or commits"
    if any(isinstance(one, RepositoryNotFoundError) for one in chain):
        return (
            "the hub has no such repository, or a private one; check its name, and log in with "
            "`hf auth login` if it is private"
        )
    if not allow_download and any(isinstance(one, LocalEntryNotFoundError) for one in chain):
        what = "it" if revision is None else f"its revision {revision!r}"
        return (
            f"{what} is not, or not wholly, in the hub's cache on this machine; allow downloads "
            f"(--allow-download), or fetch it with `hf download {model_id}"
            + (f" --revision {revision}`" if revision is not None else "`")
        )
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    if allow_download:
        return reason
    return (
        f"{reason}; only this machine was searched. To fetch it from the hub, allow downloads "
        "(--allow-download)"
    )

"""The Hugging Face hub: a base's folder, and bundles that are published or were."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from sgflux.errors import SgfluxError, first_line
from sgflux.models.bundle import load_bundle, read_config
from sgflux.models.bundle_folder import read_base


def base_of(bundle: Path) -> tuple[str, str | None]:
    """The base that a bundle's adapter was trained on: ``tiny`` or a hub id, and its revision.

    Bundles of earlier versions do not say it; FLUX.1-schnell is meant where the sizes are its own.

    Raises:
        SgfluxError: if the bundle cannot say it, or cannot be read.
    """
    record = read_base(bundle)
    if record is not None and record.model_id is not None:
        return record.model_id, record.revision
    config = read_config(bundle)
    usual = config.family.hub_id(config.base)
    if record is None and usual is not None:
        return usual, None
    what = f"its folder or file was called {record.name!r}" if record else "it is an older bundle"
    raise SgfluxError(
        f"{bundle} does not say where its base model is ({what}); name it with --model-id "
        "(model_id): a hub id, a diffusers folder, or 'tiny'"
    )


def push_to_hub(
    directory: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool = False,
    message: str = "Add a scene-graph adapter",
    api: Any = None,
) -> str:
    """Upload a bundle, which must be whole; nothing is uploaded otherwise.

    Args:
        directory: the bundle's folder.
        repo_id: ``user/name`` on the hub; made if it is not there.
        private: make it private, if it is made.
        message: Message of the commit.
        api: a ``huggingface_hub.HfApi``; None: one with the token that this machine is logged in
            with.

    Returns:
        The repository's address.

    Raises:
        SgfluxError: if the folder is no bundle, or the hub refuses.
    """
    load_bundle(directory)  # what cannot be loaded here could not be loaded there
    api = HfApi() if api is None else api
    try:
        address = api.create_repo(
            repo_id=repo_id, repo_type="model", private=private, exist_ok=True
        )
        api.upload_folder(
            repo_id=repo_id,
            repo_type="model",
            folder_path=str(Path(directory)),
            commit_message=message,
        )
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError) as error:
        raise SgfluxError(
            f"{directory} cannot be published as {repo_id!r}: {first_line(error)}. "
            "Log in with `hf auth login`, with a token that may write to that repository"
        ) from error
    return str(address)

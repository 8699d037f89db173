"""``sgflux doctor``: facts about a machine for an issue report, without secrets."""

from __future__ import annotations

import importlib.metadata
import locale
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import sgflux
from sgflux.versions import installed_versions

_LIBRARIES = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors", "numpy")
_OPTIONAL = {
    "torchao": "quantize",
    "bitsandbytes": "nf4",
    "onnxruntime": "detect",
    "torchmetrics": "quality",
}
_VARIABLES = (
    "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "PYTORCH_CUDA_ALLOC_CONF",
    "ACCELERATE_MIXED_PRECISION",
    "SGFLUX_DIGEST_CACHE",
)
"""Variables that explain a run; none of them can hold a token."""


def doctor_lines() -> list[str]:
    """One line for each fact, "name: value"."""
    facts = {**_versions(), **_devices(), **_places(), **_terminal()}
    width = max(map(len, facts)) + 1
    return [f"{name + ':':<{width}} {value}" for name, value in facts.items()]


def _versions() -> dict[str, str]:
    found = installed_versions(_LIBRARIES)
    extras = [
        f"{name} {_version(name) or f'missing (sgflux[{extra}])'}"
        for name, extra in _OPTIONAL.items()
    ]
    return {
        "sgflux": f"{sgflux.__version__} in {_short(Path(sgflux.__file__).parent)}",
        "python": f"{platform.python_version()} in {_short(Path(sys.executable))}",
        "system": platform.platform(),
        "libraries": ", ".join(f"{name} {version}" for name, version in found.items()),
        "optional": ", ".join(extras),
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    import psutil
    import torch

    memory = psutil.virtual_memory()
    facts = {
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} "
        "torch threads",
        "memory": f"{_gib(memory.available)} of {_gib(memory.total)} free",
    }
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for number in range(count):
        free, total = torch.cuda.mem_get_info(number)
        facts[f"cuda:{number}"] = (
            f"{torch.cuda.get_device_name(number)}, {_gib(free)} of {_gib(total)} free"
        )
    if not count:
        built = torch.version.cuda
        facts["cuda"] = f"none seen; torch is built for {f'CUDA {built}' if built else 'no CUDA'}"
    if torch.backends.mps.is_available():
        facts["mps"] = "available"
    return facts


def _places() -> dict[str, str]:
    from huggingface_hub import constants

    from sgflux.bases.digests import digest_memory

    hub, here = Path(constants.HF_HUB_CACHE), Path.cwd()
    facts = {}
    for name, folder in (("hub cache", hub), ("working folder", here)):
        existing = next((at for at in (folder, *folder.parents) if at.exists()), None)
        free = "" if existing is None else f", {_gib(shutil.disk_usage(existing).free)} free"
        facts[name] = f"{_short(folder)}{'' if folder.is_dir() else ' (not there)'}{free}"
    if hub.is_dir():
        models = [path.name for path in hub.glob("models--*") if "flux" in path.name.lower()]
        names = sorted(name.removeprefix("models--").replace("--", "/") for name in models)
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        facts["FLUX there"] = ", ".join(names[:4]) + more if names else "none"
    digests = digest_memory()
    facts["digest cache"] = "off" if digests is None else _short(digests)
    return facts


def _terminal() -> dict[str, str]:
    said = [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]
    return {
        "output": f"{sys.stdout.encoding}, files {locale.getpreferredencoding(False)}, "
        f"{'a terminal' if sys.stdout.isatty() else 'no terminal'}",
        "variables": ", ".join(said) if said else "none that matter",
    }


def _short(path: Path, *, environment: Mapping[str, str] | None = None) -> str:
    """Return a path without the user's name in it."""
    for home, sign in _homes(os.environ if environment is None else environment):
        if path == home or home in path.parents:
            return str(Path(sign) / path.relative_to(home))
    return str(path)


def _homes(environment: Mapping[str, str]) -> Iterator[tuple[Path, str]]:
    for name in ("HOME", "USERPROFILE"):
        if environment.get(name):
            yield Path(environment[name]), "~"
    # Somebody else's home, like that of the user who made the environment.
    for root in (Path("/home"), Path("/Users"), Path("C:/Users")):
        if root.is_dir():
            yield from ((home, str(root / "...")) for home in root.iterdir())


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"

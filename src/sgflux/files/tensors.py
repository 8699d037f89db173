"""Reading of weights from files that somebody else wrote."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sgflux.errors import SgfluxError, first_line
from sgflux.files.reading import naming_unreadable
from sgflux.files.weights_header import explain_other_file, read_header

_DEEPEST = 32

Shape = tuple[int, ...]
Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def naming_damage(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of a block that reads a ``.safetensors`` file into one line.

    Raises:
        SgfluxError: naming the file, what is wrong with it, and what to do.
    """
    with naming_unreadable(path):
        try:
            yield
        except SafetensorError as error:
            read_header(path)  # which says what is wrong
            raise SgfluxError(f"{path}: cannot be read: {error}") from error


def read_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a ``.safetensors`` file, onto the CPU.

    Raises:
        SgfluxError: naming the file, if it cannot be read.
    """
    with naming_damage(path):
        return load_file(path)


def read_torch_file(path: str | os.PathLike[str]) -> Any:
    """Read a ``.pt`` file that holds tensors and plain containers alone, onto the CPU.

    Raises:
        SgfluxError: if it is damaged, would run code, or has a tensor that is larger than what
            the file stores of it.
    """
    with naming_unreadable(path):
        with Path(path).open("rb") as file:
            explain_other_file(Path(path), file.read(256), may_be_zip=True)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (
            # A damaged file makes the unpickler stumble in any of these ways.
            *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
            *(RuntimeError, TypeError, ValueError, pickle.UnpicklingError),
        ) as error:
            raise SgfluxError(
                f"{path}: is no checkpoint of weights alone: {torch_reason(error)}"
            ) from error
    _expect_stored(path, content, depth=0)
    return content


def torch_reason(error: Exception) -> str:
    """Return why ``torch.load`` refused a file, without its advice to load it unsafely.

    Args:
        error: The error of ``torch.load(..., weights_only=True)``.
    """
    if isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error):
        return "torch.save did not write it, or it holds more than tensors and plain containers"
    return first_line(error)


def _expect_stored(path: str | os.PathLike[str], content: Any, *, depth: int) -> None:
    """Refuse tensors that repeat a few stored numbers: a copy of one could fill the memory."""
    if depth > _DEEPEST:
        raise SgfluxError(f"{path}: nests its content deeper than {_DEEPEST} levels")
    if isinstance(content, Tensor):
        if content.layout != torch.strided or content.device.type != "cpu":
            raise SgfluxError(f"{path}: has a {content.layout} tensor on {content.device}")
        if content.nbytes > content.untyped_storage().nbytes():
            raise SgfluxError(
                f"{path}: has a tensor of {tuple(content.shape)}, of which the file stores "
                f"{content.untyped_storage().nbytes():,} bytes only"
            )
    elif isinstance(content, Mapping | list | tuple):
        for value in content.values() if isinstance(content, Mapping) else content:
            _expect_stored(path, value, depth=depth + 1)


def shapes_of(tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
    """Return the shapes of tensors by their names."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def check_shapes(
    found: Mapping[str, Shape],
    needed: Mapping[str, Shape],
    *,
    where: str | os.PathLike[str],
    why: str = "such a model has",
) -> None:
    """Check that weights are exactly those that are needed.

    Args:
        found: Shapes of the weights by name.
        needed: Shapes that are needed by name.
        where: Name of the file, for the message.
        why: Subject and verb of the need, like "such a model has".

    Raises:
        SgfluxError: naming the first weight that is missing, unknown, or of another shape.
    """
    differing = [name for name in {**needed, **found} if needed.get(name) != found.get(name)]
    if differing:
        name, more = differing[0], len(differing) - 1
        problem = f"{name} is {found.get(name, 'missing')}, but {why} {needed.get(name, 'none')}"
        raise SgfluxError(f"{where}: {problem}" + (f" (and {more} more differ)" if more else ""))


def module_from_state(
    make: Callable[[], Module], state: Mapping[str, Tensor], *, where: str
) -> Module:
    """Make a module with the weights of ``state``, whose sizes a file may state wrongly.

    It is made without memory first, and its weights' names and shapes are compared with the file's:
    sizes that no file backs are refused before anything is allocated.

    Args:
        make: Function that makes the module.
        state: Weights by name; they become the module's own.
        where: Name of the file, for the message.

    Raises:
        SgfluxError: if the sizes are impossible, or the weights are those of another module.
    """
    try:
        with torch.device("meta"):
            module = make()
    except (AssertionError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise SgfluxError(f"{where}: states impossible sizes: {first_line(error)}") from error
    needed = shapes_of(module.state_dict())
    check_shapes(shapes_of(state), needed, where=f"{where}: wrong weights")
    module.load_state_dict(dict(state), assign=True)
    return module

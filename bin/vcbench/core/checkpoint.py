"""Opening official weight files strictly: no code runs, every tensor is accounted for, every problem is one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core.errors import InputError

if TYPE_CHECKING:
    import torch

_LFS_POINTER = b"version https://git-lfs"


def where_to_get(entry: Mapping[str, Any], folder: Path | str) -> str:
    """Return the sentence that tells a user how to obtain the weights of a catalogue entry."""
    weights = entry["weights"]
    revision = f" (revision {weights['revision']})" if weights.get("revision") else ""
    return f"get {', '.join(weights['files'])} from {weights['source']}{revision} and put them into {folder}"


def folder_of(path: Path | str, entry: Mapping[str, Any]) -> Path:
    """Return the weights folder of a catalogue entry: ``path/<folder of the catalogue>``, or ``path`` itself.

    ``path`` itself counts when it holds one of the entry's files. Raises :class:`InputError` with the place to get the
    weights when neither is there.
    """
    root = Path(path)
    below = root / entry["weights"]["folder"]
    if below.is_dir():
        return below
    if any((root / name).exists() for name in entry["weights"]["files"]):
        return root
    raise InputError(f"weights of {entry['title']} not found", where=str(below), hint=where_to_get(entry, below))


def find_file(folder: Path, names: Sequence[str], hint: str) -> Path:
    """Return the first of ``names`` that exists in ``folder``; raises :class:`InputError` when none does."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError("weights file not found", where=str(folder), expected=" or ".join(names), hint=hint)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one file, not yet read into memory where the format allows it.

    Attributes
    ----------
    path
        The file.
    shapes, dtypes
        Shape and torch dtype name (``"float32"``) of every tensor, by name.
    """

    path: Path
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    _tensors: Mapping[str, Any] = field(repr=False)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor as stored."""
        return self._tensors[name]


def read(path: Path, hint: str) -> Checkpoint:
    """Open a ``.safetensors`` file or a torch archive (``.bin``, ``.pt``; tensors only, code in it is refused).

    Raises :class:`InputError` for a file that is damaged, cut short, a Git LFS pointer or not a file of tensors.
    """
    with open(path, "rb") as handle:
        if handle.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise InputError(
                "a Git LFS pointer, not the weights", where=str(path), hint=f"run 'git lfs pull', or {hint}"
            )
    tensors = _read_safetensors(path, hint) if path.suffix == ".safetensors" else _read_torch(path, hint)
    return Checkpoint(
        path,
        {name: tuple(value.shape) for name, value in tensors.items()},
        {name: str(value.dtype).removeprefix("torch.") for name, value in tensors.items()},
        tensors,
    )


def _read_safetensors(path: Path, hint: str) -> Mapping[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)  # memory-mapped
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            "damaged or incomplete safetensors file", where=str(path), found=_size_facts(path) or error, hint=hint
        ) from error


def _size_facts(path: Path) -> str:
    """Return what a cut-off safetensors file holds and should hold, or nothing when its header is unreadable."""
    size = path.stat().st_size
    try:
        with open(path, "rb") as handle:
            (length,) = struct.unpack("<Q", handle.read(8))
            if length > size:
                return f"{size} bytes, header cut off"
            header = json.loads(handle.read(length))
        end = 8 + length + max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    except (struct.error, ValueError, KeyError, TypeError, AttributeError):
        return ""
    return "" if end == size else f"{size} bytes; its header announces {end}"


def _read_torch(path: Path, hint: str) -> Mapping[str, Any]:
    import pickle
    import zipfile

    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = (
            "it holds more than tensors, or is damaged" if zipfile.is_zipfile(path) else "damaged or not a torch file"
        )
        raise InputError(
            f"refused: {reason} (code in a weights file is never run)", where=str(path), hint=hint
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError("damaged or incomplete torch file", where=str(path), found=error, hint=hint) from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise InputError("not a plain mapping of names to tensors", where=str(path), hint=hint)
    return content


def check_tensors(
    checkpoint: Checkpoint, expected: Mapping[str, tuple[int, ...]], ignored: Sequence[str], hint: str
) -> None:
    """Raise :class:`InputError` unless the file holds exactly ``expected`` plus any of the ``ignored`` names.

    Missing and unexpected names are reported together, since a renamed tensor is one of each; then wrong shapes.
    """
    missing = sorted(set(expected) - set(checkpoint.shapes))
    unexpected = sorted(set(checkpoint.shapes) - set(expected) - set(ignored))
    if missing or unexpected:
        parts = [
            f"{kind}: {_some(names)}" for kind, names in (("missing", missing), ("unexpected", unexpected)) if names
        ]
        raise InputError(f"tensor names do not match ({'; '.join(parts)})", where=str(checkpoint.path), hint=hint)
    for name, shape in expected.items():
        if checkpoint.shapes[name] != tuple(shape):
            raise InputError(
                f"wrong shape of {name}",
                where=str(checkpoint.path),
                found=checkpoint.shapes[name],
                expected=tuple(shape),
                hint=hint,
            )


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

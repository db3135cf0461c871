"""Opening official weight files strictly: no code runs, every tensor is accounted for, every problem is one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core.errors import InputError
from vcbench.core.torch_archive import TorchArchive

if TYPE_CHECKING:
    import torch

_LFS_POINTER = b"version https://git-lfs"

#: Weight files of a Hugging Face folder, the preferred one first; an index lists the shards beside it.
HUGGING_FACE = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
)  # fmt: skip


#: Types of weights in published checkpoints; whole numbers would be a quantised network, which is another network.
FLOATS = ("float64", "float32", "float16", "bfloat16")

#: Beside converted weights (`vcbench.encoders.plm.convert`): their record.
CONVERSION_RECORD = "conversion.json"


def where_to_get(entry: Mapping[str, Any], folder: Path | str) -> str:
    """Return the sentence that tells a user how to obtain the weights of a catalogue entry."""
    weights = entry["weights"]
    ways = []
    for way in (weights, weights["or"]) if "or" in weights else (weights,):
        revision = f" (revision {way['revision']})" if way.get("revision") else ""
        wanted = ", ".join(" or ".join(alternatives(item)) for item in way["files"])
        ways.append(f"{wanted} from {way['source']}{revision}")
    return f"get {'; or '.join(ways)}, into the folder {folder}"


def alternatives(item: str) -> list[str]:
    """Return the file names of an item of the catalogue's `files`; ``a | b`` means that one of them is enough."""
    return [name.strip() for name in item.split("|")]


def wanted_files(entry: Mapping[str, Any]) -> list[str]:
    """Return every file name of the catalogue's `files`, those of the other way (`or`) included."""
    items = [*entry["weights"]["files"], *entry["weights"].get("or", {}).get("files", [])]
    return [name for item in items for name in alternatives(item)]


def folder_of(path: Path | str, entry: Mapping[str, Any]) -> Path:
    """Return the weights folder of a catalogue entry: ``path/<folder of the catalogue>``, or ``path`` itself.

    ``path`` itself counts when it holds one of the entry's files, or converted weights. Raises :class:`InputError` with
    the place to get the weights when neither is there.
    """
    root = Path(path)
    below = root / entry["weights"]["folder"]
    if below.is_dir():
        return below
    if any((root / name).exists() for name in (*wanted_files(entry), CONVERSION_RECORD)):
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
    """The tensors of one or several files, read one at a time, so that memory holds no more than what is asked for.

    Attributes
    ----------
    path
        The file, or the index that lists the shards; what messages name.
    files
        All weight files, in the order in which they are best read.
    shapes, dtypes
        Shape and torch dtype name (``"float32"``) of every tensor, by name, in file order.
    extra
        What a torch archive holds beside its tensors, such as the training arguments; empty for other formats.
    hint
        Where to get the right files; for messages.
    """

    path: Path
    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    _file_of: dict[str, Path] = field(default_factory=dict, repr=False)
    _opened: dict[Path, TorchArchive] = field(default_factory=dict, repr=False)
    hint: str = ""

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor as stored, memory-mapped where possible; read in file order: one archive is kept open."""
        path = self._file_of[name]
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as handle:
                return handle.get_tensor(name)
        if path not in self._opened:
            self._opened.clear()
            self._opened[path] = TorchArchive(path, self.hint)
        return self._opened[path].tensor(name)


def read_folder(folder: Path, hint: str, names: Sequence[str] = HUGGING_FACE) -> Checkpoint:
    """Open the first of ``names`` that ``folder`` holds, with all its shards when it is an index."""
    path = find_file(folder, names, hint)
    return _read_shards(path, hint) if path.name.endswith(".index.json") else read(path, hint)


def read(path: Path, hint: str) -> Checkpoint:
    """Open a ``.safetensors`` file or a torch archive (``.bin``, ``.pt``; tensors only, code in it is refused).

    Raises :class:`InputError` for a file that is damaged, cut short, a Git LFS pointer or not a file of tensors.
    """
    try:
        with open(path, "rb") as handle:
            start = handle.read(len(_LFS_POINTER))
    except OSError as error:
        raise InputError("cannot be read", where=str(path), found=error.strerror, hint=hint) from error
    if start == _LFS_POINTER:
        raise InputError("a Git LFS pointer, not the weights", where=str(path), hint=f"run 'git lfs pull', or {hint}")
    if path.suffix == ".safetensors":
        shapes, dtypes = _safetensors_header(path, hint)
        return Checkpoint(path, (path,), shapes, dtypes, {}, dict.fromkeys(shapes, path), hint=hint)
    archive = TorchArchive(path, hint)
    return Checkpoint(
        path,
        (path,),
        {name: tuple(value.shape) for name, value in archive.tensors.items()},
        {name: str(value.dtype).removeprefix("torch.") for name, value in archive.tensors.items()},
        archive.extra,
        dict.fromkeys(archive.tensors, path),
        {path: archive},
        hint,
    )


def _read_shards(index: Path, hint: str) -> Checkpoint:
    """Open every shard an index names; each must hold exactly the tensors the index says."""
    try:
        listed = json.loads(index.read_text())["weight_map"]
        wanted: dict[str, set[str]] = {}
        for name, shard in listed.items():
            wanted.setdefault(shard, set()).add(name)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("not an index of shards", where=str(index), found=repr(error), hint=hint) from error
    for shard in wanted:
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise InputError("a shard must be a file beside the index", where=str(index), found=repr(shard), hint=hint)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    file_of: dict[str, Path] = {}
    for shard in sorted(wanted):
        path = index.parent / shard
        if not path.is_file():
            raise InputError(f"shard {shard} is missing", where=str(index), hint=hint)
        part = read(path, hint)
        if set(part.shapes) != wanted[shard]:
            different = sorted(set(part.shapes) ^ wanted[shard])
            raise InputError(
                f"the shard does not hold what {index.name} says", where=str(path), found=_some(different), hint=hint
            )
        shapes |= part.shapes
        dtypes |= part.dtypes
        file_of |= dict.fromkeys(part.shapes, path)
    paths = tuple(index.parent / name for name in sorted(wanted))
    return Checkpoint(index, paths, shapes, dtypes, {}, file_of, hint=hint)


_SAFETENSORS_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


def _safetensors_header(path: Path, hint: str) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    from safetensors import SafetensorError, safe_open

    shapes, dtypes = {}, {}
    try:
        with safe_open(path, framework="pt") as handle:
            for name in handle.offset_keys():
                part = handle.get_slice(name)
                shapes[name] = tuple(part.get_shape())
                dtypes[name] = _SAFETENSORS_DTYPES.get(part.get_dtype(), part.get_dtype())
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise InputError(
            "damaged or incomplete safetensors file", where=str(path), found=_size_facts(path) or error, hint=hint
        ) from error
    return shapes, dtypes


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
                f"wrong shape of {name}", where=str(checkpoint.path), found=checkpoint.shapes[name],
                expected=tuple(shape), hint=hint,
            )  # fmt: skip


def check_types(checkpoint: Checkpoint, names: Iterable[str], hint: str) -> None:
    """Raise :class:`InputError` unless the tensors are stored as floating-point numbers of 16 bits or more."""
    for name in names:
        if checkpoint.dtypes[name] not in FLOATS:
            raise InputError(
                f"{name} is not stored as floating-point numbers (a quantised file?)", where=str(checkpoint.path),
                found=checkpoint.dtypes[name], expected=" or ".join(FLOATS), hint=hint,
            )  # fmt: skip


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

"""Weights of a protein language model: an official checkpoint, or its one-off conversion, behind one face.

An official checkpoint is described by its family (`vcbench.encoders.<family>.network.describe`), which accounts for
every tensor without reading any. A converted folder (`vcbench.encoders.plm.convert`) holds the tensors of the encoder
only, in the compute type. Both give the same :class:`Weights`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file

if TYPE_CHECKING:
    import torch

#: Types a network may compute in; what a family lists in `keep_float32` stays in fp32 whatever the choice.
DTYPES = ("float32", "bfloat16")

#: The two files of a converted folder.
CONVERTED, RECORD = "encoder.safetensors", "conversion.json"


@dataclass(frozen=True)
class Official:
    """An official checkpoint that fits its architecture; nothing is read yet.

    Attributes
    ----------
    checkpoint
        The open files.
    config
        All that building the network needs besides tensors (sizes, vocabulary ...); plain JSON.
    tensors
        {tensor of our network: stored tensor}; a stored tensor that merely repeats another one counts as unused.
    unused
        {stored tensor: why it is not needed}.
    official_size
        False for other sizes than the published ones (tests).
    keep_float32
        Tensors of our network that stay fp32 in every compute type (rotary frequencies).
    """

    checkpoint: files.Checkpoint
    config: dict[str, Any]
    tensors: dict[str, str]
    unused: dict[str, str]
    official_size: bool
    keep_float32: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Weights:
    """Tensors of a network in the compute type, read one at a time.

    `used` is {stored tensor: shape}, `unused` {stored tensor: reason}; `facts` goes into the provenance.
    """

    folder: Path
    config: Mapping[str, Any]
    dtype: str
    used: Mapping[str, tuple[int, ...]]
    unused: Mapping[str, str]
    facts: Mapping[str, Any]
    _source: Any = field(repr=False)
    _keep_float32: frozenset[str] = frozenset()
    _renamed: Mapping[str, str] | None = field(default=None, repr=False)

    @property
    def names(self) -> list[str]:
        """Names of the network's tensors."""
        return list(self._renamed or self._source.shapes)

    def tensor(self, name: str) -> torch.Tensor:
        """Return one tensor of the network in its compute type; raises :class:`InputError` for values not finite."""
        if self._renamed is None:
            return self._source.tensor(name)
        return cast(self._source, self._renamed[name], "float32" if name in self._keep_float32 else self.dtype)

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield every (name, tensor) in the order in which the files are best read."""
        for name in in_file_order(self._renamed, self._source) if self._renamed else self.names:
            yield name, self.tensor(name)

    def load_into(self, module: torch.nn.Module, device: str) -> None:
        """Fill a module built on the meta device; :class:`InputError` unless names and shapes fit exactly."""
        import torch

        state = {name: tensor.to(device) for name, tensor in self.tensors()}
        expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        found = {name: tuple(value.shape) for name, value in state.items()}
        if expected != found:
            wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
            raise InputError("tensors do not fit the network", where=str(self.folder), found=", ".join(wrong[:6]))
        module.load_state_dict(state, strict=True, assign=True)
        for name, buffer in module.named_buffers():
            if buffer.is_meta:
                raise InputError(f"buffer {name} has no value", where=str(self.folder))
        module.eval().requires_grad_(False).to(torch.device(device))


def family(entry: Mapping[str, Any]) -> ModuleType:
    """Return the module of an encoder's family, which has ``describe`` and ``build`` (see `plm.network`)."""
    return importlib.import_module(f"vcbench.encoders.{entry['family']}.network")


def in_file_order(tensors: Mapping[str, str], checkpoint: files.Checkpoint) -> list[str]:
    """Return our tensor names in the order in which the files store them."""
    place = {name: number for number, name in enumerate(checkpoint.shapes)}
    return sorted(tensors, key=lambda name: place[tensors[name]])


def cast(checkpoint: files.Checkpoint, name: str, dtype: str) -> torch.Tensor:
    """Return a stored tensor in another type; raises :class:`InputError` for values that are not finite."""
    import torch

    tensor = checkpoint.tensor(name).to(getattr(torch, dtype))
    if not torch.isfinite(tensor).all():
        raise InputError(f"{name} holds values that are not finite", where=str(checkpoint.path))
    return tensor


def check_hashes(folder: Path, entry: Mapping[str, Any], paths: tuple[Path, ...], hint: str) -> dict[str, str]:
    """Return {file: SHA-256}; raises :class:`InputError` when one differs from a known one.

    Known are the hashes in the catalogue (`weights.sha256`) and those in a file SHA256SUMS in the folder.
    """
    known = dict(entry["weights"].get("sha256", {}))
    sums = folder / "SHA256SUMS"
    if sums.is_file():
        for number, line in enumerate(sums.read_text().splitlines(), start=1):
            parts = line.split()
            if len(parts) != 2 or len(parts[0]) != 64:
                raise InputError("not a line of sha256sum", where=f"{sums}, line {number}", found=line)
            known.setdefault(parts[1].lstrip("*"), parts[0].lower())
    found = {path.name: sha256_file(path) for path in paths}
    for name, digest in found.items():
        if known.get(name, digest) != digest:
            raise InputError(
                "wrong SHA-256: damaged, or another version", where=str(folder / name), found=digest,
                expected=known[name], hint=hint,
            )  # fmt: skip
    return found


def open_weights(folder: Path, entry: Mapping[str, Any], dtype: str) -> Weights:
    """Return the weights in ``folder``, official or converted; raises :class:`InputError` for anything amiss.

    Parameters
    ----------
    dtype
        Compute type, one of :data:`DTYPES`; converted weights must have it already.
    """
    return _open_converted(folder, dtype) if (folder / RECORD).is_file() else _open_official(folder, entry, dtype)


def _open_official(folder: Path, entry: Mapping[str, Any], dtype: str) -> Weights:
    official = family(entry).describe(folder, entry)
    hashes = check_hashes(folder, entry, official.checkpoint.files, files.where_to_get(entry, folder))
    return Weights(
        folder,
        official.config,
        dtype,
        {name: official.checkpoint.shapes[name] for name in sorted(official.tensors.values())},
        dict(sorted(official.unused.items())),
        facts_of(official, dtype, hashes),
        official.checkpoint,
        official.keep_float32,
        official.tensors,
    )


def facts_of(official: Official, dtype: str, hashes: Mapping[str, str]) -> dict[str, Any]:
    """Return what the provenance says about the weights."""
    shapes = official.checkpoint.shapes
    return {
        "weights_sha256": dict(sorted(hashes.items())),
        "dtype_checkpoint": sorted({official.checkpoint.dtypes[name] for name in official.tensors.values()}),
        "dtype_compute": dtype,
        "official_size": official.official_size,
        "n_parameters": sum(_size(shapes[name]) for name in official.tensors.values()),
    }


def _size(shape: tuple[int, ...]) -> int:
    product = 1
    for side in shape:
        product *= side
    return product


def _open_converted(folder: Path, dtype: str) -> Weights:
    where, hint = str(folder), "delete this folder; the next run converts again"
    try:
        record = json.loads((folder / RECORD).read_text())
        config, digest = record["config"], record["sha256"]
        used = {name: tuple(shape) for name, shape in record["used"].items()}
        facts, unused = record["facts"], record["unused"]
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise InputError("not a record of converted weights", where=f"{where}/{RECORD}", hint=hint) from error
    if facts["dtype_compute"] != dtype:
        raise InputError(
            "weights converted to another type", where=where, found=facts["dtype_compute"], expected=dtype, hint=hint
        )
    path = files.find_file(folder, [CONVERTED], hint)
    if sha256_file(path) != digest:
        raise InputError("converted weights are damaged (wrong SHA-256)", where=str(path), hint=hint)
    return Weights(folder, config, dtype, used, unused, facts, files.read(path, hint))

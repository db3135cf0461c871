"""Weights of a protein language model: an official checkpoint, or its one-off conversion, behind one face.

An official checkpoint is described by its family (`vcbench.encoders.<family>.network.describe`), which accounts for
every tensor without reading any. A converted folder (`vcbench.encoders.plm.convert`) holds the tensors of the encoder
only, in the compute type. Both give the same :class:`Weights`.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from vcbench.core import checkpoint as files
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file
from vcbench.core.torch_archive import damaged_record

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

#: Types a network may compute in; what a family lists in `keep_float32` stays in fp32 whatever the choice.
DTYPES = ("float32", "bfloat16")

#: The two files of a converted folder; the record is written last. `FORMAT` changes with what they hold.
CONVERTED, RECORD = "encoder.safetensors", files.CONVERSION_RECORD
FORMAT = 1

#: Suffix of a file that is still being written.
PARTIAL = ".partial"

#: Values looked at together: bounds the memory of a look.
_PIECE = 1 << 20

CONVERT_AGAIN = "delete this folder; the next run converts again (by hand: vcb_convert_weights.py)"


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
    origin
        `url` and `revision` for the provenance when they are not those of the catalogue's entry (another layout).
    """

    checkpoint: files.Checkpoint
    config: dict[str, Any]
    tensors: dict[str, str]
    unused: dict[str, str]
    official_size: bool
    keep_float32: frozenset[str] = frozenset()
    origin: Mapping[str, Any] = field(default_factory=dict)


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

    return checked(checkpoint.tensor(name).to(getattr(torch, dtype)), name, checkpoint)


def checked(tensor: torch.Tensor, name: str, checkpoint: files.Checkpoint) -> torch.Tensor:
    """Return the tensor; raises :class:`InputError` for values that are not finite."""
    import torch

    # NaN and infinities show in the extremes, which take a tenth of the time of a look at every value
    pieces = tensor.reshape(-1).split(_PIECE) if tensor.numel() else ()
    if not all(torch.stack(torch.aminmax(piece)).isfinite().all() for piece in pieces):
        raise InputError(f"{name} holds values that are not finite", where=str(checkpoint.path), hint=checkpoint.hint)
    return tensor


def check_hashes(folder: Path, entry: Mapping[str, Any], paths: tuple[Path, ...], hint: str) -> dict[str, str]:
    """Return {weight file: SHA-256}; raises :class:`InputError` when a file is not what it should be.

    Known hashes are those in the catalogue (`weights.sha256`) and in a file SHA256SUMS in the folder, which may name
    further files (config.json). A torch archive without a known hash is held against its own checksums.
    """
    sums = _read_sums(folder / "SHA256SUMS")
    pinned = entry["weights"].get("sha256", {})
    if sums and (unnamed := [path.name for path in paths if path.name not in sums]):
        log.warning("%s names no %s (names without folders): not checked", folder / "SHA256SUMS", ", ".join(unnamed))
    also = [folder / name for name in {**pinned, **sums} if (folder / name).is_file() and folder / name not in paths]
    found = {path: sha256_file(path) for path in (*paths, *also)}
    for path, digest in found.items():
        expected = {known[path.name] for known in (pinned, sums) if path.name in known}
        if expected - {digest}:
            raise InputError(
                "wrong SHA-256: damaged, or another version", where=str(path), found=digest,
                expected=" and ".join(sorted(expected)), hint=hint,
            )  # fmt: skip
        if not expected and path in paths and (record := damaged_record(path)):
            raise InputError("damaged torch file (wrong checksum)", where=str(path), found=record, hint=hint)
    return {path.name: found[path] for path in paths}


def _read_sums(path: Path) -> dict[str, str]:
    """Return {file name: SHA-256} of a file as sha256sum writes it; nothing when there is none."""
    sums: dict[str, str] = {}
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else [], start=1):
        digest, _, name = line.strip().partition(" ")
        name = name.strip().removeprefix("*").removeprefix("./")
        if not line.strip():
            continue
        if re.fullmatch("[0-9a-fA-F]{64}", digest) is None or not name:
            raise InputError("not a line of sha256sum", where=f"{path}, line {number}", found=line)
        sums[name] = digest.lower()
    return sums


def open_weights(folder: Path, entry: Mapping[str, Any], dtype: str) -> Weights:
    """Return the weights in ``folder``, official or converted; raises :class:`InputError` for anything amiss.

    Parameters
    ----------
    dtype
        Compute type, one of :data:`DTYPES`; converted weights must have it already.
    """
    if (folder / RECORD).is_file():
        return _open_converted(folder.resolve(), entry, dtype)  # errors name the store, not a task's link to it
    if any((folder / name).exists() for name in (CONVERTED, CONVERTED + PARTIAL)):
        raise InputError(f"unfinished conversion: no {RECORD}", where=str(folder), hint=CONVERT_AGAIN)
    return _open_official(folder, entry, dtype)


def converted_type(folder: Path) -> str | None:
    """Return the compute type of the converted weights in ``folder``, None when it holds none."""
    return read_record(folder)["facts"]["dtype_compute"] if (folder / RECORD).is_file() else None


def open_official(folder: Path, entry: Mapping[str, Any]) -> tuple[Official, dict[str, str]]:
    """Return an official checkpoint and {file: SHA-256}, both checked; no tensor is read yet."""
    hint = files.where_to_get(entry, folder)
    official = family(entry).describe(folder, entry)
    check_member(official, entry, hint)
    files.check_types(official.checkpoint, official.tensors.values(), hint)
    return official, check_hashes(folder, entry, official.checkpoint.files, hint)


def check_member(official: Official, entry: Mapping[str, Any], hint: str) -> None:
    """Raise :class:`InputError` when the sizes are those of another member of the family in the catalogue.

    Other sizes pass (they are reported as not official), for small networks in tests.
    """
    for title, architecture in entry["siblings"].items():
        if all(official.config.get(key) == value for key, value in architecture.items()):
            raise InputError(
                "weights of another encoder", where=str(official.checkpoint.path), found=title,
                expected=entry["title"], hint=hint,
            )  # fmt: skip


def _open_official(folder: Path, entry: Mapping[str, Any], dtype: str) -> Weights:
    official, hashes = open_official(folder, entry)
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
        "n_parameters": sum(math.prod(shapes[name]) for name in official.tensors.values()),
        **official.origin,
    }


def identity(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tells one encoder's converted weights from another's."""
    return {name: entry[name] for name in ("title", "family", "architecture")}


def read_record(folder: Path) -> dict[str, Any]:
    """Return the record of a conversion; raises :class:`InputError` when it is none of this version."""
    where = str(folder / RECORD)
    try:
        record = json.loads((folder / RECORD).read_text())
        number = record["format"]
        record["used"] = {name: tuple(shape) for name, shape in record["used"].items()}
        for text in (record["sha256"], record["facts"]["dtype_compute"], record["encoder"]["title"]):
            str.encode(text)
        dict.keys(record["config"]), dict.keys(record["unused"])
    except (ValueError, KeyError, AttributeError, TypeError, OSError) as error:
        raise InputError("not a record of converted weights", where=where, hint=CONVERT_AGAIN) from error
    if number != FORMAT:
        raise InputError(
            "converted by another version of this pipeline", where=where, found=f"format {number}", expected=FORMAT,
            hint=CONVERT_AGAIN,
        )  # fmt: skip
    return record


def _open_converted(folder: Path, entry: Mapping[str, Any], dtype: str) -> Weights:
    where, record = str(folder), read_record(folder)
    facts = record["facts"]
    theirs, ours = ({**each, **each.get("architecture", {})} for each in (record["encoder"], identity(entry)))
    different = [name for name in {**ours, **theirs} if name != "architecture" and theirs.get(name) != ours.get(name)]
    name = different[0] if different else "title"
    for what, found, expected in (
        (f"weights converted from another encoder ({name})", theirs.get(name), ours.get(name)),
        ("weights converted to another type", facts["dtype_compute"], dtype),
    ):
        if found != expected:
            raise InputError(what, where=where, found=found, expected=expected, hint=CONVERT_AGAIN)
    path = files.find_file(folder, [CONVERTED], CONVERT_AGAIN)
    if sha256_file(path) != record["sha256"]:
        raise InputError("converted weights are damaged (wrong SHA-256)", where=str(path), hint=CONVERT_AGAIN)
    source = files.read(path, CONVERT_AGAIN)
    return Weights(folder, record["config"], dtype, record["used"], record["unused"], facts, source)

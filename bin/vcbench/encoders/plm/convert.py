"""One-off conversion of an official checkpoint to the encoder's tensors in the compute type (specs: 6.2, item 8).

The result is a folder of `encoder.safetensors` and `conversion.json`, which names the official files with their SHA-256
and accounts for every tensor. Tensors are streamed: memory holds one of them at a time, and of a torch archive little
more (`torch_archive.MAPPED`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from vcbench.core import catalogue, cli, settings
from vcbench.core.checkpoint import Checkpoint, folder_of
from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.encoders.plm import weights as plm

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

EPILOG = """
example:
  vcb_convert_weights.py --encoder prott5_xl --weights weights --out-dir converted/prott5_xl

Reads the official files in weights/prott5_xl and writes encoder.safetensors and conversion.json.
"""

_CODES = {"float32": "F32", "bfloat16": "BF16"}
_BYTES = {"float32": 4, "bfloat16": 2}

#: Bytes of a tensor that are converted together.
PIECE = 16 << 20


def convert(folder: Path, entry: Mapping[str, Any], dtype: str, out: Path) -> dict[str, Any]:
    """Write the converted weights of an official folder into ``out`` and return the record.

    Raises :class:`InputError` for anything amiss with the official files.
    """
    official, hashes = plm.open_official(folder, entry)
    out.mkdir(parents=True, exist_ok=True)
    (out / plm.RECORD).unlink(missing_ok=True)  # an older record must not vouch for what is being written
    digest = write_tensors(official, dtype, out / plm.CONVERTED)
    shapes = official.checkpoint.shapes
    record = {
        "format": plm.FORMAT,
        "encoder": plm.identity(entry),
        "sha256": digest,
        "config": official.config,
        "used": {name: list(shapes[name]) for name in sorted(official.tensors.values())},
        "unused": dict(sorted(official.unused.items())),
        "facts": plm.facts_of(official, dtype, hashes),
    }
    with whole(out / plm.RECORD) as handle:
        handle.write((json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return record


@contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears under its name only when it is complete and on disk."""
    partial = path.with_name(path.name + plm.PARTIAL)
    try:
        with open(partial, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def write_tensors(official: plm.Official, dtype: str, path: Path) -> str:
    """Stream the tensors into a safetensors file and return its SHA-256.

    The library can only write a file whose tensors are all in memory; the format is a JSON header and raw bytes.
    """
    import torch

    kinds = {name: "float32" if name in official.keep_float32 else dtype for name in official.tensors}
    # wide types first, so that every tensor starts at a multiple of its own width
    order = sorted(plm.in_file_order(official.tensors, official.checkpoint), key=lambda name: -_BYTES[kinds[name]])
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        shape = official.checkpoint.shapes[official.tensors[name]]
        start, end = end, end + math.prod(shape) * _BYTES[kinds[name]]
        header[name] = {"dtype": _CODES[kinds[name]], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with whole(path) as handle:
        for block in (struct.pack("<Q", len(text)), text):
            handle.write(block)
            digest.update(block)
        for number, name in enumerate(order, start=1):
            for part in parts(official.checkpoint, official.tensors[name], kinds[name]):
                block = memoryview(part.reshape(-1).view(torch.uint8).numpy())
                handle.write(block)
                digest.update(block)
            if number % 100 == 0:
                log.info("%d of %d tensors", number, len(order))
    return digest.hexdigest()


def parts(checkpoint: Checkpoint, name: str, dtype: str) -> Iterator[torch.Tensor]:
    """Yield a stored tensor in another type, contiguous, in pieces of rows, so that little memory is needed."""
    import torch

    tensor = checkpoint.tensor(name)
    rows = len(tensor) if tensor.ndim > 1 else 1
    step = max(1, rows * PIECE // max(1, tensor.nbytes))
    for start in range(0, rows, step):
        piece = tensor[start : start + step] if tensor.ndim > 1 else tensor
        yield plm.checked(piece.to(getattr(torch, dtype)), name, checkpoint).contiguous()


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_convert_weights.py."""
    parser = cli.parser("Convert official weights to the encoder's tensors in the compute type, once.", EPILOG)
    parser.add_argument("--encoder", required=True, metavar="NAME", help="a protein language model of encoders.yml")
    parser.add_argument(
        "--weights", required=True, type=Path, metavar="DIR", help="its official folder, or the one above"
    )
    parser.add_argument("--settings", default="{}", metavar="JSON", help="settings of the encoder; dtype counts here")
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--out-dir", required=True, type=Path, help="folder of the converted weights")
    options = parser.parse_args(argv)

    entries = catalogue.load("encoders", options.assets)["entries"]
    known = [name for name, entry in entries.items() if "family" in entry]
    if options.encoder not in known:
        raise InputError(
            f"unknown encoder '{options.encoder}'", where="--encoder", hint=closest(options.encoder, known)
        )
    entry = entries[options.encoder]
    try:
        overrides = dict(json.loads(options.settings))
    except (ValueError, TypeError) as error:
        raise InputError("not JSON of the form {setting: value}", where="--settings", found=options.settings) from error
    chosen = settings.complete(options.encoder, entry["settings"], overrides, "--settings")
    source = folder_of(options.weights, entry)
    if (source / plm.RECORD).is_file():
        raise InputError("converted weights already; the official files are needed", where=str(source))
    if options.out_dir.resolve() == source.resolve():
        raise InputError("the results must go into a folder of their own", where="--out-dir", found=options.out_dir)
    record = convert(source, entry, chosen["dtype"], options.out_dir)
    log.info("%s: %d tensors used, %d unused", options.encoder, len(record["used"]), len(record["unused"]))

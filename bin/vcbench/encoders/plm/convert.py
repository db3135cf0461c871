"""One-off conversion of an official checkpoint to the encoder's tensors in the compute type (specs: 6.2, item 8).

The result is a folder of `encoder.safetensors` and `conversion.json`, which names the official files with their SHA-256
and accounts for every tensor. Tensors are streamed: memory never holds more than one of them and a mapped shard.
"""

from __future__ import annotations

import hashlib
import json
import logging
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vcbench.core import catalogue, cli, settings
from vcbench.core.checkpoint import folder_of, where_to_get
from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.encoders.plm import weights as plm

log = logging.getLogger(__name__)

EPILOG = """
example:
  vcb_convert_weights.py --encoder prott5_xl --weights weights --out-dir converted/prott5_xl

Reads the official files in weights/prott5_xl and writes encoder.safetensors and conversion.json.
"""

_CODES = {"float32": "F32", "bfloat16": "BF16"}
_BYTES = {"float32": 4, "bfloat16": 2}


def convert(folder: Path, entry: Mapping[str, Any], dtype: str, out: Path) -> dict[str, Any]:
    """Write the converted weights of an official folder into ``out`` and return the record.

    Raises :class:`InputError` for anything amiss with the official files.
    """
    official = plm.family(entry).describe(folder, entry)
    hashes = plm.check_hashes(folder, entry, official.checkpoint.files, where_to_get(entry, folder))
    out.mkdir(parents=True, exist_ok=True)
    digest = write_tensors(official, dtype, out / plm.CONVERTED)
    shapes = official.checkpoint.shapes
    record = {
        "sha256": digest,
        "config": official.config,
        "used": {name: list(shapes[name]) for name in sorted(official.tensors.values())},
        "unused": dict(sorted(official.unused.items())),
        "facts": plm.facts_of(official, dtype, hashes),
    }
    (out / plm.RECORD).write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return record


def write_tensors(official: plm.Official, dtype: str, path: Path) -> str:
    """Stream the tensors into a safetensors file and return its SHA-256.

    The library can only write a file whose tensors are all in memory; the format is a JSON header and raw bytes.
    """
    import torch

    order = plm.in_file_order(official.tensors, official.checkpoint)
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        kind = "float32" if name in official.keep_float32 else dtype
        shape = official.checkpoint.shapes[official.tensors[name]]
        start, end = end, end + torch.Size(shape).numel() * _BYTES[kind]
        header[name] = {"dtype": _CODES[kind], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as handle:
        for block in (struct.pack("<Q", len(text)), text):
            handle.write(block)
            digest.update(block)
        for number, name in enumerate(order, start=1):
            kind = "float32" if name in official.keep_float32 else dtype
            tensor = plm.cast(official.checkpoint, official.tensors[name], kind).contiguous()
            block = memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
            handle.write(block)
            digest.update(block)
            if number % 100 == 0:
                log.info("%d of %d tensors", number, len(order))
    partial.rename(path)
    return digest.hexdigest()


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
    chosen = settings.complete(options.encoder, entry["settings"], json.loads(options.settings), "--settings")
    record = convert(folder_of(options.weights, entry), entry, chosen["dtype"], options.out_dir)
    log.info("%s: %d tensors used, %d unused", options.encoder, len(record["used"]), len(record["unused"]))

"""vcb_check_weights.py: prove that official weights load strictly and that our forward pass equals the original's.

A model with weights exposes ``open_weights(folder, entry, device)`` in its module `vcbench.models.<name>`, which gives
an :class:`OpenWeights`; a protein language model is opened through its family (`vcbench.encoders.plm.weights`).
"""

from __future__ import annotations

import importlib
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vcbench.core import catalogue, cli, settings
from vcbench.core.checkpoint import folder_of
from vcbench.core.device import DEVICES, resolve
from vcbench.core.errors import InputError
from vcbench.core.names import closest

log = logging.getLogger(__name__)

EPILOG = """
example:
  vcb_check_weights.py --model esm2_650m --weights weights/esm2_650m
  vcb_check_weights.py --model esm2_650m --weights weights/esm2_650m --inputs tokens.npz --outputs ours.npz

The first line checks the files and lists every tensor as used or unused. The second also runs the network on named
arrays (esm2_650m: input_ids, optionally attention_mask) and writes every named output (last_hidden_state,
hidden_states_0 ...), to compare with the original implementation:
  python -c "import numpy as np; np.savez('tokens.npz', input_ids=np.array([[0, 20, 15, 11, 5, 2]]))"
"""


class OpenWeights(Protocol):
    """Loaded weights with an account of every tensor in their files."""

    used: Mapping[str, tuple[int, ...]]
    unused: Mapping[str, str]
    facts: Mapping[str, Any]

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output for named inputs; raises :class:`InputError` for wrong inputs."""


@dataclass(frozen=True)
class _Encoder:
    used: Mapping[str, tuple[int, ...]]
    unused: Mapping[str, str]
    facts: Mapping[str, Any]
    forward: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]


def open_encoder(name: str, entry: Mapping[str, Any], folder: Path, device: str) -> OpenWeights:
    """Return a protein language model with the account of its tensors, in fp32 or in the type it was converted to."""
    from vcbench.encoders.plm import weights as plm

    dtype = plm.converted_type(folder) or "float32"
    opened = plm.open_weights(folder, entry, dtype)
    chosen = settings.complete(name, entry["settings"], {"dtype": dtype}, "catalogue")
    network = plm.family(entry).build(opened, chosen, device, None)
    return _Encoder(opened.used, opened.unused, {**opened.facts, **network.facts}, network.forward)


def open_any(name: str, path: Path, assets: Path, device: str) -> OpenWeights:
    """Load the weights of a model or encoder strictly; raises :class:`InputError` for an unknown name or wrong file."""
    catalogues = {kind: catalogue.load(kind, assets)["entries"] for kind in ("encoders", "models")}
    known = {
        entry: kind for kind, entries in catalogues.items() for entry, facts in entries.items() if "weights" in facts
    }
    if name not in known:
        raise InputError(
            f"no model or encoder with weights is called '{name}'", where="--model", hint=closest(name, known)
        )
    entry = catalogues[known[name]][name]
    folder = folder_of(path, entry)
    if known[name] == "encoders":
        return open_encoder(name, entry, folder, device)
    return importlib.import_module(f"vcbench.models.{name}").open_weights(folder, entry, device)


def read_inputs(path: Path) -> dict[str, np.ndarray]:
    """Return the named arrays of an npz file; raises :class:`InputError` when it is none or holds pickles."""
    if not path.is_file():
        raise InputError("file not found", where=str(path))
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(
            "not a readable npz file of plain arrays", where=str(path), found=error, hint="write it with numpy.savez"
        ) from error


def report(weights: OpenWeights) -> str:
    """Return one line per tensor of the file, and the totals."""
    lines = [f"used    {name} {tuple(shape)}" for name, shape in weights.used.items()]
    lines += [f"unused  {name} ({reason})" for name, reason in weights.unused.items()]
    lines += [f"fact    {name}: {value}" for name, value in sorted(weights.facts.items())]
    values = sum(int(np.prod(shape)) for shape in weights.used.values())
    used, unused = len(weights.used), len(weights.unused)
    lines.append(f"ok      {used} tensors used ({values} values), {unused} unused, none missing or unexpected")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_check_weights.py."""
    parser = cli.parser("Check official weights, and run the network on given inputs.", EPILOG)
    parser.add_argument("--model", required=True, metavar="NAME", help="a model or encoder with weights")
    parser.add_argument(
        "--weights", required=True, type=Path, metavar="PATH", help="its weights folder, or the folder above"
    )
    parser.add_argument("--inputs", type=Path, metavar="NPZ", help="named input arrays")
    parser.add_argument("--outputs", type=Path, metavar="NPZ", help="where to write the named outputs")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the network runs")
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    options = parser.parse_args(argv)

    if (options.inputs is None) != (options.outputs is None):
        raise InputError("--inputs and --outputs belong together", where="command line")
    inputs = read_inputs(options.inputs) if options.inputs else None
    weights = open_any(options.model, options.weights, options.assets, resolve(options.device))
    print(report(weights))
    if inputs is not None:
        outputs = weights.forward(inputs)
        with open(options.outputs, "wb") as handle:  # a handle, because savez appends .npz to names without it
            np.savez(handle, **outputs)
        for name, value in outputs.items():
            print(f"output  {name} {value.dtype} {value.shape}")

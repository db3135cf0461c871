"""Every kind of encoder with a network, and how to write a small checkpoint of each in the official layout.

Encoders that differ in their sizes only run the same code on the same small checkpoint, so the first of them in the
alphabet stands for all. A new family needs a line in WRITERS.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import make_esm2
import make_esm_msa
import make_esmc
import make_t5
import make_xtrimopglm

from vcbench.core.catalogue import load

_KINDS = {
    (entry["family"], entry.get("tokens"), entry.get("module")): name
    for name, entry in sorted(load("encoders")["entries"].items(), reverse=True)
    if "family" in entry
}

#: {encoder: its entry of the catalogue}
ENTRIES = {name: load("encoders")["entries"][name] for name in sorted(_KINDS.values())}

#: By family: write a small checkpoint of an encoder into a folder.
WRITERS: dict[str, Callable[[Path, str], object]] = {
    "esm2": lambda folder, name: make_esm2.write(folder),
    "esm_msa": lambda folder, name: make_esm_msa.write(folder),
    "esmc": lambda folder, name: make_esmc.write(folder),
    "t5": lambda folder, name: make_t5.write(folder, name),
    "xtrimopglm": lambda folder, name: make_xtrimopglm.write(folder),
}


def write(name: str, root: Path) -> Path:
    """Write the checkpoint of an encoder where `--weights ROOT` finds it; return its folder."""
    folder = root / ENTRIES[name]["weights"]["folder"]
    WRITERS[ENTRIES[name]["family"]](folder, name)
    return folder

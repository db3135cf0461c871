"""What a family of protein language models provides, so that everything else can be shared.

A family is a package ``vcbench/encoders/<family>/`` whose module ``network`` has three functions:

``describe(folder, entry) -> Official``
    Open an official checkpoint and account for every tensor, reading none; check config and vocabulary; compare the
    project's token ids with the library's tokenizer where there is one. `entry` is the encoder's entry of
    assets/encoders.yml; the published sizes are its `architecture`.

``build(weights, settings, device, inputs) -> Network``
    Make the network from official or converted weights. `settings` are the encoder's settings, `inputs` a folder of
    further inputs (the alignments of ESM-MSA) or None.

``full_size(entry) -> torch.nn.Module``
    The network at its published sizes (the entry's `architecture`) on the meta device: shapes without memory, the same
    module that ``build`` fills. It shows the number of parameters and what the memory of a run will be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Window:
    """A stretch of a protein as a network sees it: one forward pass.

    Attributes
    ----------
    sequence
        The residues of the window, mutated or not.
    protein, start
        The whole reference protein and the window's 0-based start in it, for networks whose output depends on more
        than the residues (an alignment); empty and 0 for all others, so that equal residues are one pass.
    """

    sequence: str
    protein: str = ""
    start: int = 0


class Network(Protocol):
    """A loaded network.

    Attributes
    ----------
    width
        Length D of a residue's vector.
    facts
        Provenance this network knows (library, prefix, token_layout, layer, attn_impl ...).
    """

    width: int
    facts: Mapping[str, Any]

    def window(self, sequence: str, protein: str, start: int) -> Window:
        """Return the window that identifies the pass; drops what the output does not depend on."""

    def tokens(self, window: Window) -> int:
        """Return the number of tokens of a pass, special tokens and all rows of an alignment included."""

    def passes(self, window: Window) -> int:
        """Return how often a window goes through the network."""

    def token_index(self, position: int) -> int:
        """Return the 0-based row of the hidden states that belongs to a 1-based residue position of the window."""

    def hidden(self, windows: Sequence[Window]) -> torch.Tensor:
        """Return the last layer after the final norm, (windows, tokens, D), padded at the end."""

    def check(self) -> None:
        """Start-up assertions: ids obey the layout, one hidden row per token; raises :class:`ModelError`."""

    def forward(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return every named output for named input arrays (vcb_check_weights.py)."""

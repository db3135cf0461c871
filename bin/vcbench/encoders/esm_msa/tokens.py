"""ESM-MSA's tokens: ``<cls> residues`` in every row, no ``<eos>`` (specs: plm_encoders.md 2.2).

Residue p (1-based) is token p of row 0. The vocabulary is that of ESM2, id for id; the official file holds none.
"""

from __future__ import annotations

import numpy as np

from vcbench.encoders.esm2.tokens import CLS, IDS, PAD, UNK, VOCABULARY
from vcbench.encoders.plm.tokens import RESIDUES, Layout

__all__ = ["CLS", "GAP", "LAYOUT", "LAYOUT_TEXT", "LETTERS", "OF_BYTE", "PAD", "UNKNOWN", "VOCABULARY"]

LAYOUT = Layout((CLS,), (), {letter: IDS[letter] for letter in RESIDUES}, PAD, UNK)
LAYOUT_TEXT = "<cls> before every row of the alignment, no <eos>; the protein is row 0; also at the edges of a tile"

GAP = IDS["-"]

#: What an alignment may hold once it is upper case and `.` is `-`.
LETTERS = RESIDUES + "-"

#: (256,) id of a letter's byte, UNKNOWN where an alignment must not hold it.
UNKNOWN = 255
OF_BYTE = np.full(256, UNKNOWN, dtype=np.uint8)
for _letter in LETTERS:
    OF_BYTE[ord(_letter)] = IDS[_letter]

"""Amino-acid letters: one-letter and three-letter codes (IUPAC), the stop symbol, and what counts as standard."""

from __future__ import annotations

#: The 20 standard residues.
STANDARD = "ACDEFGHIKLMNPQRSTVWY"

#: Selenocysteine, pyrrolysine, unknown, Asx, Glx: refused unless the user allows them.
NONSTANDARD = "UOXBZ"

STOP = "*"

THREE_LETTER = {
    "A": "Ala", "C": "Cys", "D": "Asp", "E": "Glu", "F": "Phe", "G": "Gly", "H": "His", "I": "Ile", "K": "Lys",
    "L": "Leu", "M": "Met", "N": "Asn", "P": "Pro", "Q": "Gln", "R": "Arg", "S": "Ser", "T": "Thr", "V": "Val",
    "W": "Trp", "Y": "Tyr", "U": "Sec", "O": "Pyl", "X": "Xaa", "B": "Asx", "Z": "Glx", "*": "Ter",
}  # fmt: skip

ONE_LETTER = {name: letter for letter, name in THREE_LETTER.items()}

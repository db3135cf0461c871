"""Token ids built by the project, so that they mean the same in every version of every library (specs: 2.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from vcbench.core.errors import InputError, ModelError

#: The 20 standard residues, then U, O, X, B, Z.
RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"


@dataclass(frozen=True)
class Layout:
    """``prefix residues suffix``: residue p (1-based) is token ``len(prefix) + p - 1`` by construction.

    Attributes
    ----------
    prefix, suffix
        Ids of the special tokens around the residues.
    ids
        {residue letter: id}; a letter that is missing here is an error, never an unknown token.
    pad, unknown
        Id of the padding and of the unknown token (-1: the vocabulary has none).
    replacements
        {letter: letter} the authors replace before encoding (ProtT5: U, Z, O, B by X).
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    ids: Mapping[str, int]
    pad: int
    unknown: int = -1
    replacements: Mapping[str, str] = field(default_factory=dict)

    @property
    def special(self) -> int:
        """Number of tokens that are no residues."""
        return len(self.prefix) + len(self.suffix)

    def token_index(self, position: int) -> int:
        """Return the 0-based token index of a 1-based residue position."""
        return len(self.prefix) + position - 1

    def encode(self, sequence: str) -> list[int]:
        """Return the ids of a protein; raises :class:`InputError` for a letter the network has no residue for."""
        letters = [self.replacements.get(letter, letter) for letter in sequence]
        wrong = next((index for index, letter in enumerate(letters) if letter not in self.ids), None)
        if wrong is not None:
            raise InputError(
                f"residue {wrong + 1} is no amino acid that this encoder knows",
                where="protein sequence",
                found=sequence[wrong],
                expected="".join(self.ids),
            )
        return [*self.prefix, *(self.ids[letter] for letter in letters), *self.suffix]

    def batch(self, sequences: Sequence[str]) -> np.ndarray:
        """Return (sequences, longest) int64 ids, padded at the end."""
        rows = [self.encode(sequence) for sequence in sequences]
        padded = np.full((len(rows), max(map(len, rows))), self.pad, dtype=np.int64)
        for row, ids in enumerate(rows):
            padded[row, : len(ids)] = ids
        return padded

    def check(self, library: Sequence[int] | None = None, probe: str = RESIDUES) -> None:
        """Raise :class:`ModelError` unless the ids obey their own rules and equal the library tokenizer's of ``probe``.

        Run at start-up; this is the guard against shifted residues.
        """
        ids = self.encode(probe)
        if len(ids) - len(probe) != self.special or self.unknown in ids:
            raise ModelError("token ids: wrong number of special tokens, or an unknown residue")
        for position in range(1, len(probe) + 1):
            other = "A" if probe[position - 1] != "A" else "G"
            mutant = self.encode(probe[: position - 1] + other + probe[position:])
            changed = [index for index, (old, new) in enumerate(zip(ids, mutant, strict=True)) if old != new]
            if changed != [self.token_index(position)]:
                raise ModelError(
                    f"token ids: residue {position} is at token {changed}, not {self.token_index(position)}"
                )
        if library is not None and list(library) != ids:
            raise ModelError(f"token ids differ from the library's tokenizer: {ids} against {list(library)}")

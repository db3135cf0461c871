"""ESM2 token ids, built by the project so that they mean the same in every version of transformers.

Layout ``<cls> residues <eos>``: residue p (1-based) is token p (specs: plm_encoders.md 2.1 and 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vcbench.core.errors import InputError, ModelError

VOCABULARY = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
IDS = {token: number for number, token in enumerate(VOCABULARY)}
CLS, PAD, EOS, UNK, MASK = (IDS[f"<{name}>"] for name in ("cls", "pad", "eos", "unk", "mask"))

#: The 20 standard residues, then U, O, X, B, Z, which ESM2 knows under their own ids.
RESIDUES = "LAGVSERTIDPKQNFYMHWCXBUZO"
SPECIAL_TOKENS = 2
LAYOUT = "<cls> residues <eos>, also at the edges of a tile inside a protein"


def token_index(position: int) -> int:
    """Return the 0-based token index of a 1-based residue position."""
    return position


def token_ids(sequence: str) -> list[int]:
    """Return the ids of a protein; raises :class:`InputError` for a letter ESM2 has no residue for."""
    wrong = next((index for index, letter in enumerate(sequence) if letter not in RESIDUES), None)
    if wrong is not None:
        raise InputError(
            f"residue {wrong + 1} is no amino acid that ESM2 knows",
            where="protein sequence",
            found=sequence[wrong],
            expected=RESIDUES,
        )
    return [CLS, *(IDS[letter] for letter in sequence), EOS]


def check_vocabulary(path: Path, hint: str) -> None:
    """Raise :class:`InputError` unless the checkpoint's vocab.txt is the published ESM2 vocabulary, id for id."""
    if not path.is_file():
        raise InputError("vocabulary not found", where=str(path), hint=hint)
    found = path.read_text().split()
    for number, token in enumerate(VOCABULARY):
        if number >= len(found) or found[number] != token:
            raise InputError(
                f"not the ESM2 vocabulary (token {number})",
                where=str(path),
                found=found[number] if number < len(found) else "end of file",
                expected=token,
                hint=hint,
            )
    if len(found) != len(VOCABULARY):
        raise InputError(
            "not the ESM2 vocabulary",
            where=str(path),
            found=f"{len(found)} tokens",
            expected=len(VOCABULARY),
            hint=hint,
        )


def check_library(path: Path) -> None:
    """Raise :class:`ModelError` unless our ids obey their own rules and equal those of the library's tokenizer.

    Run once at start-up on a probe with every residue; this is the guard against shifted residues.
    """
    from transformers import EsmTokenizer

    ids = token_ids(RESIDUES)
    if len(ids) - len(RESIDUES) != SPECIAL_TOKENS or UNK in ids:
        raise ModelError("ESM2 token ids: wrong number of special tokens, or an unknown residue")
    check_offset(RESIDUES, ids)
    library = EsmTokenizer(vocab_file=str(path))(RESIDUES)["input_ids"]
    if list(library) != ids:
        raise ModelError(f"ESM2 token ids differ from the library's tokenizer: {ids} against {list(library)}")


def check_offset(sequence: str, ids: Sequence[int]) -> None:
    """Raise :class:`ModelError` unless exchanging residue p changes exactly the token at :func:`token_index`."""
    for position in range(1, len(sequence) + 1):
        other = "A" if sequence[position - 1] != "A" else "G"
        mutant = token_ids(sequence[: position - 1] + other + sequence[position:])
        changed = [index for index, (old, new) in enumerate(zip(ids, mutant, strict=True)) if old != new]
        if changed != [token_index(position)]:
            raise ModelError(f"ESM2 token ids: residue {position} is at token {changed}, not {token_index(position)}")

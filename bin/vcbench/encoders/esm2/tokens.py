"""ESM2's vocabulary: layout ``<cls> residues <eos>``, residue p (1-based) is token p (specs: plm_encoders.md 2.1)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.encoders.plm.tokens import RESIDUES, Layout

VOCABULARY = ("<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>")
IDS = {token: number for number, token in enumerate(VOCABULARY)}
CLS, PAD, EOS, UNK, MASK = (IDS[f"<{name}>"] for name in ("cls", "pad", "eos", "unk", "mask"))

LAYOUT = Layout((CLS,), (EOS,), {letter: IDS[letter] for letter in RESIDUES}, PAD, UNK)
LAYOUT_TEXT = "<cls> residues <eos>, also at the edges of a tile inside a protein"


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


def check_library() -> None:
    """Raise :class:`ModelError` unless our ids obey their own rules and equal those of the library's tokenizer.

    The tokenizer gets the vocabulary from a file of our own: checkpoints of fair-esm hold none, and that of a Hugging
    Face folder has been found equal by :func:`check_vocabulary`.
    """
    from transformers import EsmTokenizer

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(VOCABULARY))
        LAYOUT.check(EsmTokenizer(vocab_file=str(path))(RESIDUES)["input_ids"])

"""xTrimoPGLM's vocabulary: layout ``residues <eos>``, residue p (1-based) is token p - 1 (specs: plm_encoders.md 2.4).

The ids are read from the checkpoint's `tokenizer.model`, a text file with one token per line; in another order than the
authors' the same letters would be other embeddings, which nothing later would notice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.encoders.plm.tokens import RESIDUES, Layout

PAD = "<pad>"
N_LETTERS = 27
SPECIAL = ("<mask>", "<gmask>", "<smask>", "<eod>", "<sop>", "<eop>", "<eos>", "<unk>")
#: The 20 residues in the order of their ids, 1 to 20. The spec gives the ids of all other tokens and the number of
#: letters; this order is that of the authors' published residue tokenizers, whose other ids are those of the spec.
STANDARD = RESIDUES[:20]
LAYOUT_TEXT = "residues <eos>, also at the edges of a tile inside a protein"


def read_vocabulary(path: Path, hint: str) -> list[str]:
    """Return the 36 tokens: <pad>, 27 letters, eight special tokens.

    Raises :class:`InputError` for a missing file, a Git LFS pointer, a file that is no text, or other tokens.
    """
    if not path.is_file():
        raise InputError("vocabulary not found", where=str(path), hint=hint)
    content = path.read_bytes()
    if content.startswith(b"version https://git-lfs"):
        raise InputError(
            "a Git LFS pointer, not the vocabulary", where=str(path), hint=f"run 'git lfs pull', or {hint}"
        )
    try:
        found = [line.strip() for line in content.decode("ascii").strip().splitlines()]
    except UnicodeDecodeError as error:
        raise InputError(
            "not the xTrimoPGLM vocabulary", where=str(path), found="a binary file",
            expected="text, one token per line (this tokenizer.model is no SentencePiece file)", hint=hint,
        ) from error  # fmt: skip
    if len(found) != 1 + N_LETTERS + len(SPECIAL):
        raise InputError(
            "not the xTrimoPGLM vocabulary", where=str(path), found=f"{len(found)} tokens",
            expected=1 + N_LETTERS + len(SPECIAL), hint=hint,
        )  # fmt: skip
    fixed = {0: PAD} | {1 + N_LETTERS + number: token for number, token in enumerate(SPECIAL)}
    for number, token in enumerate(found):
        if token != fixed.get(number, token) or (number not in fixed and len(token) != 1):
            raise InputError(
                f"not the xTrimoPGLM vocabulary (token {number})", where=str(path), found=token,
                expected=fixed.get(number, "one letter"), hint=hint,
            )  # fmt: skip
    missing = [letter for letter in STANDARD if letter not in found]
    if missing or len(set(found)) != len(found):
        problem = f"no token for {', '.join(missing)}" if missing else "a token appears twice"
        raise InputError(f"not the xTrimoPGLM vocabulary: {problem}", where=str(path), hint=hint)
    if tuple(found[1:21]) != tuple(STANDARD):
        raise InputError(
            "not the xTrimoPGLM vocabulary: residues in another order", where=str(path), found="".join(found[1:21]),
            expected=f"{STANDARD}, ids 1 to 20", hint=hint,
        )  # fmt: skip
    return found


def layout(vocabulary: Sequence[str]) -> Layout:
    """Return the layout of a checked vocabulary; U, O, X, B, Z are known when they are in it."""
    ids = {token: number for number, token in enumerate(vocabulary)}
    letters = {letter: ids[letter] for letter in RESIDUES if letter in ids}
    return Layout((), (ids["<eos>"],), letters, ids[PAD], ids["<unk>"])

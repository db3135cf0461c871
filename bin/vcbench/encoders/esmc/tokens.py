"""ESM C's vocabulary: layout ``<cls> residues <eos>``, residue p (1-based) is token p (specs: plm_encoders.md 8.1)."""

from __future__ import annotations

import json
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.encoders.plm.tokens import RESIDUES, Layout

#: The tokens this encoder feeds to the network, in id order; 29 to 31 (gap, insertion, chain break) never are.
VOCABULARY = ("<cls>", "<pad>", "<eos>", "<unk>", *RESIDUES)
IDS = {token: number for number, token in enumerate(VOCABULARY)} | {"<mask>": 32}

LAYOUT = Layout(
    (IDS["<cls>"],), (IDS["<eos>"],), {letter: IDS[letter] for letter in RESIDUES}, IDS["<pad>"], IDS["<unk>"]
)
LAYOUT_TEXT = "<cls> residues <eos>, also at the edges of a tile inside a protein"


def check_vocabulary(path: Path, hint: str) -> None:
    """Raise :class:`InputError` unless the checkpoint's tokenizer.json gives every token we use its published id."""
    if not path.is_file():
        raise InputError("vocabulary not found", where=str(path), hint=hint)
    try:
        found = json.loads(path.read_text())["model"]["vocab"]
        wrong = next(((token, number) for token, number in IDS.items() if found.get(token) != number), None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("not a tokenizer file", where=str(path), found=error, hint=hint) from error
    if wrong is not None:
        token, number = wrong
        raise InputError(
            f"not the ESM C vocabulary: id of {token}", where=str(path), found=found.get(token, "nothing"),
            expected=number, hint=hint,
        )  # fmt: skip


def check_library() -> None:
    """Raise :class:`ModelError` unless our ids obey their own rules and equal those of the library's tokenizer."""
    from transformers import EsmcTokenizer

    LAYOUT.check(EsmcTokenizer()(RESIDUES)["input_ids"])

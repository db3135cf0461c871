"""T5 vocabularies: which ids the project builds, read from the checkpoint's spiece.model (specs: 2.3, 2.5, 2.6, 7.3).

ProtT5: ``residues </s>``, a residue is the piece of a word of its own (``▁A``), U, Z, O and B are replaced by X.
Ankh3: ``[NLU] residues </s>``, a residue is a bare letter. The vocabulary as :func:`read` returns it is plain JSON:
`ids` {letter: id}, `pad`, `eos`, `unk`, `prefixes` {task token: id}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core.errors import InputError
from vcbench.core.names import closest
from vcbench.encoders.plm.tokens import RESIDUES, Layout

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

WORD = "▁"  # SentencePiece writes the space before a word so
PAD, EOS, UNK = 0, 1, 2
NO_PREFIX = "none"

#: Every T5 protein vocabulary must have these; U, O, B and Z are optional where they are not replaced.
NEEDED = "ACDEFGHIKLMNPQRSTVWYX"


@dataclass(frozen=True)
class Dialect:
    """How a kind of T5 writes a protein.

    Attributes
    ----------
    marker
        What its pieces have before the letter: ``▁`` where residues are words, nothing where a protein is one word.
    replacements
        {letter: letter} replaced before encoding.
    prefixes
        Task tokens the vocabulary must have; the setting `prefix` chooses one.
    """

    marker: str
    replacements: Mapping[str, str] = field(default_factory=dict)
    prefixes: tuple[str, ...] = ()

    def text(self, sequence: str) -> str:
        """Return the protein as the authors hand it to their tokenizer."""
        return (" " if self.marker else "").join(self.replacements.get(letter, letter) for letter in sequence)


#: The values of an entry's `tokens`.
DIALECTS = {
    "prott5": Dialect(WORD, dict.fromkeys("UZOB", "X")),
    "ankh3": Dialect("", prefixes=("[NLU]", "[S2S]")),
}


def dialect_of(entry: Mapping[str, Any]) -> Dialect:
    """Return the dialect of a catalogue entry; raises :class:`InputError` for an unknown one."""
    name = entry.get("tokens")
    if name not in DIALECTS:
        raise InputError(
            f"unknown tokens of {entry['title']}", where="encoders.yml", found=name, hint=closest(str(name), DIALECTS)
        )
    return DIALECTS[name]


def read(folder: Path, dialect: Dialect, vocab_size: int, hint: str) -> dict[str, Any]:
    """Return the vocabulary of a checkpoint's spiece.model, and check it against SentencePiece's own encoding.

    Raises :class:`InputError` for a missing or damaged file, other special tokens, or a residue or task token that the
    vocabulary lacks; :class:`ModelError` when our ids differ from SentencePiece's or transformers' of a probe.
    """
    path = folder / "spiece.model"
    pieces = _open(path, hint)
    found = {"pad": pieces.pad_id(), "eos": pieces.eos_id(), "unk": pieces.unk_id()}
    if found != {"pad": PAD, "eos": EOS, "unk": UNK}:
        raise InputError(
            "not a T5 vocabulary: special tokens", where=str(path), found=found, expected="pad 0, eos 1, unk 2",
            hint=hint,
        )  # fmt: skip
    ids: dict[str, int] = {}
    for letter in RESIDUES:
        if letter in dialect.replacements:
            continue
        number = pieces.piece_to_id(dialect.marker + letter)
        if number != UNK:
            ids[letter] = number
        elif letter in NEEDED:
            raise InputError(
                f"the vocabulary has no piece {dialect.marker + letter}", where=str(path),
                found=f"{len(pieces)} pieces", hint=hint,
            )  # fmt: skip
    prefixes = {name: _prefix(folder, pieces, name, hint) for name in dialect.prefixes}
    if max(*ids.values(), *prefixes.values(), EOS) >= vocab_size:
        raise InputError(
            "the vocabulary does not fit config.json", where=str(path), found=f"{len(pieces)} pieces",
            expected=f"ids below vocab_size {vocab_size}", hint=hint,
        )  # fmt: skip
    vocabulary = {"ids": ids, **found, "prefixes": prefixes}
    for name in prefixes or [NO_PREFIX]:
        ours = layout(vocabulary, dialect, name)
        ours.check(spoken(pieces, dialect, name, vocabulary), known(ours))
    if dialect.marker:  # the library's tokenizer is wrong for vocabularies of bare letters (specs: 2.5)
        ours.check(library_ids(pieces, dialect.text(known(ours))), known(ours))
    return vocabulary


def layout(vocabulary: Mapping[str, Any], dialect: Dialect, prefix: str = NO_PREFIX) -> Layout:
    """Return the layout for a prefix: residue p (1-based) is token p - 1, or p after a task token."""
    start = () if prefix == NO_PREFIX else (vocabulary["prefixes"][prefix],)
    return Layout(
        start, (vocabulary["eos"],), vocabulary["ids"], vocabulary["pad"], vocabulary["unk"], dialect.replacements
    )


def known(layout: Layout) -> str:
    """Return every letter a layout can encode, as a probe."""
    return "".join(letter for letter in RESIDUES if letter in layout.ids or letter in layout.replacements)


def spoken(pieces: SentencePieceProcessor, dialect: Dialect, prefix: str, vocabulary: Mapping[str, Any]) -> list[int]:
    """Return SentencePiece's own ids of the probe of all known letters, with prefix and ``</s>``.

    A word marker of its own before a protein of bare letters is left out: SentencePiece adds it where the file asks
    for a dummy prefix, and the authors' tokenizer (`legacy=False` in transformers 4) takes it away again.
    """
    text = dialect.text(known(layout(vocabulary, dialect)))
    tokens, numbers = pieces.encode(text, out_type=str), pieces.encode(text)
    if not dialect.marker and tokens[0] == WORD:
        numbers = numbers[1:]
    return [*([] if prefix == NO_PREFIX else [vocabulary["prefixes"][prefix]]), *numbers, vocabulary["eos"]]


def library_ids(pieces: SentencePieceProcessor, text: str) -> list[int]:
    """Return the ids of transformers' `T5Tokenizer`, made from the pieces: reading the file itself needs protobuf."""
    from transformers import T5Tokenizer

    vocabulary = [(pieces.id_to_piece(number), pieces.get_score(number)) for number in range(len(pieces))]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0)(text)["input_ids"]


def describe_layout(dialect: Dialect, prefix: str) -> str:
    """Return the layout in words, for the provenance."""
    start = "" if prefix == NO_PREFIX else f"{prefix} "
    residues = "residues as words" if dialect.marker else "residues as bare letters"
    return f"{start}{residues} </s>, also at the edges of a tile inside a protein"


def _open(path: Path, hint: str) -> SentencePieceProcessor:
    import sentencepiece

    if not path.is_file():
        raise InputError("vocabulary not found", where=str(path), hint=hint)
    content = path.read_bytes()
    if content.startswith(b"version https://git-lfs"):
        raise InputError(
            "a Git LFS pointer, not the vocabulary", where=str(path), hint=f"run 'git lfs pull', or {hint}"
        )
    if not content:  # which the library would take without a word
        raise InputError("not a SentencePiece vocabulary", where=str(path), found="an empty file", hint=hint)
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=content)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        raise InputError("not a SentencePiece vocabulary", where=str(path), found=error, hint=hint) from error


def _prefix(folder: Path, pieces: SentencePieceProcessor, name: str, hint: str) -> int:
    """Return the id of a task token: a piece of spiece.model, or one that tokenizer_config.json adds."""
    number = pieces.piece_to_id(name)
    if number != UNK:
        return number
    path = folder / "tokenizer_config.json"
    if path.is_file():
        try:
            added = json.loads(path.read_text()).get("added_tokens_decoder", {})
            matches = [int(key) for key, token in added.items() if token["content"] == name]
        except (ValueError, AttributeError, TypeError, KeyError) as error:
            raise InputError("not a tokenizer's configuration", where=str(path), found=error, hint=hint) from error
        if matches:
            return matches[0]
    raise InputError(
        f"the vocabulary has no task token {name}", where=str(folder / "spiece.model"),
        expected=f"{name} among its pieces, or among the added tokens of tokenizer_config.json", hint=hint,
    )  # fmt: skip

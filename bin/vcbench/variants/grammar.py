"""Reading perturbation labels: every way a protein variant is written, to one :class:`Variant`.

Grammar and rules: spec `plm_encoders.md` 1.3; the reader's version of it is `docs/input.md`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from vcbench.variants.alphabet import NONSTANDARD, ONE_LETTER, STANDARD, STOP, THREE_LETTER
from vcbench.variants.record import Change, Variant, nonsense, substitution, wild_type

#: Labels, or `+`-joined parts of labels, that mean an unperturbed cell.
CONTROL_WORDS = ("ctrl", "control")

_WILD_TYPE_WORDS = ("WT", "wt", "REF", "=")
_ONE = "[A-Z]"
_THREE = "(?:" + "|".join(name for name in ONE_LETTER if name != "Ter") + ")"
_RESIDUE = f"(?:{_THREE}|{_ONE})"
_STOP = r"(?:\*|Ter|Stop)"
_NUMBER = r"(?:0|[1-9]\d*)"

_SUBSTITUTION = re.compile(rf"(?P<ref>{_THREE}|{_ONE})(?P<pos>{_NUMBER})(?P<alt>{_THREE}|{_ONE}|{_STOP}|=)")
_BLOCK = re.compile(rf"(?P<ref>[A-Z]{{2,}})(?P<pos>{_NUMBER})(?P<alt>[A-Z]{{2,}})")
_FRAMESHIFT = re.compile(
    rf"(?P<ref>{_RESIDUE})(?P<pos>{_NUMBER})(?P<alt>{_RESIDUE})?fs(?:(?:\*|Ter|X)(?P<length>\d+|\?))?"
)
_START_LOST = re.compile(r"(?:M|Met)1\?")
_INDEL = re.compile(
    rf"(?P<ref>{_RESIDUE})(?P<pos>{_NUMBER})(?:_(?P<ref2>{_RESIDUE})(?P<pos2>{_NUMBER}))?"
    rf"(?P<kind>delins|del|dup|ins)(?P<sequence>(?:{_THREE})+|[A-Z]+)?"
)
_C_EXTENSION = re.compile(
    rf"{_STOP}(?P<pos>{_NUMBER})(?P<alt>{_RESIDUE})?(?P<ext>ext(?:{_STOP}|X)?(?P<length>\d+|\?)?)?"
)
_N_EXTENSION = re.compile(r"(?:M|Met)1(?P<alt>Val|Leu|Ile|Thr|V|L|I|T)?ext-(?P<length>\d+|\?)")
_UNIPROT = r"(?:[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2})(?:-\d+)?"
_ACCESSION = re.compile(
    rf"(?P<accession>[NX]P_\d+(?:\.\d+)?|ENSP\d+(?:\.\d+)?|{_UNIPROT})(?:\((?P<gene>[A-Za-z0-9.-]+)\))?:(?P<rest>.+)"
)
_GENE = re.compile(r"(?P<gene>[A-Za-z][A-Za-z0-9.-]*)(?P<mark>[_: ])(?P<rest>.+)")
_DNA = re.compile(r"(?:[cgnmr]\..*|\d+[ACGTU]>[ACGTU])")


class LabelError(ValueError):
    """A label that names no variant; `code` is the reason in the status, e.g. ``unparsable``."""

    def __init__(self, message: str, code: str = "unparsable") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Grammar:
    """What labels may look like.

    `gene` is used for labels that name none; `genes` are the known symbols, recognised as prefixes before anything
    else. `x_is_stop` reads ``R175X`` as a stop, `ignore_case` accepts ``r175h``, `allow_nonstandard` accepts the
    residues U, O, X, B and Z.
    """

    gene: str = ""
    genes: Collection[str] = ()
    x_is_stop: bool = False
    ignore_case: bool = False
    allow_nonstandard: bool = False

    def parse(self, label: str) -> tuple[Variant, ...]:
        """Return the alleles a label names: none for a control, one for a variant, several for `A+B` labels.

        Raises :class:`LabelError` for anything that is not completely understood.
        """
        text = label.strip()
        if not text:
            raise LabelError("the label is empty")
        parts = [part.strip() for part in text.split("+")]
        if "" in parts:
            raise LabelError("an empty part beside '+'")
        return tuple(self._allele(part) for part in parts if part not in CONTROL_WORDS)

    def _allele(self, text: str) -> Variant:
        gene, accession, body = self._prefix(text)
        if not gene and not accession:
            gene = self.gene
            if not gene:
                raise LabelError("no gene in the label and none given with --gene", "gene_missing")
        return self._body(body, gene, accession)

    def _prefix(self, text: str) -> tuple[str, str, str]:
        """Split off gene and accession: (gene, accession, rest); empty strings where the label has none."""
        if "~" in text:
            gene, _, rest = text.partition("~")
            if "~" in rest or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", gene):
                raise LabelError("expected one gene before one '~'")
            return gene, *self._accession(rest)[1:]
        for gene in sorted({*self.genes, self.gene} - {""}, key=len, reverse=True):
            if text.startswith(gene) and text[len(gene) :][:1] in ("_", ":", " ") and text[len(gene) + 1 :]:
                return gene, *self._accession(text[len(gene) + 1 :])[1:]
        found = self._accession(text)
        if found[1] or (match := _GENE.fullmatch(text)) is None:
            return found
        # `R175H_R248Q` and `R175_E180del` look like GENE_rest too: what is a variant as a whole has no gene.
        if text.startswith("p.") or _SUBSTITUTION.fullmatch(match["gene"]) or self._is_variant(text):
            return "", "", text
        return match["gene"], *self._accession(match["rest"])[1:]

    def _is_variant(self, text: str) -> bool:
        try:
            self._body(text, "?", "")
        except LabelError as error:
            return error.code != "unparsable"
        return True

    @staticmethod
    def _accession(text: str) -> tuple[str, str, str]:
        match = _ACCESSION.fullmatch(text)
        return (match["gene"] or "", match["accession"], match["rest"]) if match else ("", "", text)

    def _body(self, text: str, gene: str, accession: str) -> Variant:
        if _DNA.fullmatch(text):
            raise LabelError("a DNA or RNA change, not a protein variant")
        body = _unwrap(text.strip())
        if body in _WILD_TYPE_WORDS:
            return wild_type(gene, accession)
        try:
            return self._event(body, gene, accession)
        except LabelError as error:
            if error.code != "unparsable":
                raise
            single = error
        separators = [mark for mark in (";", ",", ":") if mark in body]
        if len(separators) > 1:
            raise LabelError("mixed separators between variants")
        if not separators and all(_SUBSTITUTION.fullmatch(_unwrap(part)) for part in body.split("_")):
            separators = ["_"]
        if not separators:
            raise single
        events = [self._event(_unwrap(part.strip()), gene, accession) for part in body.split(separators[0])]
        return _together(events, gene, accession)

    def _event(self, text: str, gene: str, accession: str) -> Variant:
        """Read one event without gene, prefix or parentheses."""
        if self.ignore_case and re.fullmatch(r"[A-Za-z]+\d+(?:[A-Za-z]+|\*|=)", text):
            match = re.fullmatch(r"([A-Za-z]+)(\d+)(.+)", text)
            if match and len(match[1]) == len(match[3].replace("*", "x")) != 3:
                text = text.upper()
        if match := _SUBSTITUTION.fullmatch(text):
            return self._substitution(match["ref"], int(match["pos"]), match["alt"], gene, accession)
        if match := _BLOCK.fullmatch(text):
            return self._block(match["ref"], int(match["pos"]), match["alt"], gene, accession)
        if _START_LOST.fullmatch(text):
            return Variant(gene, "start_lost", (Change(1, "M"),), "M1?", "p.Met1?", accession)
        if text in ("?", "0", "0?"):
            return Variant(gene, "unknown", (), text, f"p.{text}", accession)
        if match := _FRAMESHIFT.fullmatch(text):
            return _frameshift(match, gene, accession)
        if match := _INDEL.fullmatch(text):
            return _indel(match, gene, accession)
        if match := _N_EXTENSION.fullmatch(text):
            alt = _letter(match["alt"]) if match["alt"] else ""
            name = f"M1{alt}ext-{match['length']}"
            hgvs = f"p.Met1{THREE_LETTER[alt] if alt else ''}ext-{match['length']}"
            return Variant(gene, "extension", (Change(1, "M", alt),), name, hgvs, accession)
        if (match := _C_EXTENSION.fullmatch(text)) and (match["alt"] or match["ext"]):
            return _c_extension(match, gene, accession)
        raise LabelError("not a protein variant in a form this project reads (docs/input.md)")

    def _substitution(self, ref: str, pos: int, alt: str, gene: str, accession: str) -> Variant:
        if alt not in (STOP, "Ter", "Stop", "=") and (len(ref) == 1) != (len(alt) == 1):
            raise LabelError("one-letter and three-letter codes mixed")
        old = _letter(ref)
        if old == "X":
            raise LabelError("X as the reference residue")
        if alt == "=":
            return substitution(gene, (Change(pos, old, old),), accession)
        new = _letter(alt)
        if alt == "X" and self.x_is_stop:
            new = STOP
        if new == STOP:
            return nonsense(gene, Change(pos, old, STOP), accession)
        return substitution(gene, (Change(pos, old, self._residue(new)),), accession)

    def _block(self, ref: str, pos: int, alt: str, gene: str, accession: str) -> Variant:
        """`AG11TD` = A11T and G12D on one protein."""
        if ref.title() in ONE_LETTER and alt.title() in ONE_LETTER:
            raise LabelError(f"three-letter codes are case-sensitive: write {ref.title()}{pos}{alt.title()}")
        if len(ref) != len(alt):
            raise LabelError("a block of residues must be replaced by as many")
        letters = STANDARD + NONSTANDARD
        if "X" in ref or any(letter not in letters for letter in ref + alt):
            raise LabelError("not amino-acid letters")
        changes = tuple(
            Change(pos + step, a, self._residue(b)) for step, (a, b) in enumerate(zip(ref, alt, strict=True))
        )
        return substitution(gene, changes, accession)

    def _residue(self, letter: str) -> str:
        if letter in NONSTANDARD and not self.allow_nonstandard:
            hint = " (--x-is-stop reads it as a stop)" if letter == "X" else ""
            raise LabelError(
                f"{letter} is not one of the 20 standard residues{hint}; --allow-nonstandard accepts it",
                "nonstandard_residue",
            )
        return letter


def _unwrap(text: str) -> str:
    """Strip `p.` and one pair of enclosing parentheses or brackets, repeatedly: `p.[(A);(B)]` -> `(A);(B)`."""
    while True:
        before = text
        text = text.removeprefix("p.")
        for left, right in ("()", "[]"):
            inner = text[1:-1]
            if text[:1] == left and text[-1:] == right and left not in inner and right not in inner:
                text = inner
        if text == before:
            return text


def _letter(code: str) -> str:
    """One-letter code of a residue or stop in either code."""
    if code in (STOP, "Ter", "Stop"):
        return STOP
    letter = ONE_LETTER.get(code, code)
    if len(letter) != 1 or letter not in THREE_LETTER:
        raise LabelError(f"'{code}' is not an amino acid")
    return letter


def _frameshift(match: re.Match[str], gene: str, accession: str) -> Variant:
    ref, pos = _letter(match["ref"]), int(match["pos"])
    alt = _letter(match["alt"]) if match["alt"] else ""
    length = match["length"]
    name = f"{ref}{pos}{alt}fs" + (f"*{length}" if length else "")
    hgvs = f"p.{THREE_LETTER[ref]}{pos}{THREE_LETTER[alt] if alt else ''}fs" + (f"Ter{length}" if length else "")
    return Variant(gene, "frameshift", (Change(pos, ref),), name, hgvs, accession)


def _c_extension(match: re.Match[str], gene: str, accession: str) -> Variant:
    pos, alt = int(match["pos"]), _letter(match["alt"]) if match["alt"] else ""
    tail = f"ext{{}}{match['length'] or '?'}" if match["ext"] else ""
    name = f"*{pos}{alt}{tail.format('*')}"
    hgvs = f"p.Ter{pos}{THREE_LETTER[alt] if alt else ''}{tail.format('Ter')}"
    return Variant(gene, "extension", (Change(pos, STOP, alt),), name, hgvs, accession)


def _indel(match: re.Match[str], gene: str, accession: str) -> Variant:
    """Deletions, duplications, insertions, deletion-insertions; mavehgvs checks the HGVS rules of the normal form."""
    from mavehgvs import MaveHgvsParseError
    from mavehgvs import Variant as HgvsVariant

    kind, sequence = match["kind"], match["sequence"] or ""
    if bool(sequence) != (kind in ("ins", "delins")):
        raise LabelError(f"'{kind}' {'with' if sequence else 'without'} residues")
    letters = sequence
    if sequence and sequence[1:2].islower():
        letters = "".join(ONE_LETTER[code] for code in re.findall(_THREE, sequence))
    if any(letter not in STANDARD for letter in letters):
        raise LabelError("not the letters of the 20 standard residues")
    ends = [(_letter(match["ref"]), int(match["pos"]))]
    if match["ref2"]:
        ends.append((_letter(match["ref2"]), int(match["pos2"])))
    long = "_".join(f"{THREE_LETTER[ref]}{pos}" for ref, pos in ends)
    hgvs = f"p.{long}{kind}{''.join(THREE_LETTER[letter] for letter in letters)}"
    try:
        HgvsVariant(hgvs)
    except MaveHgvsParseError as error:
        raise LabelError(f"not valid HGVS ({hgvs}: {error})") from error
    short = "_".join(f"{ref}{pos}" for ref, pos in ends)
    changes = tuple(Change(pos, ref) for ref, pos in ends)
    if kind != "delins":
        consequence = "inframe_del" if kind == "del" else "inframe_ins"
        return Variant(gene, consequence, changes, f"{short}{kind}{letters}", hgvs, accession)
    first, last = ends[0][1], ends[-1][1]
    if last - first + 1 == len(letters) == len(ends):  # all reference residues are named: plain substitutions
        replaced = tuple(Change(pos, ref, new) for (ref, pos), new in zip(ends, letters, strict=True))
        return substitution(gene, replaced, accession)
    return Variant(
        gene, "delins_inframe", changes, f"{short}delins{letters}", hgvs, accession, (first, last, letters)
    )  # fmt: skip


def _together(events: list[Variant], gene: str, accession: str) -> Variant:
    """Return one protein with several events."""
    if any(event.consequence in ("wt", "unknown") for event in events):
        raise LabelError("wild type or an unknown event beside a variant")
    changes = tuple(sorted(change for event in events for change in event.changes))
    positions = [change.pos for change in changes]
    for position in positions:
        if positions.count(position) > 1:
            raise LabelError(f"position {position} is changed twice on one protein")
    if all(event.substitutes for event in events):
        return substitution(gene, changes, accession)
    ordered = sorted(events, key=lambda event: event.changes)
    lead = next(event for event in ordered if not event.substitutes)
    name = ";".join(event.name for event in ordered)
    hgvs = f"p.[{';'.join(event.hgvs_p.removeprefix('p.') for event in ordered)}]"
    return Variant(gene, lead.consequence, changes, name, hgvs, accession)

"""What is to be encoded: every distinct perturbation in use of all datasets, once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.variants.proteins import Protein, apply, read_fasta
from vcbench.variants.record import WILD_TYPE, Change

PERTURBATION_COLUMNS = (
    "perturbation", "gene", "sequence_sha256", "hgvs_p", "consequence", "ref", "pos", "alt", "status", "n_cells",
)  # fmt: skip

#: Statuses of perturbations that have a vector.
ENCODABLE = ("encoded", "identical_to_ref")
#: Status of a substitution nobody measured: it has a vector, but no cells (`<dataset>.substitutions.tsv`).
REQUESTED = "requested"
SUBSTITUTIONS = ".substitutions.tsv"
GENE = "gene"


@dataclass(frozen=True)
class Request:
    """One thing to encode.

    A variant has its reference protein `sequence` and its `substitutions`, sorted by position (none: wild type);
    a gene perturbation has `genes` and no sequence. `key` is ``<sha256 of the sequence>:R175H;R248Q``,
    ``<sha256>:WT`` or ``gene:CBL+CNN1``: the same for the same fact in every dataset.
    """

    key: str
    genes: tuple[str, ...]
    substitutions: tuple[Change, ...] = ()
    sequence: str = ""
    sequence_sha256: str = ""

    @property
    def name(self) -> str:
        """What a message calls it: ``TP53~R175H;R248Q``, ``TP53~WT`` or ``CBL+CNN1``; names are not unique."""
        if self.is_gene:
            return "+".join(self.genes)
        return f"{';'.join(self.genes)}~{';'.join(map(str, self.substitutions)) or WILD_TYPE}"

    @property
    def is_gene(self) -> bool:
        """True for a gene perturbation."""
        return not self.sequence

    @property
    def is_wild_type(self) -> bool:
        """True for a variant row without a mutated residue; such a row has no position and hence zero vectors."""
        return not self.is_gene and not self.substitutions

    @property
    def changes_protein(self) -> bool:
        """False for wild type and synonymous variants."""
        return any(change.ref != change.alt for change in self.substitutions)

    def mutant(self) -> str:
        """Return the protein with all substitutions applied (one joint mutant)."""
        return apply(self.sequence, self.substitutions)


def in_use(row: Mapping[str, str], where: str) -> bool:
    """True when a perturbation has cells or is a requested substitution, and hence must have a vector.

    Raises :class:`InputError` when it has cells although PREPARE marked it as skipped or failed.
    """
    if not row["n_cells"].isdigit():
        raise InputError(
            f"n_cells of {row['perturbation']} is no number",
            where=where,
            found=row["n_cells"],
            expected="a whole number",
        )
    if int(row["n_cells"]) == 0:
        return row["status"] == REQUESTED
    if row["status"] not in ENCODABLE:
        raise InputError(
            f"{row['perturbation']} has cells but status {row['status']}", where=where, expected=" or ".join(ENCODABLE)
        )
    return True


def substitutions_of(row: Mapping[str, str], where: str) -> tuple[Change, ...]:
    """Return the exchanges of a row of perturbations.tsv, sorted by position; `=` as mutant is the reference."""
    parts = [row[column].split(";") if row[column] else [] for column in ("ref", "pos", "alt")]
    try:
        return tuple(
            sorted(Change(int(pos), ref, ref if alt == "=" else alt) for ref, pos, alt in zip(*parts, strict=True))
        )
    except ValueError as error:
        raise InputError(
            f"ref, pos and alt of {row['perturbation']} do not belong together",
            where=where,
            found=" | ".join(row[column] for column in ("ref", "pos", "alt")),
        ) from error


def key_of(row: Mapping[str, str], where: str) -> str:
    """Return the key under which the vector of a row of perturbations.tsv is stored."""
    if row["consequence"] == GENE:
        return f"gene:{row['perturbation']}"
    changes = substitutions_of(row, where)
    return f"{row['sequence_sha256']}:{';'.join(map(str, changes)) or WILD_TYPE}"


def collect(perturbations: Iterable[Path], proteins: Iterable[Path]) -> list[Request]:
    """Return the distinct requests of all datasets, sorted by key.

    The sequence of a variant is found by its SHA-256, never by name. Raises :class:`InputError` for a sequence that no
    FASTA holds and for a reference residue that is not the one in the sequence.
    """
    sequences = read_sequences(proteins)
    requests: dict[str, Request] = {}
    for path in perturbations:
        for number, row in enumerate(read_tsv(path, PERTURBATION_COLUMNS), start=2):
            where = f"{path}, line {number}"
            if in_use(row, where):
                request = _request(row, sequences, where)
                requests.setdefault(request.key, request)
    return [requests[key] for key in sorted(requests)]


def with_wild_types(requests: Sequence[Request]) -> list[Request]:
    """Return the requests and the wild type of every protein among them, sorted by key.

    Control cells are wild type; under pooling `mean` that is a vector like any other.
    """
    found = {request.key: request for request in requests}
    for request in requests:
        if not request.is_gene:
            key = f"{request.sequence_sha256}:{WILD_TYPE}"
            wild_type = Request(key, request.genes[:1], (), request.sequence, request.sequence_sha256)
            found.setdefault(key, wild_type)
    return [found[key] for key in sorted(found)]


def read_sequences(paths: Iterable[Path]) -> dict[str, str]:
    """Return {SHA-256: sequence} of all records of FASTA files; a file of 0 bytes (gene data) holds none."""
    records = [record for path in paths for record in _records(Path(path))]
    return {record.sha256: record.sequence for record in records}


def _records(path: Path) -> list[Protein]:
    # PREPARE has decided which letters are allowed; encoders refuse what they do not know
    return read_fasta(path, allow_nonstandard=True) if not path.is_file() or path.stat().st_size else []


def _request(row: Mapping[str, str], sequences: Mapping[str, str], where: str) -> Request:
    key = key_of(row, where)
    genes = tuple(row["gene"].split(";"))
    if row["consequence"] == GENE:
        return Request(key, genes)
    digest = row["sequence_sha256"]
    if digest not in sequences:
        raise InputError(f"the sequence of {row['perturbation']} is in no --proteins file", where=where, found=digest)
    changes = substitutions_of(row, where)
    if not changes and row["status"] == "encoded":
        raise InputError(
            f"{row['perturbation']} names no residue but is no wild type", where=where, found=row["consequence"]
        )
    try:
        apply(sequences[digest], changes)
    except ValueError as error:
        raise InputError(f"{row['perturbation']} does not fit its protein: {error}", where=where) from error
    return Request(key, genes, changes, sequences[digest], digest)

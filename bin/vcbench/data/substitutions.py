"""All 19·L substitutions of a dataset's proteins, as a table like perturbations.tsv: what `--saturation` predicts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from vcbench.core import cli
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.data.perturbation_table import TABLE_COLUMNS
from vcbench.encoders.requests import GENE, REQUESTED
from vcbench.variants.alphabet import STANDARD
from vcbench.variants.grammar import Grammar, LabelError
from vcbench.variants.proteins import Protein, read_fasta
from vcbench.variants.record import Change, substitution

log = logging.getLogger(__name__)

EPILOG = """example:
  vcb_substitutions.py --dataset tp53 --perturbations tp53.perturbations.tsv --proteins tp53.proteins.fasta \\
    --annotations annotations.tsv --out-dir .

Writes <dataset>.substitutions.tsv: every substitution of every protein that has a variant with cells, with the columns
of perturbations.tsv, status `requested` and no cells; annotations are joined to all of them by label."""


def proteins_of(perturbations: Sequence[Mapping[str, str]], proteins: Sequence[Protein], where: str) -> list[Protein]:
    """Return the proteins that variants with cells belong to, sorted; :class:`InputError` when there are none.

    Two isoforms of one gene would give two substitutions one name, which is an error too.
    """
    used = {row["sequence_sha256"] for row in perturbations if row["consequence"] != GENE and int(row["n_cells"]) > 0}
    found = sorted((p for p in proteins if p.sha256 in used), key=lambda protein: protein.header)
    if not found:
        raise InputError("no protein variant with cells", where=where, hint="--saturation is for variants")
    genes = [protein.gene for protein in found]
    for gene in sorted(set(genes)):
        if genes.count(gene) > 1:
            raise InputError(
                f"several isoforms of {gene}", where=where, expected="one sequence per gene for --saturation"
            )
    return found


def rows(proteins: Sequence[Protein], notes: Mapping[str, Mapping[str, str]]) -> list[dict[str, object]]:
    """Return one row per substitution, by protein, position and residue; residues that are not standard are skipped."""
    found = []
    for protein in proteins:
        for pos, ref in enumerate(protein.sequence, start=1):
            for alt in STANDARD:
                if ref not in STANDARD or alt == ref:
                    continue
                variant = substitution(protein.gene, (Change(pos, ref, alt),))
                found.append(dict.fromkeys(TABLE_COLUMNS, "") | {
                    "perturbation": variant.id, "gene": protein.gene, "protein_id": protein.accession,
                    "isoform": protein.isoform, "sequence_sha256": protein.sha256,
                    "sequence_length": len(protein.sequence), "hgvs_p": variant.hgvs_p,
                    "consequence": variant.consequence, "ref": ref, "pos": pos, "alt": alt, "status": REQUESTED,
                    "n_cells_total": 0, "n_cells": 0, **notes.get(variant.id, {}),
                })  # fmt: skip
    return found


def annotations(path: Path, proteins: Sequence[Protein]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return {substitution: {column: value}} of an annotations table, and its columns; unreadable labels are skipped.

    Raises :class:`InputError` when two labels of one substitution contradict each other.
    """
    table = read_tsv(path, ("label",))
    genes = tuple(protein.gene for protein in proteins)
    grammar = Grammar(genes[0] if len(genes) == 1 else "", genes)
    columns = [name for name in (table[0] if table else ()) if name != "label"]
    found: dict[str, dict[str, str]] = {}
    for line, row in enumerate(table, start=2):
        try:
            parsed = grammar.parse(row["label"])
        except LabelError:
            continue
        if len(parsed) == 1:
            values = {name: row[name] for name in columns}
            if found.setdefault(parsed[0].id, values) != values:
                raise InputError(f"labels of {parsed[0].id} contradict each other", where=f"{path}, line {line}")
    return found, columns


def main(argv: Sequence[str]) -> None:
    """Command line of vcb_substitutions.py."""
    parser = cli.parser("List all substitutions of the proteins of a dataset.", EPILOG)
    parser.add_argument("--dataset", required=True, help="name of the dataset")
    parser.add_argument("--perturbations", required=True, type=Path, metavar="TSV", help="<dataset>.perturbations.tsv")
    parser.add_argument("--proteins", required=True, type=Path, metavar="FASTA", help="<dataset>.proteins.fasta")
    parser.add_argument("--annotations", type=Path, metavar="TSV", help="what is known of variants, column `label`")
    parser.add_argument("--out-dir", type=Path, default=Path(), help="folder of the result")
    options = parser.parse_args(argv)
    table = read_tsv(options.perturbations, ("perturbation", "sequence_sha256", "consequence", "n_cells"))
    proteins = proteins_of(table, read_fasta(options.proteins, True), str(options.perturbations))
    notes, columns = annotations(options.annotations, proteins) if options.annotations else ({}, [])
    found = rows(proteins, notes)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    header = [*TABLE_COLUMNS, *(name for name in columns if name not in TABLE_COLUMNS)]
    write_tsv(options.out_dir / f"{options.dataset}.substitutions.tsv",
              [{**dict.fromkeys(header, ""), **row} for row in found], header)  # fmt: skip
    log.info("%s: %d substitutions of %d proteins", options.dataset, len(found), len(proteins))

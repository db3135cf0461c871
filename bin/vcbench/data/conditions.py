"""From labels as found in a screen to perturbations: one row of perturbations.tsv each, with status and reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from vcbench.core.errors import InputError
from vcbench.variants.genes import gene_id, parse_genes
from vcbench.variants.grammar import CONTROL_WORDS, Grammar, LabelError
from vcbench.variants.proteins import Protein
from vcbench.variants.record import Variant
from vcbench.variants.validate import Verdict, candidates, check, diagnose, matching

log = logging.getLogger(__name__)

#: Consequence written for gene perturbations.
GENE = "gene"

#: Statuses of perturbations that can be encoded, trained on and tested.
USABLE = ("encoded", "identical_to_ref")


@dataclass
class Condition:
    """One perturbation: the labels that mean it, what it is, and whether it can be used.

    `n_total` counts the cells with these labels in the file, `n_cells` those kept. `variant` and `protein` are None
    for gene perturbations and for labels that could not be read.
    """

    id: str
    status: str
    reason: str = ""
    genes: tuple[str, ...] = ()
    variants: tuple[Variant, ...] = ()
    protein: Protein | None = None
    labels: list[str] = field(default_factory=list)
    n_total: int = 0
    n_cells: int = 0

    @property
    def usable(self) -> bool:
        """Whether cells of this perturbation enter the dataset."""
        return self.status in USABLE


def of_genes(
    labels: Mapping[str, int], separator: str, control_labels: Sequence[str], where: str, on_invalid: str
) -> list[Condition]:
    """Return the gene perturbations of labels (label -> number of cells), sorted by id."""
    words = {*CONTROL_WORDS, *control_labels}
    found: dict[str, Condition] = {}
    for label, n_cells in sorted(labels.items()):
        try:
            genes = parse_genes(label, separator, words)
        except LabelError as error:
            _add(found, Condition(label, f"failed_{error.code}", str(error)), label, n_cells)
            continue
        _refuse_control_word(label, genes, where)
        _add(found, Condition(gene_id(genes), "encoded", genes=genes), label, n_cells)
    return _settled(found, where, on_invalid, "gene symbols")


def of_variants(
    labels: Mapping[str, int],
    proteins: Sequence[Protein],
    grammar: Grammar,
    isoform: str,
    control_labels: Sequence[str],
    where: str,
    on_invalid: str,
) -> list[Condition]:
    """Return the variants of labels (label -> number of cells), validated against the proteins, sorted by id.

    Labels that mean the same protein are merged. With `on_invalid` ``error`` a label that cannot be read or does not
    fit its protein raises :class:`InputError`, with a diagnosis of the numbering.
    """
    read: dict[str, tuple[Variant, ...]] = {}
    found: dict[str, Condition] = {}
    for label, n_cells in sorted(labels.items()):
        try:
            read[label] = grammar.parse(label)
        except LabelError as error:
            _add(found, Condition(label, f"failed_{error.code}", str(error)), label, n_cells)
            continue
        _refuse_control_word(label, read[label], where)
    _refuse_ambiguous_isoforms(read, proteins, isoform, where)
    for label, alleles in read.items():
        _add(found, _condition(label, alleles, proteins, isoform), label, labels[label])
    controls = {}
    for label in control_labels:
        try:
            alleles = grammar.parse(label)
        except LabelError:
            continue  # any text may name the controls, e.g. non-targeting
        if alleles:
            controls[_condition(label, alleles, proteins, isoform).id] = label
    for condition in found.values():
        if condition.id in controls:
            raise InputError(
                f"label '{condition.labels[0]}' means the same as the control label '{controls[condition.id]}'",
                where=where,
                hint="list both under control_labels",
            )
    return _settled(found, where, on_invalid, "variants", _numbering(found.values(), proteins))


def _condition(label: str, alleles: Sequence[Variant], proteins: Sequence[Protein], isoform: str) -> Condition:
    verdicts, used = [], None
    for allele in alleles:
        choice, reason = candidates(proteins, allele.gene, isoform, allele.accession)
        if not choice:
            return Condition(
                allele.id if allele.gene and len(alleles) == 1 else label, "failed_protein_missing", reason,
                genes=(allele.gene,) if allele.gene else (), variants=tuple(alleles),
            )  # fmt: skip
        used = choice[0]
        verdicts.append(check(replace(allele, gene=used.gene), used))
    if len(verdicts) == 1:
        variant = verdicts[0].variant
        return Condition(variant.id, verdicts[0].status, verdicts[0].reason, (variant.gene,), (variant,), used)
    return _alleles(verdicts, used)


def _alleles(verdicts: list[Verdict], protein: Protein | None) -> Condition:
    """Two proteins in one cell: recognised and kept apart, never encoded as if they were one."""
    verdicts = sorted(verdicts, key=lambda verdict: verdict.variant.id)
    variants = tuple(verdict.variant for verdict in verdicts)
    failed = next((verdict for verdict in verdicts if verdict.status.startswith("failed")), None)
    genes = tuple(dict.fromkeys(variant.gene for variant in variants))
    return Condition(
        "+".join(variant.id for variant in variants),
        failed.status if failed else "skipped_multiple_alleles",
        failed.reason if failed else "several alleles in one cell: no single protein to encode",
        genes, variants, protein if len(genes) == 1 else None,
    )  # fmt: skip


def _add(found: dict[str, Condition], condition: Condition, label: str, n_cells: int) -> None:
    entry = found.setdefault(condition.id, condition)
    entry.labels.append(label)
    entry.n_total += n_cells


def _refuse_control_word(label: str, parts: Sequence[object], where: str) -> None:
    if not parts:
        raise InputError(
            f"label '{label}' means control but is not among control_labels", where=where, hint="add it, or drop it"
        )


def _refuse_ambiguous_isoforms(
    read: Mapping[str, tuple[Variant, ...]], proteins: Sequence[Protein], isoform: str, where: str
) -> None:
    """Raise when a gene has several isoforms and none is chosen, saying how many labels fit each."""
    ambiguous: dict[str, tuple[list[Protein], list[Variant]]] = {}
    for alleles in read.values():
        for variant in alleles:
            choice, _ = candidates(proteins, variant.gene, isoform, variant.accession)
            if len(choice) > 1:
                ambiguous.setdefault(variant.gene, (choice, []))[1].append(variant)
    for gene, (choice, variants) in ambiguous.items():
        fits = ", ".join(f"{p.header} fits {matching(variants, p)} of {len(variants)} labels" for p in choice)
        raise InputError(
            f"the FASTA has {len(choice)} isoforms of {gene} and none is chosen",
            where=where, found=fits, hint="give the one the labels are numbered on with --isoform",
        )  # fmt: skip


def _numbering(found: Sequence[Condition], proteins: Sequence[Protein]) -> str:
    """Diagnosis of the numbering of every gene with labels that do not fit, empty when all fit."""
    used: dict[Protein, list[Variant]] = {}
    misfit: set[Protein] = set()
    for condition in found:
        if condition.protein is not None:
            used.setdefault(condition.protein, []).extend(condition.variants)
            if condition.status in ("failed_ref_mismatch", "failed_out_of_range"):
                misfit.add(condition.protein)
    return ". ".join(diagnose(used[p], p, proteins) for p in used if p in misfit)


def _settled(
    found: Mapping[str, Condition], where: str, on_invalid: str, kind: str, diagnosis: str = ""
) -> list[Condition]:
    """Return the conditions sorted by id; failed ones raise, warn or pass as `on_invalid` says."""
    conditions = [found[name] for name in sorted(found)]
    failed = [c for c in conditions if c.status.startswith("failed")]
    if failed:
        examples = "; ".join(f"'{c.labels[0]}' ({c.n_total} cells): {c.reason}" for c in failed[:4])
        more = f" and {len(failed) - 4} more" if len(failed) > 4 else ""
        problem = InputError(
            f"{len(failed)} of {len(conditions)} labels are not usable {kind}",
            where=where, found=examples + more, expected="labels as in docs/input.md",
            hint=" | ".join(part for part in (diagnosis, _remedy(on_invalid)) if part),
        )  # fmt: skip
        if on_invalid == "error":
            raise problem
        log.log(logging.WARNING if on_invalid == "warn" else logging.INFO, "%s", problem)
    return conditions


def _remedy(on_invalid: str) -> str:
    return "correct them, or leave them out with --drop_labels or --on_invalid skip" if on_invalid == "error" else ""

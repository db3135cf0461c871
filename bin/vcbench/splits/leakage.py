"""How much of a test set is known from training: residues, genes, whole proteins."""

from __future__ import annotations

from collections.abc import Sequence

from vcbench.splits.candidates import Candidate
from vcbench.splits.folds import TEST, TRAIN, VALID, Folds

COLUMNS = (
    "dataset", "split", "fold", "n_train", "n_valid", "n_test", "n_test_position_seen", "share_test_position_seen",
    "n_test_gene_seen", "n_sequence_shared",
)  # fmt: skip


def rows(dataset: str, split: str, candidates: Sequence[Candidate], folds: Folds) -> list[dict[str, object]]:
    """Return one row per fold.

    `n_test_position_seen` counts test perturbations with a residue that a training perturbation changes,
    `n_test_gene_seen` those with a gene perturbed in training, `n_sequence_shared` those whose protein a training or
    validation perturbation has too. Positions are empty for gene perturbations.
    """
    result = []
    for number, roles in enumerate(folds, start=1):
        of = {role: [c for c in candidates if roles[c.id] == role] for role in (TRAIN, VALID, TEST)}
        residues = {residue for c in of[TRAIN] for residue in c.residues}
        genes = {gene for c in of[TRAIN] for gene in c.genes}
        proteins = {c.sequence for c in of[TRAIN] + of[VALID]}
        test = of[TEST]
        position_seen = sum(not residues.isdisjoint(c.residues) for c in test)
        is_variant = test[0].is_variant
        result.append(
            {
                "dataset": dataset, "split": split, "fold": number,
                "n_train": len(of[TRAIN]), "n_valid": len(of[VALID]), "n_test": len(test),
                "n_test_position_seen": position_seen if is_variant else None,
                "share_test_position_seen": position_seen / len(test) if is_variant else None,
                "n_test_gene_seen": sum(not genes.isdisjoint(c.genes) for c in test),
                "n_sequence_shared": sum(c.sequence in proteins for c in test),
            }
        )  # fmt: skip
    return result

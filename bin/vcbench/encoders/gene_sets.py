"""Gene sets: in which sets of the user's GMT file the perturbed genes are (specs: metrics.md 6.4, GO as features).

REF = 0, ALT = how many of the perturbed genes are in each set (0 or 1; a double is the sum of its singles), so that
DIFF = -ALT. Nothing is fitted here: models reduce the columns themselves, on training perturbations only. Columns are
the sets that hold a perturbed gene of the dataset, in the order of the file.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file
from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request
from vcbench.metrics import gmt

log = logging.getLogger(__name__)

#: Why a perturbation has no vector. All zeros would say that it is a control cell, and of a double the sum over the
#: genes that are known would say that it is a single.
NO_SET = "a perturbed gene is in no set of --gene_sets"


class GeneSetsEncoder:
    """Memberships of the perturbed genes in the sets of a GMT file, ``context.inputs``."""

    def __init__(self, context: Context) -> None:
        if context.inputs is None:
            raise InputError("gene sets needed", where=f"encoder {context.name}", expected="--gene-sets FILE (GMT)")
        self.path = context.inputs
        self.sets = gmt.read(self.path)

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return (encoded requests, sets with a perturbed gene) vectors; columns are the names of the sets.

        A perturbation with a gene in no set is skipped. Raises :class:`InputError` when that leaves none.
        """
        known = {gene for genes in self.sets.values() for gene in genes}
        unknown = sorted({gene for request in requests for gene in request.genes if gene not in known})
        skipped = {request.key: NO_SET for request in requests if not known.issuperset(request.genes)}
        encoded = [request for request in requests if request.key not in skipped]
        if not encoded:
            raise InputError(
                "no perturbed gene is in a gene set", where=str(self.path), found=", ".join(unknown[:5]),
                expected=f"gene symbols like {', '.join(sorted(known)[:3])}",
            )  # fmt: skip
        if unknown:
            log.warning("gene_sets: %d perturbed genes are in no set, %d of %d perturbations have no vector: %s",
                        len(unknown), len(skipped), len(requests), ", ".join(unknown[:20]))  # fmt: skip
        perturbed = {gene for request in encoded for gene in request.genes}
        members = {name: frozenset(genes) for name, genes in self.sets.items() if not perturbed.isdisjoint(genes)}
        of_gene = {gene: np.array([gene in genes for genes in members.values()], np.float32) for gene in perturbed}
        alt = np.array([sum(of_gene[gene] for gene in request.genes) for request in encoded], np.float32)
        facts = {"gene_sets": {"file": self.path.name, "sha256": sha256_file(self.path), "sets": len(self.sets)}}
        return Encoded(alt, np.zeros_like(alt), tuple(members), ("used",) * len(members), facts, skipped=skipped)


ENCODER = GeneSetsEncoder

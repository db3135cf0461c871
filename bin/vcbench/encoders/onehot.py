"""One-hot control: which residue it is (variants), or which genes are perturbed (gene perturbations).

Variants: REF and ALT are 20-column one-hot vectors of the reference and mutant residue (mean over positions), so DIFF
holds +1 at the reference and -1 at the mutant residue. Genes: REF = 0, ALT has a 1 in the column of each perturbed
gene, so that the vector of a double is the sum of its singles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vcbench.encoders.base import Context, Encoded
from vcbench.encoders.requests import Request
from vcbench.encoders.residue_tables import look_up
from vcbench.variants.alphabet import STANDARD

IDENTITY = dict(zip(STANDARD, np.eye(len(STANDARD), dtype=np.float32), strict=True))


class OneHotEncoder:
    """One-hot of the residue or of the perturbed genes."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def encode(self, requests: Sequence[Request]) -> Encoded:
        """Return (requests, 20 + number of perturbed genes) vectors; columns `residue_A` ... and `gene_KLF1` ..."""
        genes = sorted({gene for request in requests if request.is_gene for gene in request.genes})
        columns = {gene: column for column, gene in enumerate(genes)}
        perturbed = np.zeros((len(requests), len(genes)), np.float32)
        for row, request in enumerate(requests):
            if request.is_gene:
                perturbed[row, [columns[gene] for gene in request.genes]] = 1
        ref, alt = look_up(requests, IDENTITY, len(STANDARD))
        return Encoded(
            np.hstack([alt, perturbed]),
            np.hstack([ref, np.zeros_like(perturbed)]),
            (*(f"residue_{residue}" for residue in STANDARD), *(f"gene_{gene}" for gene in genes)),
            (*("variant",) * len(STANDARD), *("used",) * len(genes)),
        )


ENCODER = OneHotEncoder

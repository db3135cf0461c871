"""The simulated transcriptome: symbols, baseline abundance, and the programs genes belong to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from vcbench.core.errors import InputError
from vcbench.core.seeds import stream
from vcbench.data.simulate_library import GENE

#: Genes expressed in A549; the depth of a whole cell (18.6k UMIs) is spread over these.
N_EXPRESSED = 14_000
MIN_GENES = 200

#: Natural-log SD of relative abundance (data spec 7.5: 2.15-2.2 fits the genes per cell best).
ABUNDANCE_SD = 2.15

#: Number of programs beside p53 activity and the cell cycle.
N_PROGRAMS = 4

#: Direct p53 targets that fall when p53 is suppressed: UMIs per 10,000 and ln change per SD of p53 activity.
#: The list is that of the data spec 7.3; the numbers are choices of this simulator in a plausible range.
P53_TARGETS = {
    "CDKN1A": (8.0, 0.60), "MDM2": (3.0, 0.55), "GDF15": (6.0, 0.55), "TP53I3": (1.0, 0.50), "BTG2": (1.0, 0.35),
    "SESN1": (0.6, 0.40), "FDXR": (0.6, 0.50), "FAS": (0.5, 0.40), "ZMAT3": (0.8, 0.45), "TNFRSF10B": (1.0, 0.35),
    "BBC3": (0.4, 0.35), "BAX": (3.0, 0.30), "RRM2B": (0.8, 0.40), "PHLDA3": (1.5, 0.45), "AEN": (0.4, 0.40),
    "CCNG1": (2.0, 0.35), "TIGAR": (0.3, 0.30), "XPC": (0.7, 0.30), "DDB2": (0.8, 0.35), "PLK2": (1.0, 0.35),
    "PLK3": (0.4, 0.30), "SFN": (1.0, 0.35), "PERP": (2.0, 0.30),
}  # fmt: skip

#: Genes of S and G2/M phase, released when the p21-DREAM brake is lost: UMIs per 10,000.
CYCLE_GENES = {
    "CCNB1": 1.5, "CDK1": 1.0, "PLK1": 0.6, "CDC20": 1.2, "MKI67": 0.9, "TOP2A": 1.2, "BIRC5": 1.0, "MCM2": 0.6,
    "MCM3": 1.2, "MCM4": 0.8, "MCM5": 0.8, "MCM6": 0.6, "MCM7": 1.5, "PCNA": 2.0, "RRM2": 1.2, "TYMS": 1.5,
    "CCNA2": 0.5, "CCNE2": 0.3, "CDC6": 0.4, "CDC45": 0.3, "AURKA": 0.6, "AURKB": 0.6, "BUB1": 0.3, "BUB1B": 0.4,
    "CENPE": 0.5, "CENPF": 1.0, "KIF11": 0.4, "NUSAP1": 0.9, "TPX2": 0.8, "UBE2C": 1.2, "CKS1B": 1.8, "CKS2": 1.5,
}  # fmt: skip

#: Endogenous TP53 and the transgene of the wild-type label, UMIs per 10,000 (7.3: typically 4 of the barcode).
TP53_ENDOGENOUS = 1.0
TP53_TRANSGENE = 4.0

#: Genes per group among 14,000; a smaller panel keeps sqrt(n / 14,000) of each, as a selection of variable genes would.
GROUP_SIZES = {"p53": 80, "cycle": 500, "program": 300}
LOADING_SD = {"cycle": 0.5, "program": 0.45}


@dataclass(frozen=True)
class Transcriptome:
    """Genes of the simulated cell.

    Attributes
    ----------
    symbols
        Gene symbols; named genes first, then filler ``SIM00001``...
    abundance
        (genes,) share of a cell's UMIs; sums to the share of the transcriptome that is simulated.
    responsive
        Indices of genes with a loading on any factor.
    loadings
        (factors, responsive genes) ln change per SD of each latent factor: p53 activity, cycle, programs.
    """

    symbols: tuple[str, ...]
    abundance: np.ndarray
    responsive: np.ndarray
    loadings: np.ndarray

    @property
    def transgene(self) -> int:
        """Index of TP53."""
        return self.symbols.index(GENE)


def build_transcriptome(n_genes: int, seed: int) -> Transcriptome:
    """Return `n_genes` genes; named p53 targets, cycle genes and TP53 are always among them.

    Fillers sit on the quantiles of a log-normal distribution, so abundance does not vary with the seed; which filler
    answers to which factor does. Raises :class:`InputError` outside 200 to 14,000 genes.
    """
    if not MIN_GENES <= n_genes <= N_EXPRESSED:
        raise InputError(
            "number of genes out of range", where="--n-genes", found=n_genes, expected=f"{MIN_GENES} to {N_EXPRESSED}"
        )
    named = [GENE, *P53_TARGETS, *CYCLE_GENES]
    per_10k = [TP53_ENDOGENOUS + TP53_TRANSGENE, *(level for level, _ in P53_TARGETS.values()), *CYCLE_GENES.values()]
    n_filler = n_genes - len(named)
    quantile = (np.arange(n_filler) + 0.5) / n_filler
    filler = np.exp(ABUNDANCE_SD * ndtri(quantile) - ABUNDANCE_SD**2 / 2) / N_EXPRESSED
    rng = stream(seed, "simulate", "genes", n_genes)
    order = rng.permutation(n_filler)
    abundance = np.concatenate([np.array(per_10k) / 1e4, filler[order]])

    share = np.sqrt(n_genes / N_EXPRESSED)
    sizes = {group: round(size * share) for group, size in GROUP_SIZES.items()}
    # Responsive fillers are of middle abundance or higher: an effect on a silent gene cannot be seen.
    candidates = len(named) + rng.permutation(np.flatnonzero((quantile[order] > 0.5) & (quantile[order] < 0.97)))
    wanted = {
        "p53": max(0, sizes["p53"] - len(P53_TARGETS)),
        "cycle": max(0, sizes["cycle"] - len(CYCLE_GENES)),
        "program": sizes["program"],
    }
    cuts = np.cumsum(list(wanted.values()))
    p53, cycle, program = np.split(candidates[: cuts[-1]], cuts[:-1])
    loadings = np.zeros((2 + N_PROGRAMS, n_genes))
    loadings[0, 1 : 1 + len(P53_TARGETS)] = [loading for _, loading in P53_TARGETS.values()]
    loadings[0, p53] = rng.uniform(0.2, 0.5, len(p53))
    first = 1 + len(P53_TARGETS)
    loadings[1, first : len(named)] = rng.uniform(0.3, 0.7, len(CYCLE_GENES))
    loadings[1, cycle] = rng.normal(0, LOADING_SD["cycle"], len(cycle))
    for number, genes in enumerate(np.array_split(program, N_PROGRAMS)):
        loadings[2 + number, genes] = rng.normal(0, LOADING_SD["program"], len(genes))
    responsive = np.flatnonzero(np.any(loadings != 0, axis=0))
    symbols = (*named, *(f"SIM{number:05d}" for number in range(1, n_filler + 1)))
    return Transcriptome(symbols, abundance, responsive, loadings[:, responsive])

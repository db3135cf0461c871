"""What each variant does: severity, direction, transgene level and number of cells. Truth of the simulated screen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vcbench.core.seeds import stream
from vcbench.data.simulate_genes import N_PROGRAMS, TP53_ENDOGENOUS, TP53_TRANSGENE, Transcriptome
from vcbench.data.simulate_library import CLASSES, LibraryVariant

#: Median squared distance of class II (data spec 7.2); a variant of severity 1 sits there.
REFERENCE_D2 = 0.65

#: Highest severity of a variant whose distance in the real screen is that of noise (data spec 7.5).
NULL_SEVERITY = 0.05

#: Shift of the latent factors at severity 1 before calibration, in SD between cells.
P53_SHIFT = -0.60
CYCLE_SHIFT = 0.40
PROGRAM_SHIFT = 0.45

#: Share of genes that a variant changes on its own, and the SD of that ln change at severity 1.
SPARSE_SHARE = 0.01
SPARSE_SD = 0.3

#: Factor on all effects, by number of genes, that puts the median class II distance at REFERENCE_D2.
#: Mean of 4 to 6 seeds, measured with the recipe of tests/python/data/simulate_measure.py (docs/simulated_data.md).
CALIBRATION = {200: 1.235, 500: 1.20, 1000: 1.15, 2000: 1.11, 4000: 1.09, 8000: 1.08, 14_000: 1.065}

#: SD of the transgene's log2 level for variants for which none was published.
TRANSGENE_SD = 0.12

#: Median of the cell numbers in the library table.
TABLE_MEDIAN_CELLS = 950

#: Mean number of cells of a control label of the real screen.
CONTROL_CELLS = 800

#: Kyte-Doolittle hydropathy, side-chain volume (cubic Angstrom, Zamyatnin), charge at pH 7.
AMINO_ACIDS = {
    "A": (1.8, 88.6, 0), "R": (-4.5, 173.4, 1), "N": (-3.5, 114.1, 0), "D": (-3.5, 111.1, -1), "C": (2.5, 108.5, 0),
    "Q": (-3.5, 143.8, 0), "E": (-3.5, 138.4, -1), "G": (-0.4, 60.1, 0), "H": (-3.2, 153.2, 0.1), "I": (4.5, 166.7, 0),
    "L": (3.8, 166.7, 0), "K": (-3.9, 168.6, 1), "M": (1.9, 162.9, 0), "F": (2.8, 189.9, 0), "P": (-1.6, 112.7, 0),
    "S": (-0.8, 89.0, 0), "T": (-0.7, 116.1, 0), "W": (-0.9, 227.8, 0), "Y": (-1.3, 193.6, 0), "V": (4.2, 140.0, 0),
}  # fmt: skip

#: Residues over which the smooth part of a position effect changes.
LENGTH_SCALE = 12.0

#: Weights of the parts of a variant trait, and the part of severity that the published scores explain.
PARTS = {"smooth": 0.5, "site": 0.4, "substitution": 0.6, "noise": 0.45}
SCORE_WEIGHT = 1.5


@dataclass(frozen=True)
class Design:
    """Truth of the screen, rows in library order.

    Attributes
    ----------
    severity
        (labels,) 0 = no effect, 1 = median class II.
    factor_shift
        (labels, factors) shift of the mean of the latent factors, in SD between cells.
    gene_fold
        (labels, genes) fold change outside the factors: sparse effects and the level of the TP53 transgene.
    """

    library: tuple[LibraryVariant, ...]
    severity: np.ndarray
    factor_shift: np.ndarray
    gene_fold: np.ndarray


def calibration(n_genes: int) -> float:
    """Return the factor on all effects for this number of genes, interpolated in ln(genes)."""
    sizes = sorted(CALIBRATION)
    return float(np.interp(np.log(n_genes), np.log(sizes), [CALIBRATION[size] for size in sizes]))


def trait(missense: Sequence[LibraryVariant], seed: int, name: str) -> np.ndarray:
    """Return a (variants,) trait with mean 0 and SD 1 that protein features explain in part.

    Sum of a smooth function of residue number, an effect of the residue itself (shared by variants of one position), a
    linear effect of the change in hydropathy, volume and charge and of gaining proline, and noise.
    """
    positions = np.array([variant.position for variant in missense], dtype=np.float64)
    rng = stream(seed, "simulate", "trait", name)
    # Random Fourier features of a squared-exponential kernel: a smooth random function of the residue number.
    frequency = rng.normal(0, 1 / LENGTH_SCALE, 64)
    smooth = np.cos(np.outer(positions, frequency) + rng.uniform(0, 2 * np.pi, 64)).sum(1)
    changes = np.array([substitution(variant.label) for variant in missense])
    parts = {
        "smooth": smooth,
        "site": np.array([stream(seed, "simulate", "site", name, int(site)).normal() for site in positions]),
        "substitution": _standard(changes) @ rng.normal(size=changes.shape[1]),
        "noise": np.array([stream(seed, "simulate", "noise", name, variant.label).normal() for variant in missense]),
    }
    return _standard(sum(weight * _standard(parts[part]) for part, weight in PARTS.items()))


def substitution(label: str) -> tuple[float, ...]:
    """Return the change of hydropathy, volume and charge of a substitution such as ``R175H``, and 1 if to proline."""
    reference, alternative = AMINO_ACIDS[label[0]], AMINO_ACIDS[label[-1]]
    return (*(b - a for a, b in zip(reference, alternative, strict=True)), float(label[-1] == "P"))


def severities(library: Sequence[LibraryVariant], seed: int) -> np.ndarray:
    """Return the (labels,) severity.

    Each class has the distances of the real screen without their sampling noise, ``severity = sqrt(D2 / 0.65)``;
    which variant of the class has which follows a score: published dominant-negative scores (data spec 6.4) and a
    seeded trait. Controls and variants without a measurable effect get up to 0.05.
    """
    severity = np.array(
        [stream(seed, "simulate", "null severity", variant.label).uniform(0, NULL_SEVERITY) for variant in library]
    )
    missense = [index for index, variant in enumerate(library) if not variant.is_control]
    members = [library[index] for index in missense]
    # Giacomelli scores saturate; AlphaMissense is used as a logit, its values crowd at 1.
    dominant = np.tanh(np.array([variant.dominant_negative for variant in members]))
    pathogenic = np.clip([variant.alphamissense for variant in members], 0.02, 0.98)
    published = _standard(_standard(dominant) + _standard(np.log(pathogenic / (1 - pathogenic))))
    score = dict(zip(missense, SCORE_WEIGHT * published + trait(members, seed, "severity"), strict=True))
    for impact in CLASSES[1:]:
        ranked = sorted((index for index in missense if library[index].impact == impact), key=lambda i: score[i])
        distances = np.sort(denoised([library[index] for index in ranked]))
        severity[ranked] = np.sqrt(distances / REFERENCE_D2)
    for index in missense:  # R337C: called WT-like, at the threshold of detection
        if library[index].impact == CLASSES[0] and library[index].d2 > 0.1:
            severity[index] = np.sqrt(library[index].d2 / REFERENCE_D2)
    return severity


def denoised(members: Sequence[LibraryVariant]) -> np.ndarray:
    """Return the (variants,) distances of a class, drawn to their mean until only the variance beyond sampling is left.

    With T2 = n_eff D2 + noise (data spec 7.2) a distance has the variance (2 p + 4 n_eff D2) / n_eff^2, that of a
    non-central chi-squared with p = 20; n_eff is that of the label's cells against a control of 800.
    """
    distance = np.array([variant.d2 for variant in members])
    cells = np.array([variant.cells_low + 50 for variant in members])
    effective = cells * CONTROL_CELLS / (cells + CONTROL_CELLS)
    sampling = np.mean((2 * 20 + 4 * effective * distance) / effective**2)
    kept = np.sqrt(max(0.0, 1 - sampling / distance.var(ddof=1)))
    return distance.mean() + kept * (distance - distance.mean())


def build_design(
    library: tuple[LibraryVariant, ...],
    transcriptome: Transcriptome,
    seed: int,
    severity: float = 1.0,
    null: bool = False,
) -> Design:
    """Return the truth of the screen for the whole library (a subset of it keeps its values).

    `severity` multiplies all effects but the transgene level; `null` removes every difference between labels.
    """
    scale = 0.0 if null else severity
    values = severities(library, seed) * scale
    missense = [index for index, variant in enumerate(library) if not variant.is_control]
    weights = np.array(
        [
            [
                stream(seed, "simulate", "control direction", variant.label, number).normal()
                for number in range(N_PROGRAMS)
            ]
            for variant in library
        ]
    )
    members = [library[index] for index in missense]
    weights[missense] = np.column_stack([trait(members, seed, f"program {number}") for number in range(N_PROGRAMS)])
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    direction = np.column_stack(
        [np.full(len(library), P53_SHIFT), np.full(len(library), CYCLE_SHIFT), PROGRAM_SHIFT * weights]
    )
    effect = values * calibration(len(transcriptome.symbols))

    n_genes = len(transcriptome.symbols)
    log_fold = np.zeros((len(library), n_genes))
    n_sparse = round(SPARSE_SHARE * n_genes)
    for row, variant in enumerate(library):
        rng = stream(seed, "simulate", "sparse", variant.label, n_genes)
        log_fold[row, rng.choice(n_genes, n_sparse, replace=False)] = rng.normal(0, SPARSE_SD, n_sparse) * effect[row]
        log_fold[row, transcriptome.transgene] = 0.0 if null else transgene_log_fold(variant, seed)
    return Design(library, values, direction * effect[:, None], np.exp(log_fold))


def transgene_log_fold(variant: LibraryVariant, seed: int) -> float:
    """Return the ln change of all TP53 counts (endogenous + transgene) of a label against wild type."""
    log2_fold = variant.transgene_log2fc
    if np.isnan(log2_fold):
        log2_fold = (
            stream(seed, "simulate", "transgene", variant.label).normal(0, TRANSGENE_SD) if variant.position else 0
        )
    return float(np.log((TP53_ENDOGENOUS + TP53_TRANSGENE * 2**log2_fold) / (TP53_ENDOGENOUS + TP53_TRANSGENE)))


def cells_per_label(
    library: Sequence[LibraryVariant], seed: int, median: int, fixed: bool = False, n_control: int = 0
) -> np.ndarray:
    """Return the (labels,) number of cells, at least 1 each.

    Follows the table of the real screen scaled to `median`: uniform within the label's bin, above 1,000 log-normal
    (median 950, SD 0.40) truncated to 1,000-2,100. `fixed` gives every label `median` cells. `n_control` > 0 sets the
    total over the control labels, in the same proportions.
    """
    cells = np.array(
        [float(median) if fixed else _table_cells(variant, seed) * median / TABLE_MEDIAN_CELLS for variant in library]
    )
    controls = np.array([variant.is_control for variant in library])
    if n_control:
        edges = np.round(np.cumsum(cells[controls]) / cells[controls].sum() * n_control)
        cells[controls] = np.diff(edges, prepend=0)
    return np.maximum(1, np.round(cells)).astype(np.int64)


def _table_cells(variant: LibraryVariant, seed: int) -> float:
    rng = stream(seed, "simulate", "cells", variant.label)
    if variant.cells_low < 1000:
        return variant.cells_low + 100 * rng.uniform()
    draws = TABLE_MEDIAN_CELLS * np.exp(0.40 * rng.normal(size=256))
    return float(draws[(draws >= 1000) & (draws <= 2100)][0])


def _standard(values: np.ndarray) -> np.ndarray:
    """Return the values with mean 0 and SD 1 along the first axis."""
    return (values - values.mean(0)) / values.std(0)

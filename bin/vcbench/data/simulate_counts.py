"""Counts of the simulated cells: latent factors, depth, batches, doublets, negative binomial noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from vcbench.core.seeds import stream
from vcbench.data.simulate_design import Design
from vcbench.data.simulate_genes import Transcriptome

#: Numbers of the real screen (data spec 7.1, 7.4, 7.5). Depth is that of a whole cell of 14,000 genes.
MEDIAN_DEPTH = 18_600
DEPTH_SD = 0.27
DISPERSION = 0.2
DOUBLET_SHARE = 0.057
BATCH_DEPTH_RANGE = 0.15
BATCH_GENE_SD = (0.05, 0.10)

#: Entries of a dense block of cells x genes; bounds the memory beside the sparse result.
BLOCK_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Batches:
    """Channels: `depth` (batches,) factor on depth and `profile` (batches, genes) baseline abundance."""

    depth: np.ndarray
    profile: np.ndarray


@dataclass(frozen=True)
class LabelCells:
    """Cells of one label: `counts` (cells, genes) CSR int32, `batch` (cells,) from 0, `doublet` (cells,) bool."""

    counts: sp.csr_matrix
    batch: np.ndarray
    doublet: np.ndarray


def build_batches(transcriptome: Transcriptome, n_batches: int, seed: int) -> Batches:
    """Return depth factors within 15 % and gene ln shifts of SD 0.05 to 0.10; a batch depends on its index only."""
    depth, profile = [], []
    n_genes = len(transcriptome.symbols)
    for number in range(n_batches):
        rng = stream(seed, "simulate", "batch", number, n_genes)
        depth.append(1 + BATCH_DEPTH_RANGE * rng.uniform(-1, 1))
        shift = rng.normal(0, rng.uniform(*BATCH_GENE_SD), n_genes)
        profile.append(transcriptome.abundance * np.exp(shift))
    return Batches(np.array(depth), np.array(profile))


def confounded_batches(design: Design, n_batches: int, seed: int) -> dict[str, int]:
    """Return one batch per missense label, equally many labels in each; controls stay spread over all batches."""
    missense = [variant.label for variant in design.library if not variant.is_control]
    order = stream(seed, "simulate", "confounded").permutation(len(missense))
    return {missense[index]: rank % n_batches for rank, index in enumerate(order)}


def simulate_label(
    label: str,
    n_cells: int,
    design: Design,
    transcriptome: Transcriptome,
    batches: Batches,
    seed: int,
    batch: int | None,
) -> LabelCells:
    """Return `n_cells` cells of one label; `batch` puts all of them into one channel (None: spread over all).

    Depends on the seed and the label only: other labels, their number and the number of cells change nothing (the
    first 50 of 100 cells are the 50 cells drawn when 50 are asked for).
    """
    labels = [variant.label for variant in design.library]
    own = labels.index(label)
    n_factors = transcriptome.loadings.shape[0]
    uniform = stream(seed, "simulate", "uniform", label).uniform(size=(n_cells, 3))
    normal = stream(seed, "simulate", "normal", label).normal(size=(n_cells, 2, 1 + n_factors))
    channel = (uniform[:, 0] * len(batches.depth)).astype(np.int64) if batch is None else np.full(n_cells, batch)
    doublet = uniform[:, 1] < DOUBLET_SHARE
    partner = (uniform[:, 2] * len(labels)).astype(np.int64)
    noise = stream(seed, "simulate", "dispersion", label)
    counting = stream(seed, "simulate", "counts", label)
    blocks = []
    for rows in _blocks(n_cells, transcriptome.abundance.size):
        expected = _expected(
            np.full(n_cells, own)[rows], normal[rows, 0], channel[rows], design, transcriptome, batches
        )
        double = np.flatnonzero(doublet[rows])
        # A doublet is the sum of two cells in one droplet; the second one comes from any label of the pool.
        expected[double] += _expected(
            partner[rows][double], normal[rows, 1][double], channel[rows][double], design, transcriptome, batches
        )
        expected *= noise.standard_gamma(1 / DISPERSION, size=expected.shape) * DISPERSION
        blocks.append(sp.csr_matrix(counting.poisson(expected).astype(np.int32)))
    return LabelCells(sp.vstack(blocks, format="csr"), channel, doublet)


def _blocks(n_cells: int, n_genes: int) -> Iterator[slice]:
    size = max(1, BLOCK_ENTRIES // n_genes)
    return (slice(start, min(start + size, n_cells)) for start in range(0, n_cells, size))


def _expected(
    label: np.ndarray,
    normal: np.ndarray,
    channel: np.ndarray,
    design: Design,
    transcriptome: Transcriptome,
    batches: Batches,
) -> np.ndarray:
    """Return the (cells, genes) expected counts; `normal` is (cells, 1 + factors) standard normal: depth, factors."""
    expected = batches.profile[channel] * design.gene_fold[label]
    factors = normal[:, 1:] + design.factor_shift[label]
    change = np.zeros((len(label), transcriptome.responsive.size))
    for factor, loading in zip(factors.T, transcriptome.loadings, strict=True):
        change += factor[:, None] * loading  # no matrix product: its rounding depends on the number of rows and threads
    expected[:, transcriptome.responsive] *= np.exp(change)
    depth = MEDIAN_DEPTH * np.exp(DEPTH_SD * np.clip(normal[:, 0], -3.5, 3.5)) * batches.depth[channel]
    return expected * (depth * transcriptome.abundance.sum() / expected.sum(1))[:, None]

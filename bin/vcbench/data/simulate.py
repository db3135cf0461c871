"""SIMULATE: a count-level TP53 variant screen in A549, calibrated to Ursu et al. 2022 (data spec, section 7)."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vcbench.core.catalogue import ASSETS
from vcbench.core.cli import parser
from vcbench.core.errors import InputError
from vcbench.core.names import NAME
from vcbench.core.tables import write_tsv

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp

    from vcbench.data.simulate_design import Design

log = logging.getLogger(__name__)

CELL_LINE = "A549"

EPILOG = """example:
  vcb_simulate.py --seed 0 --cells-per-variant 100 --n-genes 2000 --out-dir simulated
  nextflow run . -profile local --input simulated/samplesheet.csv --outdir results

writes <dataset>.counts.h5ad (raw counts; obs: variant, batch, cell_line), <dataset>.fasta, <dataset>.annotations.tsv
(label, severity class, domain, true severity) and samplesheet.csv, ready for --input. docs/simulated_data.md says what
the screen imitates and what it does not."""


@dataclass(frozen=True)
class Options:
    """What to simulate; the fields are the options of the command line (0 = default where it says so there)."""

    seed: int = 0
    cells_per_variant: int = 100
    fixed_cells: bool = False
    n_control_cells: int = 0
    n_genes: int = 2000
    severity: float = 1.0
    batches: int = 4
    variants: int = 0
    confounded: bool = False
    null: bool = False


@dataclass(frozen=True)
class Screen:
    """A simulated screen; rows of `counts` are cells in the order of `labels`, `batch` and `doublet`."""

    counts: sp.csr_matrix
    labels: np.ndarray
    batch: np.ndarray
    doublet: np.ndarray
    genes: tuple[str, ...]
    design: Design
    simulated: tuple[str, ...]


def simulate(options: Options, assets: Path = ASSETS) -> Screen:
    """Return the screen of these options: counts (cells, genes) CSR int32, grouped by label in library order."""
    import numpy as np
    import scipy.sparse as sp

    from vcbench.data import simulate_counts as counts
    from vcbench.data import simulate_design as truth
    from vcbench.data.simulate_genes import build_transcriptome
    from vcbench.data.simulate_library import read_library, subset

    library = read_library(assets)
    chosen = subset(library, options.variants)
    transcriptome = build_transcriptome(options.n_genes, options.seed)
    design = truth.build_design(library, transcriptome, options.seed, options.severity, options.null)
    batches = counts.build_batches(transcriptome, options.batches, options.seed)
    fixed = counts.confounded_batches(design, options.batches, options.seed) if options.confounded else {}
    numbers = truth.cells_per_label(
        chosen, options.seed, options.cells_per_variant, options.fixed_cells, options.n_control_cells
    )
    parts = []
    for done, (variant, n_cells) in enumerate(zip(chosen, numbers, strict=True), start=1):
        parts.append(
            counts.simulate_label(
                variant.label, int(n_cells), design, transcriptome, batches, options.seed, fixed.get(variant.label)
            )
        )
        if done % 25 == 0:
            log.info("simulated %d of %d labels", done, len(chosen))
    names = tuple(variant.label for variant in chosen)
    return Screen(
        sp.vstack([part.counts for part in parts], format="csr"),
        np.repeat(np.array(names, dtype=object), numbers),
        np.concatenate([part.batch for part in parts]),
        np.concatenate([part.doublet for part in parts]),
        transcriptome.symbols,
        design,
        names,
    )


def write(screen: Screen, dataset: str, options: Options, out_dir: Path, assets: Path = ASSETS) -> None:
    """Write the h5ad, the FASTA, the annotations and the samplesheet (file names relative to the samplesheet)."""
    import anndata as ad
    import pandas as pd

    from vcbench.core.h5ad import write as write_h5ad
    from vcbench.data.simulate_library import GENE, ISOFORM, read_fasta

    try:
        out_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("cannot make the output folder", where=str(out_dir), found=error.strerror) from error
    number = pd.Series(screen.labels).groupby(screen.labels).cumcount() + 1
    cells = pd.DataFrame(
        {
            "variant": pd.Categorical(screen.labels),
            "batch": pd.Categorical([f"channel{index + 1}" for index in screen.batch]),
            "cell_line": pd.Categorical([CELL_LINE] * len(screen.labels)),
        },
        index=[f"{label}-{index}" for label, index in zip(screen.labels, number, strict=True)],
    )
    facts = {"simulated": True, "gene": GENE, "isoform": ISOFORM, "dataset": dataset, "options": asdict(options)}
    adata = ad.AnnData(screen.counts, obs=cells, var=pd.DataFrame(index=list(screen.genes)))
    write_h5ad(adata, out_dir / f"{dataset}.counts.h5ad", facts)
    (out_dir / f"{dataset}.fasta").write_text(read_fasta(assets))
    write_tsv(out_dir / f"{dataset}.annotations.tsv", annotations(screen, options.null), ANNOTATION_COLUMNS)
    controls = ";".join(variant.label for variant in screen.design.library if variant.is_control)
    row = {
        "dataset": dataset,
        "h5ad": f"{dataset}.counts.h5ad",
        "proteins": f"{dataset}.fasta",
        "perturbation_type": "variant",
        "perturbation_column": "variant",
        "control_labels": controls,
        "gene": GENE,
        "isoform": ISOFORM,
        "cell_line": CELL_LINE,
        "modality": "ORF",
        "batch_column": "batch",
        "counts_layer": "",
        "mask_genes": "",  # the default masks the perturbed gene
        "annotations": f"{dataset}.annotations.tsv",
    }
    (out_dir / "samplesheet.csv").write_text(",".join(row) + "\n" + ",".join(row.values()) + "\n")


ANNOTATION_COLUMNS = (
    "label", "severity", "domain", "kind", "position", "true_severity", "p53_shift", "cycle_shift",
)  # fmt: skip


def annotations(screen: Screen, null: bool) -> list[dict[str, object]]:
    """Return one row per simulated label; `severity` is the class, `true_severity` 1 = median class II."""
    rows = []
    for variant, severity, shift in zip(
        screen.design.library, screen.design.severity, screen.design.factor_shift, strict=True
    ):
        if variant.label in screen.simulated:
            rows.append(
                {
                    "label": variant.label,
                    "severity": "WT-like" if null else variant.impact,
                    "domain": variant.domain,
                    "kind": variant.kind,
                    "position": variant.position or None,
                    "true_severity": severity,
                    "p53_shift": shift[0],
                    "cycle_shift": shift[1],
                }
            )
    return rows


def arguments() -> argparse.ArgumentParser:
    """Return the command line of the step."""
    command = parser("Simulate a TP53 variant screen: raw counts, protein, annotations and samplesheet.", EPILOG)
    default = Options()
    add = command.add_argument
    add("--dataset", default="simulated_tp53", help="name of the dataset and stem of its files")
    add("--seed", type=int, default=default.seed, help="random seed; same seed, same counts")
    add("--cells-per-variant", type=int, default=default.cells_per_variant, help="median number of cells of a label")
    add("--fixed-cells", action="store_true", help="give every label exactly --cells-per-variant cells")
    add("--n-control-cells", type=int, default=0, help="total over the 15 control labels; 0 = as for the variants")
    add("--n-genes", type=int, default=default.n_genes, help="200 to 14000 genes; depth follows")
    add("--severity", type=float, default=default.severity, help="factor on all effects; 1 = the real screen")
    add("--batches", type=int, default=default.batches, help="channels with their own depth and gene-wise shifts")
    add("--variants", type=int, default=0, help="number of missense variants, spread over the library; 0 = all 84")
    add("--confounded", action="store_true", help="each variant in one batch only: a trap for pipelines")
    add("--null", action="store_true", help="no difference between labels")
    add("--assets", type=Path, default=ASSETS, help="folder of the project's assets")
    add("--out-dir", type=Path, default=Path(), help="folder to write to")
    return command


def check(dataset: str, options: Options) -> None:
    """Raise :class:`InputError` for the first option out of range."""
    if not NAME.fullmatch(dataset):
        raise InputError("not a dataset name", where="--dataset", found=dataset, expected="letters, digits, _ and -")
    ranges = {
        "seed": (0, math.inf),
        "cells_per_variant": (1, math.inf),
        "n_control_cells": (0, math.inf),
        "severity": (0, 5),
        "batches": (1, 1000),
        "variants": (0, 84),
    }
    for name, (low, high) in ranges.items():
        value = getattr(options, name)
        if not low <= value <= high:
            expected = f"at least {low}" if high == math.inf else f"{low} to {high}"
            raise InputError("out of range", where="--" + name.replace("_", "-"), found=value, expected=expected)
    if 0 < options.n_control_cells < 15:
        raise InputError("too few", where="--n-control-cells", found=options.n_control_cells, expected="at least 15")


def main(argv: Sequence[str]) -> None:
    """Run the step."""
    given = vars(arguments().parse_args(argv))
    dataset, assets, out_dir = given.pop("dataset"), given.pop("assets"), given.pop("out_dir")
    options = Options(**given)
    check(dataset, options)
    screen = simulate(options, assets)
    write(screen, dataset, options, out_dir, assets)
    log.info("%s: %d cells x %d genes, %d labels", dataset, *screen.counts.shape, len(screen.simulated))

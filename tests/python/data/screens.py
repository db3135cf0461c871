"""Small screens written to disk, and the command line of PREPARE called in this process."""

from __future__ import annotations

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.tables import read_tsv
from vcbench.data.prepare_cli import main

SEQUENCE = "MKTAYIAKQRQISFVKSHFS"
FASTA = f">TOY|P00001|1\n{SEQUENCE}\n"
GENES = ("TOY", *(f"G{i}" for i in range(1, 30)))

#: Label -> number of cells.
CELLS = {
    "WT": 40, "K2K": 23, "K2R": 30, "p.Lys2Arg": 12, "T3A": 30, "T3S": 30, "A4V": 30, "Y5C+ctrl": 30,
    "TOY~I6L": 9, "A7*": 30, "K8R;Q9H": 30, "TOY~R10K+TOY~Q11K": 30,
}  # fmt: skip


def screen(cells: dict[str, int] = CELLS, genes: tuple[str, ...] = GENES, seed: int = 0) -> ad.AnnData:
    """Return Poisson counts (CSR) with labels in `variant` and three batches in `batch`."""
    labels = np.repeat(list(cells), list(cells.values()))
    rng = np.random.default_rng(seed)
    means = 0.3 + rng.gamma(1.0, 2.0, len(genes))
    counts = sp.csr_matrix(rng.poisson(means, (len(labels), len(genes))).astype(np.float32))
    obs = pd.DataFrame(
        {"variant": labels, "batch": rng.choice(["b1", "b2", "b3"], len(labels))},
        index=[f"cell{i:05d}-1" for i in rng.permutation(len(labels))],
    )
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(genes)))


class Prepared:
    """Output of one PREPARE call."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.stem = folder, folder / name
        self.data = h5ad.read(f"{self.stem}.h5ad")
        self.facts = h5ad.provenance(self.data)
        self.table = {row["perturbation"]: row for row in read_tsv(f"{self.stem}.perturbations.tsv")}
        self.quality = {row["metric"]: row["value"] for row in read_tsv(f"{self.stem}.quality.tsv")}


def prepared(
    folder: Path, adata: ad.AnnData | Path, *options: str, name: str = "toy", variant: bool = True
) -> Prepared:
    """Write the screen, run PREPARE with labels in `variant` and return what it wrote."""
    folder.mkdir(parents=True, exist_ok=True)
    path = adata
    if not isinstance(adata, Path):
        path = folder / "screen.h5ad"
        adata.write_h5ad(path)
    given = ["--dataset", name, "--h5ad", str(path), "--out-dir", str(folder / "out")]
    if variant:
        fasta = folder / "toy.fasta"
        if not fasta.exists():
            fasta.write_text(FASTA)
        given += ["--perturbation-type", "variant", "--perturbation-column", "variant", "--control-labels", "WT;K2K"]
        given += ["--proteins", str(fasta), "--gene", "TOY"]
    main([*given, *options])
    return Prepared(folder / "out", name)

"""What PREPARE is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """Everything PREPARE is told; see `vcb_prepare.py --help` for each field."""

    dataset: str
    h5ad: Path
    perturbation_type: str
    out_dir: Path
    perturbation_column: str = "perturbation"
    control_labels: tuple[str, ...] = ("control",)
    proteins: Path | None = None
    gene: str = ""
    isoform: str = ""
    cell_line: str = ""
    modality: str = ""
    batch_column: str = ""
    counts_layer: str = ""
    gene_column: str = ""
    mask_genes: tuple[str, ...] = ()
    annotations: Path | None = None
    drop_labels: tuple[str, ...] = ()
    combination_separator: str = "+"
    seed: int = 0
    min_cells_per_perturbation: int = 25
    max_cells_per_perturbation: int = 1000
    min_cells_per_gene: int = 3
    n_top_genes: int = 0
    target_sum: float = 0.0
    on_invalid: str = "error"
    on_few_cells: str = "skip"
    x_is_stop: bool = False
    ignore_case: bool = False
    allow_nonstandard: bool = False

    @property
    def is_variant(self) -> bool:
        """Whether the labels are protein variants (else perturbed genes)."""
        return self.perturbation_type == "variant"

    @property
    def labels_at(self) -> str:
        """File and column of the labels, for messages."""
        return f"{self.h5ad}, obs['{self.perturbation_column}']"

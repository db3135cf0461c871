"""Command line of PREPARE."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vcbench.core import cli
from vcbench.core.errors import InputError
from vcbench.core.names import NAME

_EPILOG = """\
examples:
  vcb_prepare.py --dataset ursu --h5ad ursu.h5ad --perturbation-type variant --perturbation-column variant \\
    --control-labels "WT;P359P;T170T" --proteins p53.fasta --gene TP53 --isoform R72 --batch-column batch \\
    --drop-labels "multiple;unassigned" --out-dir prepared
  vcb_prepare.py --dataset norman --h5ad norman.h5ad --perturbation-type gene --perturbation-column condition \\
    --control-labels control --out-dir prepared

writes <dataset>.h5ad, <dataset>.perturbations.tsv, <dataset>.proteins.fasta and <dataset>.quality.tsv
"""


def main(argv: Sequence[str]) -> None:
    """Check a screen of raw counts and write the canonical dataset."""
    parser = cli.parser("Turn raw counts and labels into the canonical dataset; docs/input.md explains every check.",
                        _EPILOG)  # fmt: skip
    add = parser.add_argument
    add("--dataset", required=True, help="name of the dataset, no dots")
    add("--h5ad", required=True, type=Path, help="raw counts, cells x genes")
    add("--perturbation-type", required=True, choices=("variant", "gene"), help="what the labels name")
    add("--perturbation-column", default="perturbation", help="column of obs with the labels")
    add("--control-labels", default="control", help="labels of control cells as in the data, ';' between them")
    add("--proteins", type=Path, help="protein FASTA, headers GENE|accession|isoform (variants)")
    add("--gene", default="", help="gene of labels that name none (variants)")
    add("--isoform", default="", help="isoform the labels are numbered on, when the FASTA has several")
    add("--cell-line", default="", help="for the report")
    add("--modality", default="", help="for the report, e.g. overexpression")
    add("--batch-column", default="", help="column of obs with the batch (empty: one batch)")
    add("--counts-layer", default="", help="layer with the raw counts (empty: X)")
    add("--gene-column", "--gene_column", default="", help="column of var with gene symbols (empty: the index)")
    add("--mask-genes", default="", help="';'-separated genes to leave out (empty: the gene of the variants; none)")
    add("--annotations", type=Path, help="TSV with column label and severity, domain or others")
    add(
        "--drop-labels",
        "--drop_labels",
        default="",
        help="labels of cells to leave out, e.g. 'multiple;unassigned'; '(missing)'",
    )
    add(
        "--combination-separator",
        "--combination_separator",
        default="+",
        help="joins the genes of one label (gene perturbations)",
    )
    add("--seed", type=int, default=0, help="of the control halves and of the cells kept")
    add(
        "--min-cells-per-perturbation",
        "--min_cells_per_perturbation",
        type=int,
        default=25,
        help="perturbations with fewer cells are left out",
    )
    add("--max-cells-per-perturbation", type=int, default=1000, help="cells kept of each (0: all); controls: all")
    add("--min-cells-per-gene", type=int, default=3, help="genes detected in fewer cells are left out")
    add("--n-top-genes", type=int, default=0, help="most variable genes of the training controls (0: all genes)")
    add("--target-sum", type=float, default=0, help="counts per cell after scaling (0: median of training controls)")
    add(
        "--on-invalid",
        "--on_invalid",
        default="error",
        choices=("error", "warn", "skip"),
        help="labels that cannot be used",
    )
    add("--on-few-cells", default="skip", choices=("skip", "error"), help="perturbations with too few cells")
    add("--x-is-stop", action="store_true", help="read R175X as a stop codon")
    add("--ignore-case", action="store_true", help="accept one-letter variants in lower case")
    add("--allow-nonstandard", action="store_true", help="accept the residues U O X B Z")
    add("--out-dir", type=Path, default=Path(), help="where the files are written")
    options = vars(parser.parse_args(argv))
    _check_ranges(options)
    for name in ("control_labels", "mask_genes", "drop_labels"):
        options[name] = tuple(part.strip() for part in options[name].split(";") if part.strip())
    if not options["control_labels"]:
        raise InputError("empty list", where="--control-labels", expected="labels of control cells")
    for name in ("proteins", "annotations"):  # the pipeline passes "" where a dataset has none
        if options[name] is not None and str(options[name]) in ("", "."):
            options[name] = None
    from vcbench.data.prepare import prepare
    from vcbench.data.request import Request

    prepare(Request(**options))


def _check_ranges(options: dict[str, object]) -> None:
    if not NAME.fullmatch(str(options["dataset"])):
        raise InputError("not a dataset name", where="--dataset", found=options["dataset"], expected=NAME.pattern)
    lowest = {
        "min_cells_per_perturbation": 1, "max_cells_per_perturbation": 0, "min_cells_per_gene": 1, "n_top_genes": 0,
        "target_sum": 0, "seed": 0,
    }  # fmt: skip
    for name, low in lowest.items():
        if not options[name] >= low:
            raise InputError(
                "value out of range", where=f"--{name.replace('_', '-')}", found=options[name], expected=f">= {low}"
            )
    cap, low = options["max_cells_per_perturbation"], options["min_cells_per_perturbation"]
    if cap and cap < low:
        raise InputError("below --min-cells-per-perturbation", where="--max-cells-per-perturbation", found=cap)
    if not options["combination_separator"]:
        raise InputError("empty", where="--combination-separator", expected="one or more characters")

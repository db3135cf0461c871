"""`vcb_truth.py`: the truth DE table, the truth bundle and the evaluator's own rows of one dataset and split."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from vcbench.core import catalogue, cli, h5ad, known_columns
from vcbench.core.blocks import BlockReader
from vcbench.core.errors import InputError
from vcbench.core.hashing import sha256_file
from vcbench.core.tables import read_tsv
from vcbench.metrics import (
    bundle,
    ceilings,
    compat,
    contract,
    de,
    diagnostics,
    gene_values,
    gmt,
    registry,
    scoring,
    truth,
)
from vcbench.metrics.stored_cells import StoredCells, check_measured, in_order_of_names

log = logging.getLogger(__name__)

#: Stored values of a dataset that is held in memory while its truth is built: 8 bytes each.
VALUES_IN_MEMORY = 25_000_000

EPILOG = """Example:
  vcb_truth.py --dataset tp53.h5ad --perturbations tp53.perturbations.tsv --folds tp53.variant.folds.tsv \\
    --dataset-id tp53 --split variant --seed 0 --out-dir .

Writes <id>.<split>.truth.h5ad, <id>.<split>.de.parquet and <id>.<split>.reference.scores.parquet (no-skill values,
the split-half ceiling tech_duplicate and facts of the truth: rows of the score table that belong to no model), and
<id>.<split>.reference.genes.parquet (what can be measured of each gene).
The same files with .validation. in their names are about the validation perturbations, which choose between
configurations of a model; no number of a leaderboard comes from them."""


def read_folds(path: Path | str) -> list[truth.Roles]:
    """Return the perturbations by fold and role; raises :class:`InputError` when a fold has none to train or test."""
    rows = read_tsv(path, ("perturbation", "fold", "role"))
    folds = []
    for number in sorted({int(row["fold"]) for row in rows}):
        of = {role: tuple(sorted(r["perturbation"] for r in rows if int(r["fold"]) == number and r["role"] == role))
              for role in ("train", "test", "valid")}  # fmt: skip
        for role, names in of.items():
            if not names and role != "valid":
                raise InputError(f"fold {number} has no {role} perturbation", where=str(path))
            if len(set(names)) < len(names):
                raise InputError(f"a {role} perturbation is listed twice in fold {number}", where=str(path))
        every = sorted(name for names in of.values() for name in names)
        if several := next((one for one, other in pairwise(every) if one == other), None):
            raise InputError(f"perturbation with several roles in fold {number}", where=str(path), found=several)
        folds.append(truth.Roles(number, **of))
    if not folds:
        raise InputError("no folds", where=str(path))
    return folds


def read_classes(path: Path | str, items: str) -> dict[str, dict[str, bool]]:
    """Return by item of ``--known-function`` which perturbations are damaging.

    Items without classes are left out: columns of numbers without a cut, and with a warning what is of no use here.
    """
    rows = read_tsv(path, ("perturbation",))
    found = {}
    for known in known_columns.parse(items, "--known-function"):
        of = known_columns.values(known, rows)
        if of.problem:
            log.warning("no phenotype_auc by %s: %s", known.text, of.problem)
        elif of.damaging is not None:
            found[known.text] = {
                row["perturbation"]: label for row, label in zip(rows, of.damaging, strict=True) if label is not None
            }
    return found


def read_targets(path: Path | str) -> dict[str, tuple[str, ...]]:
    """Return the perturbed genes of each perturbation from column `gene` (``;``-joined)."""
    rows = read_tsv(path, ("perturbation", "gene"))
    return {row["perturbation"]: tuple(gene for gene in row["gene"].split(";") if gene) for row in rows}


def positions_seen(path: Path | str, folds: Sequence[truth.Roles]) -> dict[str, dict[str, bool]]:
    """Return by fold whether a residue of each test perturbation occurs in training; perturbations without one absent.

    Empty when the table has no column `pos`.
    """
    rows = read_tsv(path, ("perturbation", "gene"))
    residues = {}
    for row in rows:
        if row.get("pos"):
            places, genes = row["pos"].split(";"), row["gene"].split(";")
            genes = genes * len(places) if len(genes) == 1 else genes
            residues[row["perturbation"]] = set(zip(genes, places, strict=True))
    found = {}
    for roles in folds:
        known = set().union(*(residues.get(name, set()) for name in roles.train))
        found[str(roles.fold)] = {n: bool(residues[n] & known) for n in sorted(roles.test) if n in residues}
    return found


def read_cells(path: Path | str) -> tuple[truth.Cells, str, dict[str, list[str]] | None]:
    """Return the cells of a prepared dataset, the cell lines it holds, and the gene lists its input came with.

    Up to :data:`VALUES_IN_MEMORY` stored values are kept in memory; the cells of a larger file stay on disk and are
    read in blocks, so that memory does not grow with them (sums then add up in the order of the file's rows). Values
    that are negative or not finite end in :class:`InputError`: at once, or when their block is read.
    """
    reader = BlockReader(path)
    missing = [column for column in ("perturbation", "control_half") if column not in reader.obs]
    recorded = reader.uns("vcbench")
    if missing or recorded is None:
        raise InputError("not a prepared dataset", where=str(path), found=f"no {', '.join(missing) or 'uns[vcbench]'}",
                         hint="write it with vcb_prepare.py")  # fmt: skip
    facts = h5ad.decoded(recorded, path)
    if "target_sum" not in facts:
        raise InputError("no target sum recorded", where=f"{path}, uns[vcbench]", expected="target_sum")
    names = reader.obs.index
    if not names.is_unique:
        raise InputError("duplicate cell barcode", where=str(path), found=names[names.duplicated()][0],
                         hint="make obs names unique")  # fmt: skip
    (place,) = in_order_of_names((reader,), ("",))
    genes = np.asarray(reader.var_names, dtype=object)
    stored = StoredCells((reader,), genes, (place,), checked=True)
    labels, half, in_order = np.empty((3, len(place)), dtype=object)
    for of, column in ((labels, reader.obs["perturbation"]), (half, reader.obs["control_half"]), (in_order, names)):
        of[place] = column.astype(str).to_numpy()
    small = int(reader.sizes().sum()) <= VALUES_IN_MEMORY
    expression = stored.take(np.arange(len(place))) if small else stored
    if small:
        check_measured(expression, in_order, f"{path}, X")
    lines = ";".join(sorted(set(reader.obs["cell_line"].astype(str)))) if "cell_line" in reader.obs else ""
    cells = truth.Cells(expression, labels, half, genes, float(facts["target_sum"]))
    return cells, lines, facts.get("gene_lists")


def write_reference_scores(built: bundle.TruthBundle, path: Path | str, metrics: dict[str, registry.Metric]) -> None:
    """Write the evaluator's own rows: no-skill values, ceiling, facts of the truth.

    Of validation perturbations there are only no-skill values: they describe no dataset and judge no model.
    """
    import pyarrow.parquet as pq

    facts = built.facts
    rows = []
    of_truth = (
        (contract.TRUTH, lambda r: scoring.add_truth_facts(built, r)),
        (contract.TRUTH, lambda r: diagnostics.add_truth(built, r)),
    )
    held_out = facts["role"] == bundle.TEST
    for name, add in (
        (contract.NO_SKILL, lambda r: scoring.add_no_skill(built, metrics, r)),
        *(of_truth if held_out else ()),
    ):
        collector = scoring.Rows(facts["dataset"], facts["split"], name)
        add(collector)
        rows += collector.rows
    if held_out:
        rows += ceilings.rows_of(built, metrics)
    header = {name: facts[name] for name in ("dataset", "split", "role", "axis_sha256", "truth_sha256")}
    pq.write_table(scoring.to_table(rows, header), path)


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    parser = cli.parser("Build the truth of one dataset and split: DE table, truth bundle, ceiling.", EPILOG)
    parser.add_argument("--dataset", required=True, type=Path, metavar="H5AD", help="prepared dataset")
    parser.add_argument("--perturbations", required=True, type=Path, metavar="TSV", help="<id>.perturbations.tsv")
    parser.add_argument("--folds", required=True, type=Path, metavar="TSV", help="<id>.<split>.folds.tsv")
    parser.add_argument("--dataset-id", required=True, help="dataset id of the output")
    parser.add_argument("--split", required=True, help="split id of the output")
    parser.add_argument("--seed", type=int, default=0, help="seed of halves and weight cells")
    parser.add_argument(
        "--metrics", nargs="*", default=[], metavar="GROUP", help="groups of metrics beside the default ones"
    )
    parser.add_argument("--bench-compat", action="store_true", help="also prepare the bench_compat metrics")
    parser.add_argument(
        "--bench-compat-de-list", default="gears_ttest", help=f"their DE list: {', '.join(compat.DE_LISTS)}"
    )
    parser.add_argument("--gene-sets", type=Path, metavar="GMT", help="sets of genes chosen in advance (pathways)")
    parser.add_argument(
        "--fixed-sets", nargs="+", metavar="NAME",
        help=f"sets of that file that get columns of their own; without a choice {gmt.DEFAULT_FIXED} where it is there",
    )  # fmt: skip
    parser.add_argument(
        "--known-function", default="", metavar="LIST",
        help=f"classes for phenotype_auc (with --metrics extended): {known_columns.EXPECTED}",
    )  # fmt: skip
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of metrics.yml")
    parser.add_argument("--out-dir", required=True, type=Path, help="output folder")
    options = parser.parse_args(argv)
    wanted = registry.requested(options.metrics, options.bench_compat)
    list_name = compat.check_list(options.bench_compat_de_list) if registry.BENCH_COMPAT in wanted else ""
    metrics = registry.chosen(registry.load(options.assets), wanted)

    gene_sets, fixed = gmt.choose(options.gene_sets, options.fixed_sets)

    folds = read_folds(options.folds)
    targets = read_targets(options.perturbations)
    cells, cell_line, stored = read_cells(options.dataset)
    lists = stored if list_name == "file" else None
    facts = {
        "dataset": options.dataset_id,
        "split": options.split,
        "cell_line": cell_line,
        "inputs": {"dataset": sha256_file(options.dataset), "folds": sha256_file(options.folds)},
        "position_seen": positions_seen(options.perturbations, folds),
    }
    classes = read_classes(options.perturbations, options.known_function)
    built = truth.build(cells, folds, targets, facts, options.seed, list_name, gene_sets, fixed, lists, wanted, classes)
    write(built.test, built.de_rows, options.out_dir, metrics)
    if built.validation is not None:
        write(built.validation, built.validation_de_rows, options.out_dir, registry.primary(options.assets))


def write(
    built: bundle.TruthBundle, de_rows: list[de.DeRow], folder: Path, metrics: dict[str, registry.Metric]
) -> None:
    """Write truth bundle, DE table and reference scores into `folder`."""
    import pyarrow.parquet as pq

    folder.mkdir(parents=True, exist_ok=True)
    facts = built.facts
    of = "" if facts["role"] == bundle.TEST else f".{facts['role']}"
    stem = folder / f"{facts['dataset']}.{facts['split']}{of}"
    paths = tuple(Path(f"{stem}.{suffix}") for suffix in ("truth.h5ad", "de.parquet", "reference.scores.parquet"))
    bundle.write(built, paths[0])
    header = {**de.settings(), **{k: facts[k] for k in ("dataset", "split", "axis_sha256", "truth_sha256", "inputs")}}
    pq.write_table(de.to_table(de_rows, built.genes, json.loads(json.dumps(header))), paths[1])
    write_reference_scores(built, paths[2], metrics)
    if not of:
        table = gene_values.to_table(facts["dataset"], facts["split"], gene_values.of_truth(built))
        gene_values.write(table, Path(f"{stem}.reference.genes.parquet"))

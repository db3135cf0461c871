"""`vcb_aggregate.py`: all scores onto the plan: leaderboard, contrasts, and what became of every unit."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vcbench.core import catalogue, cli
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.metrics import bundle, gene_values, registry
from vcbench.stats import (
    accounting,
    agreement,
    ceilings,
    contrast_table,
    diagnostics,
    distances,
    factors,
    families,
    genes,
    leaderboard,
    panel,
    ranks,
    scores,
    selection,
    strata,
)
from vcbench.stats.contrast_table import BEST_BASELINE, CONTRASTS
from vcbench.stats.leaderboard import LEADERBOARD
from vcbench.stats.scores import read_clusters

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

EPILOG = """Example:
  vcb_aggregate.py --plan plan.tsv --statuses statuses/* --scores scores/* --perturbations *.perturbations.tsv \\
    --failures failures.json --seed 0 --bootstrap 2000 --out-dir tables

Writes leaderboard.tsv, contrasts.tsv, selection.tsv (configurations chosen by validation), ranks.tsv (critical
differences), agreement.tsv (do metrics and datasets agree), factors.tsv (model x encoder x strategy), families.tsv
(scaled scores), ceilings.tsv (what each metric can show here), diagnostics.tsv (properties of data and predictions),
strata.tsv (scores by kind of perturbation), plan.tsv (every unit with its state and reason), cost.tsv,
scores.parquet (every value), validation.parquet (every value of validation perturbations) and genes.parquet (gene-wise
metrics gene by gene).
--scores takes the tables of vcb_score.py and the reference tables of vcb_truth.py. The best simple baseline of a metric
is the baseline model (negative controls left out, models and encoders) with the best value over the test perturbations:
chosen on the data it is compared on, which favours the baseline, so that a claim to beat it is conservative."""

__all__ = ["BEST_BASELINE", "CONTRASTS", "LEADERBOARD", "TABLES", "aggregate", "main", "read_clusters"]

#: Tables of :func:`aggregate` and their columns.
TABLES = {
    "leaderboard": LEADERBOARD, "contrasts": CONTRASTS, "selection": selection.SELECTION, "ranks": ranks.RANKS,
    "agreement": agreement.AGREEMENT, "factors": factors.FACTORS, "families": families.FAMILIES,
    "ceilings": ceilings.CEILINGS, "diagnostics": diagnostics.DIAGNOSTICS, "strata": strata.STRATA,
}  # fmt: skip


def aggregate(
    plan: Sequence[Mapping[str, Any]], table: pa.Table, clusters: Mapping[str, Mapping[str, str]],
    assets: Path, negative: set[str], seed: int, n_resamples: int,
    annotations: Mapping[str, Mapping[str, Mapping[str, str]]] | None = None, validation: pa.Table | None = None,
    far: distances.Distances | None = None, by_gene: genes.OverGenes | None = None,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Return the rows of all `TABLES`; `plan` carries the state of each unit.

    `annotations` are the rows of perturbations.tsv by dataset and perturbation; without them strata are few.
    `validation` are the scores of validation perturbations; without them nothing chooses between configurations.
    `far` are distances to training by encoder; without them there is no such stratum. `by_gene` are median and spread
    of gene-wise metrics over genes; without them these columns are empty.
    """
    metrics, families_of = registry.load(assets), catalogue.load("metrics", assets)["families"]
    (chief,) = registry.primary(assets).values()
    primary, primary_set = chief.id, chief.gene_sets[0]
    found = scores.by_panel(table)
    choosing = {} if validation is None else scores.by_panel(validation)
    annotations, of_truth = annotations or {}, strata.facts(table)
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for (dataset, split), planned in panel.combinations(plan).items():
        held = found.get((dataset, split), scores.no_scores())
        if dataset not in clusters and held.rows:
            raise InputError(f"no perturbations table of dataset {dataset}", where="--perturbations")
        if held.configurations and not held.rows:
            log.warning("%s %s: scores without their reference table, %s.%s.reference.scores.parquet of vcb_truth.py: "
                        "no value can be given", dataset, split, dataset, split)  # fmt: skip
        one = panel.build(dataset, split, planned, held, clusters.get(dataset, {}), seed, n_resamples)
        log.info("%s %s: %d combinations, %d perturbations, %d clusters", dataset, split, len(planned), len(one.rows),
                 one.groups.n)  # fmt: skip
        of_validation = choosing.get((dataset, split), scores.no_scores())
        choosers = panel.build(dataset, split, planned, of_validation, clusters.get(dataset, {}), seed, 1)
        chooses = selection.choosing(choosers, metrics[primary], primary_set)
        levels = strata.levels(one.rows, annotations.get(dataset, {}), of_truth.get((dataset, split), {}))
        by_encoder = strata.by_encoder(one.rows, (far or {}).get((dataset, split), {}))
        board, headline = [], {}
        over_genes = (by_gene or {}).get((dataset, split), {})
        for metric, gene_set in panel.pairs(metrics, held):
            series = one.series(metric, gene_set)
            limits = ceilings.build(one, metric, gene_set, series)
            tables["ceilings"].append(limits.row)
            board.append(leaderboard.rows(one, metric, gene_set, series, limits, over_genes))
            tables["contrasts"] += contrast_table.rows(one, metric, gene_set, series, negative)
            if gene_set in metric.headline and not metric.compat:
                headline[metric.id, gene_set] = (metric, series)
                tables["strata"] += strata.rows(one, metric, gene_set, series, levels, by_encoder)
                tables["selection"] += selection.rows(one, metric, gene_set, series, negative, chooses)
        tables["leaderboard"] += leaderboard.in_plan_order(board)
        series = headline[primary, primary_set][1]
        tables["ranks"] += ranks.rows(one, metrics[primary], primary_set, series)
        tables["factors"] += factors.rows(one, metrics[primary], primary_set, series, negative)
        tables["families"] += families.rows(one, headline, families_of)
    contrast_table.adjust_across(tables["contrasts"])
    tables["diagnostics"] = diagnostics.rows(
        table, catalogue.load("metrics", assets)["diagnostics"], metrics[primary].column(primary_set), annotations
    )
    tables["agreement"] = agreement.rows(tables["leaderboard"], metrics, (primary, primary_set))
    return tables


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    parser = cli.parser("Join all scores onto the plan: leaderboard, contrasts, accounts.", EPILOG)
    parser.add_argument("--plan", required=True, type=Path, metavar="TSV", help="plan.tsv")
    parser.add_argument(
        "--statuses", nargs="*", default=[], type=Path, metavar="JSON", help="<unit>.<stage>.status.json"
    )
    parser.add_argument(
        "--scores", nargs="*", default=[], type=Path, metavar="PARQUET", help="score and reference tables"
    )
    parser.add_argument(
        "--validation-scores", nargs="*", default=[], type=Path, metavar="PARQUET",
        help="the same of validation perturbations: they choose between encoders and strategies",
    )  # fmt: skip
    parser.add_argument(
        "--genes", nargs="*", default=[], type=Path, metavar="PARQUET", help="values gene by gene of gene-wise metrics"
    )
    parser.add_argument("--failures", type=Path, metavar="JSON", help="tasks that ended without output")
    parser.add_argument(
        "--perturbations", nargs="*", default=[], type=Path, metavar="TSV", help="<id>.perturbations.tsv"
    )
    parser.add_argument(
        "--folds", nargs="*", default=[], type=Path, metavar="TSV", help="<id>.<split>.folds.tsv, for --encodings"
    )
    parser.add_argument(
        "--encodings", nargs="*", default=[], type=Path, metavar="H5AD",
        help="<id>.<encoder>.<strategy>.h5ad: scores by distance to the nearest training perturbation",
    )  # fmt: skip
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--seed", type=int, default=0, help="seed of resamples and sign flips")
    parser.add_argument(
        "--bootstrap", type=cli.at_least(1), default=2000, metavar="N", help="resamples of the perturbation clusters"
    )
    parser.add_argument("--out-dir", required=True, type=Path, help="output folder")
    options = parser.parse_args(argv)
    import pyarrow.parquet as pq

    models, encoders = (catalogue.load(kind, options.assets)["entries"] for kind in ("models", "encoders"))
    plan = read_tsv(options.plan, ("unit", "dataset", "split", "fold", "model", "encoder", "strategy", "seed", "class",
                                   "process", "task"))  # fmt: skip
    table, validation = (
        scores.read_scores(paths, role)
        for paths, role in ((options.scores, bundle.TEST), (options.validation_scores, bundle.VALIDATION))
    )
    of_genes = genes.read(options.genes)
    accounts = accounting.account(
        plan, accounting.read_statuses(options.statuses), accounting.read_failures(options.failures),
        scores.scored_units(table, plan), encoders,
    )  # fmt: skip
    negative = {name for name, entry in {**models, **encoders}.items() if entry.get("negative_control")}
    tables = aggregate(
        accounts, table, read_clusters(options.perturbations), options.assets, negative, options.seed,
        options.bootstrap, strata.read_annotations(options.perturbations), validation,
        distances.read(options.encodings, options.folds), genes.over_genes(of_genes),
    )  # fmt: skip
    folder = options.out_dir
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        write_tsv(folder / f"{name}.tsv", rows, TABLES[name])
    columns = [name for name in plan[0] if name not in accounting.COLUMNS] if plan else []
    write_tsv(folder / "plan.tsv", accounts, [*columns, *accounting.COLUMNS])
    write_tsv(folder / "cost.tsv", accounts, accounting.COST)
    pq.write_table(table, folder / "scores.parquet")
    pq.write_table(validation, folder / "validation.parquet")
    gene_values.write(of_genes, folder / "genes.parquet")

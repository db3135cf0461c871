"""`vcb_evaluate.py`: score any prediction file against truth and training cells, with the pipeline's own code."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import catalogue, cli, known_columns
from vcbench.core.errors import InputError
from vcbench.core.h5ad import SCHEMA_VERSION
from vcbench.core.hashing import sha256_file
from vcbench.core.tables import write_tsv
from vcbench.metrics import (
    bundle,
    ceilings,
    compat,
    contract,
    de,
    evaluate_baselines,
    evaluate_inputs,
    evaluate_tables,
    extras,
    gene_values,
    gmt,
    predictions,
    registry,
    score,
    scoring,
    truth,
    truth_cli,
)
from vcbench.metrics.comparison import Predicted
from vcbench.metrics.evaluate_inputs import OWN, Source
from vcbench.metrics.evaluate_tables import DATASET, FOLD, SPLIT, SUMMARY, clusters
from vcbench.metrics.registry import Metric
from vcbench.metrics.stored_cells import StoredCells, in_order_of_names
from vcbench.stats.genes import over_genes

log = logging.getLogger(__name__)

#: Of n clusters a sign-flip test gives p = 2 / 2^n at best: with fewer nothing is below 0.05.
FEWEST_CLUSTERS = 6

EPILOG = """Example:
  vcb_evaluate.py --truth test.h5ad --train train.h5ad --predictions mine.h5ad --out evaluation

  --truth        cells of the held-out perturbations and control cells no model has seen
  --train        cells of the training perturbations and the control cells the model was given
  --predictions  predicted cells, or one profile per perturbation; control rows are ignored. Several files are models
                 compared with each other, called as their files or as you say: --predictions a.h5ad linear=b.h5ad

All of them: obs column `perturbation` (control = `control`), X = natural log1p of counts scaled to one total per cell,
dense or sparse, genes matched by name in any order. Cells are read in blocks: memory depends on the number of genes
and perturbations, not of cells. Writes summary.tsv (per metric your value with its interval, what the training mean,
no change, a replicate measurement (tech_duplicate) and shuffled labels score, and the test against the best simple
baseline), leaderboard.tsv (your models and every baseline that needs no features), contrasts.tsv (paired tests of your
models with each other and the baselines), scores.parquet (every value), genes.parquet (gene-wise metrics gene by gene),
de.parquet (changed genes of the truth) and evaluation.json (files, genes, what is missing). docs/evaluate.md explains
them."""


def build_truth(
    test: Source, train: Source, genes: Sequence[str], targets: Mapping[str, Sequence[str]], facts: dict[str, Any],
    options: Any, target_sum: float, list_name: str, groups: Sequence[str] = (),
    classes: Mapping[str, Mapping[str, bool]] | None = None,
) -> truth.Truths:  # fmt: skip
    """Return the truth of one fold: control half A is the truth file's, half B the training file's."""
    gene_sets, fixed = gmt.choose(options.gene_sets, options.fixed_sets)
    readers = (test.reader, train.reader)
    place = in_order_of_names(readers, ("truth", "train"))
    axis = np.array(genes, dtype=object)
    labels, half = np.empty((2, sum(len(part) for part in place)), dtype=object)
    for source, at, name in zip((test, train), place, "AB", strict=True):
        labels[at], half[at] = source.labels, name
    cells = truth.Cells(StoredCells(readers, axis, place), labels, half, axis, target_sum)
    lists = None
    if list_name == "file":
        stored = {name: test.reader.uns(name) for name in compat.UNS_KEYS}
        lists = compat.stored_lists({name: of for name, of in stored.items() if of is not None}, str(test.path))
    return truth.build(cells, [truth.Roles(FOLD, train.ids, test.ids)], targets, facts, options.seed, list_name,
                       gene_sets, fixed, lists, groups, classes)  # fmt: skip


def parse(argv: Sequence[str]) -> Any:
    """Return the options of the command line."""
    parser = cli.parser("Score any prediction of held-out perturbations.", EPILOG)
    parser.add_argument("--truth", required=True, type=Path, metavar="H5AD", help="held-out cells and unseen controls")
    parser.add_argument(
        "--train", required=True, type=Path, metavar="H5AD", help="training cells and training controls"
    )
    parser.add_argument(
        "--predictions", required=True, nargs="+", metavar="[NAME=]H5AD",
        help="predicted cells or profiles, one file per model",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="output folder")
    parser.add_argument(
        "--metrics", nargs="*", default=[], metavar="GROUP", help="groups of metrics beside the default ones"
    )
    parser.add_argument("--bench-compat", action="store_true", help="also VariantCellBench's own formulas")
    parser.add_argument(
        "--bench-compat-de-list",
        help=f"their DE list: {', '.join(compat.DE_LISTS)} (file: gene names by perturbation in --truth, "
        f"uns['{compat.UNS_KEYS[0]}']); needs --bench-compat, {compat.DE_LISTS[0]} if not given",
    )  # fmt: skip
    parser.add_argument(
        "--perturbations", type=Path, metavar="TSV",
        help="columns perturbation, gene (target genes) and, for the clusters of intervals and tests, pos",
    )  # fmt: skip
    parser.add_argument(
        "--known-function", default="", metavar="LIST",
        help=f"classes in --perturbations for phenotype_auc (with --metrics extended): {known_columns.EXPECTED}",
    )  # fmt: skip
    parser.add_argument(
        "--target-sum", type=cli.at_least(0, float), default=0, help="counts per cell before log1p; 0 = estimate"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="score although perturbations are missing or extra"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of halves, permutations, resamples and flips")
    parser.add_argument(
        "--bootstrap", type=cli.at_least(1), default=2000, metavar="N", help="resamples of perturbation clusters"
    )
    parser.add_argument("--gene-sets", type=Path, metavar="GMT", help="sets of genes chosen in advance (pathways)")
    parser.add_argument(
        "--fixed-sets", nargs="+", metavar="NAME",
        help=f"sets of that file that get columns of their own; without a choice {gmt.DEFAULT_FIXED} where it is there",
    )  # fmt: skip
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of metrics.yml")
    options = parser.parse_args(argv)
    wanted = registry.requested(options.metrics, options.bench_compat)
    if options.bench_compat_de_list and registry.BENCH_COMPAT not in wanted:
        raise InputError("has no effect without --bench-compat", where="--bench-compat-de-list",
                         found=options.bench_compat_de_list)  # fmt: skip
    if options.known_function and (options.perturbations is None or extras.EXTENDED not in wanted):
        raise InputError("has no effect without --perturbations and --metrics extended", where="--known-function",
                         found=options.known_function)  # fmt: skip
    return options


def read_classes(options: Any) -> dict[str, dict[str, bool]]:
    """Return the classes of --known-function; :class:`InputError` for an item that gives none."""
    found = truth_cli.read_classes(options.perturbations, options.known_function) if options.known_function else {}
    for item in known_columns.parse(options.known_function):
        if item.text not in found:
            raise InputError("gives no classes", where="--known-function", found=item.text,
                             expected="a column of --perturbations with known classes, or a cut of numbers",
                             hint="COLUMN=class|class names the damaging ones")  # fmt: skip
    return found


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    options = parse(argv)
    wanted = registry.requested(options.metrics, options.bench_compat)
    compat_list = options.bench_compat_de_list or compat.DE_LISTS[0]
    list_name = compat.check_list(compat_list) if registry.BENCH_COMPAT in wanted else ""
    metrics = registry.chosen(registry.load(options.assets), wanted)
    gmt.choose(options.gene_sets, options.fixed_sets)  # a wrong file is said before the cells are read
    if options.out.exists() and not options.out.is_dir():
        raise InputError("not a folder", where="--out", found=options.out)

    named = evaluate_inputs.named_files(options.predictions, catalogue.load("models", options.assets)["entries"])
    files = {"--truth": options.truth, "--train": options.train, **named}
    test, train, *own = (evaluate_inputs.open_source(path, option) for option, path in files.items())
    models = {source.model: source for source in own}
    evaluate_inputs.check_labels(test, train)
    evaluate_inputs.check_sizes(test, train)
    table = evaluate_inputs.read_table(options.perturbations, test) if options.perturbations else None
    classes = read_classes(options)
    genes = evaluate_inputs.common_genes((test, train, *own))
    missing, extra = {}, {}
    for name, source in models.items():
        missing[name], extra[name] = evaluate_inputs.check_predicted(source, test, options.allow_missing)
    of_test, of_train = (
        evaluate_inputs.scan(source, genes, measured=True, with_totals=source is train) for source in (test, train)
    )
    doubled = evaluate_inputs.shared_controls(of_test, of_train)
    if doubled:
        raise InputError(f"{doubled} control cells are in both files", where="--truth, --train",
                         hint="scores need disjoint control cells: put one half into each file")  # fmt: skip
    evaluate_inputs.check_controls(of_test, of_train)
    ratio = {
        name: evaluate_inputs.check_scale(evaluate_inputs.scan(source, genes, measured=False), of_train, source)
        for name, source in models.items()
    }
    total = evaluate_inputs.target_sum(of_train, options.target_sum)
    listed = None if options.perturbations is None else truth_cli.read_targets(options.perturbations)
    targets = evaluate_inputs.target_genes(test, listed, genes)
    hashes = {option: sha256_file(path) for option, path in files.items()}
    evaluate_inputs.check_identical(hashes)
    facts = {"dataset": DATASET, "split": SPLIT, "inputs": {option[2:]: value for option, value in hashes.items()}}

    measured = build_truth(test, train, genes, targets, facts, options, total, list_name, wanted, classes)
    built, de_rows = measured.test, measured.de_rows
    fold = built.fold(FOLD)
    known = evaluate_baselines.perturbations(
        (*test.ids, *train.ids), {**evaluate_inputs.known_genes(train, listed), **targets}, table or ()
    )
    baselines, left_out = evaluate_baselines.predictions(
        built, fold, train, {item.id: item for item in known}, options.seed, options.assets
    )
    of_cells = any(metric.cells for metric in metrics.values())
    kinds, tables, by_gene = {}, references(built, metrics), gene_values.of_truth(built)
    for name, source in models.items():
        found = predictions.summarise_stored(source.reader, source.labels, built.genes, of_cells)
        kinds[name] = "cells" if found.variance is not None else "profiles"
        aligned = scoring.align(fold, found.ids, found.mean, found.variance, found.n_cells)
        aligned = score.with_cells(aligned, fold, found, built.facts["seed"])
        tables[name] = scored_rows(built, name, aligned, metrics, options.seed, nulls=True)
        by_gene += gene_values.of_model(built, {FOLD: aligned}, name, "none", "none", 0)
    for name, predicted in baselines.items():
        tables[name] = scored_rows(built, name, predicted, metrics, options.seed, nulls=False)
        by_gene += gene_values.of_model(built, {FOLD: predicted}, name, "none", "none", 0)
    rows = [row for part in tables.values() for row in part]
    header = {
        **facts, "n_genes": len(genes), "axis_sha256": built.facts["axis_sha256"], "target_sum": total,
        "bench_compat_de_list": list_name, "n_missing": sum(map(len, missing.values())),
        "n_extra": sum(map(len, extra.values())),
    }  # fmt: skip
    scored = scoring.to_table(rows, header)
    cluster_of = clusters(test.ids, table)
    if len(set(cluster_of.values())) < FEWEST_CLUSTERS:
        log.warning("--truth: %d perturbations, variants of one residue counted once: with fewer than %d no difference "
                    "can be significant",
                    len(set(cluster_of.values())), FEWEST_CLUSTERS)  # fmt: skip
    of_genes = gene_values.to_table(DATASET, SPLIT, by_gene)
    compared = evaluate_tables.compare(scored, list(models), list(baselines), cluster_of, options, over_genes(of_genes))
    columns = evaluate_tables.summary(built, tables, metrics, list(models), compared)
    options.out.mkdir(parents=True, exist_ok=True)
    import pyarrow.parquet as pq

    pq.write_table(scored, options.out / "scores.parquet")
    gene_values.write(of_genes, options.out / "genes.parquet")
    settings = json.loads(json.dumps({**de.settings(), **header}))
    pq.write_table(de.to_table(de_rows, built.genes, settings), options.out / "de.parquet")
    write_tsv(options.out / "summary.tsv", columns, SUMMARY)
    for name, header_of in evaluate_tables.TABLES.items():
        write_tsv(options.out / f"{name}.tsv", compared[name], header_of)
    of_models = {
        name: {
            "predicted_as": kinds[name], "missing_perturbations": missing[name], "extra_perturbations": extra[name],
            "predicted_to_measured_total": round(ratio[name], 6),
        }
        for name in models
    }  # fmt: skip
    record = {
        "schema_version": SCHEMA_VERSION, **header,
        "inputs": {s.option[2:]: s.facts(hashes[s.option], len(genes)) for s in (test, train, *own)},
        **(of_models[OWN] if list(models) == [OWN] else {"models": of_models}),
        "baselines": sorted(baselines), "baselines_left_out": left_out,
        "control_cells": {"held_out": test.n_control, "training": train.n_control},
        "metrics": ["default", *wanted], "seed": options.seed, "bootstrap": options.bootstrap,
    }  # fmt: skip
    (options.out / "evaluation.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    print(evaluate_tables.headline(columns, metrics))
    if told := evaluate_tables.between(compared["contrasts"], list(models), metrics):
        print(f"\n{told}")


def scored_rows(
    built: bundle.TruthBundle, name: str, predicted: Predicted, metrics: Mapping[str, Metric], seed: int, nulls: bool
) -> list[tuple]:
    """Return the score rows of one model, with `nulls` also those under shuffled labels."""
    rows = scoring.Rows(built.facts["dataset"], SPLIT, name)
    scoring.score_combination(built, {FOLD: predicted}, metrics, rows, seed, nulls=nulls)
    return rows.rows


def references(built: bundle.TruthBundle, metrics: Mapping[str, Metric]) -> dict[str, list[tuple]]:
    """Return the evaluator's own score rows by id; all ceilings stand under `tech_duplicate`."""
    tables: dict[str, list[tuple]] = {}
    rows = scoring.Rows(built.facts["dataset"], SPLIT, contract.NO_SKILL)
    scoring.add_no_skill(built, metrics, rows)
    tables[contract.NO_SKILL] = rows.rows
    tables[contract.TECH_DUPLICATE] = ceilings.rows_of(built, metrics)
    rows = scoring.Rows(built.facts["dataset"], SPLIT, contract.TRUTH)
    scoring.add_truth_facts(built, rows)
    tables[contract.TRUTH] = rows.rows
    return tables

"""`vcb_evaluate.py`: score any prediction file against truth and training cells, with the pipeline's own code."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import catalogue, cli
from vcbench.core.errors import InputError
from vcbench.core.h5ad import SCHEMA_VERSION
from vcbench.core.hashing import sha256_file
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.metrics import (
    bundle,
    ceilings,
    compat,
    contract,
    de,
    evaluate_inputs,
    gmt,
    predictions,
    registry,
    score,
    scoring,
    truth,
    truth_cli,
)
from vcbench.metrics.evaluate_inputs import Source
from vcbench.metrics.registry import Metric
from vcbench.metrics.stored_cells import StoredCells, in_order_of_names

log = logging.getLogger(__name__)

FOLD = 1
DATASET, SPLIT = "evaluation", "given"
#: Name of the scored file in the tables.
OWN = "predictions"
BASELINES = ("train_mean", "no_change")
SUMMARY = (
    "metric", "gene_set", "value", "n", "status", "ci_low", "ci_high", *BASELINES, contract.TECH_DUPLICATE,
    contract.FULL_VS_FULL, "null_mean", "null_low", "null_high", "best_baseline", "difference", "difference_low",
    "difference_high", "p", "p_holm", "verdict", "discriminates", "metric_status", "direction", "title",
    "n_missing_pred",
)  # fmt: skip

EPILOG = """Example:
  vcb_evaluate.py --truth test.h5ad --train train.h5ad --predictions mine.h5ad --out evaluation

  --truth        cells of the held-out perturbations and control cells no model has seen
  --train        cells of the training perturbations and the control cells the model was given
  --predictions  predicted cells, or one profile per perturbation; control rows are ignored

All three: obs column `perturbation` (control = `control`), X = natural log1p of counts scaled to one total per cell,
dense or sparse, genes matched by name in any order. Cells are read in blocks: memory depends on the number of genes
and perturbations, not of cells. Writes summary.tsv (per metric your value with its interval, what the training mean,
no change, a replicate measurement (tech_duplicate) and shuffled labels score, and the test against the better of the
two baselines), scores.parquet (every value), de.parquet (changed genes of the truth) and evaluation.json (files, genes,
what is missing). docs/evaluate.md explains them."""


def build_truth(
    test: Source, train: Source, genes: Sequence[str], targets: Mapping[str, Sequence[str]], facts: dict[str, Any],
    options: Any, target_sum: float, list_name: str, groups: Sequence[str] = (),
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
                       gene_sets, fixed, lists, groups)  # fmt: skip


def parse(argv: Sequence[str]) -> Any:
    """Return the options of the command line."""
    parser = cli.parser("Score any prediction of held-out perturbations.", EPILOG)
    parser.add_argument("--truth", required=True, type=Path, metavar="H5AD", help="held-out cells and unseen controls")
    parser.add_argument(
        "--train", required=True, type=Path, metavar="H5AD", help="training cells and training controls"
    )
    parser.add_argument("--predictions", required=True, type=Path, metavar="H5AD", help="predicted cells or profiles")
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
    if options.bench_compat_de_list and registry.BENCH_COMPAT not in registry.requested(
        options.metrics, options.bench_compat
    ):
        raise InputError("has no effect without --bench-compat", where="--bench-compat-de-list",
                         found=options.bench_compat_de_list)  # fmt: skip
    return options


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    options = parse(argv)
    wanted = registry.requested(options.metrics, options.bench_compat)
    compat_list = options.bench_compat_de_list or compat.DE_LISTS[0]
    list_name = compat.check_list(compat_list) if registry.BENCH_COMPAT in wanted else ""
    metrics = registry.chosen(registry.load(options.assets), wanted)
    gmt.choose(options.gene_sets, options.fixed_sets)  # a wrong file is said before the cells are read
    table = read_tsv(options.perturbations, ("perturbation", "gene")) if options.perturbations else None

    files = {f"--{name}": getattr(options, name) for name in ("truth", "train", "predictions")}
    test, train, predicted = (evaluate_inputs.open_source(path, option) for option, path in files.items())
    evaluate_inputs.check_labels(test, train)
    genes = evaluate_inputs.common_genes((test, train, predicted))
    missing, extra = evaluate_inputs.check_predicted(predicted, test, options.allow_missing)
    scans = [
        evaluate_inputs.scan(source, genes, measured=source is not predicted, with_totals=source is not test)
        for source in (test, train, predicted)
    ]
    doubled = evaluate_inputs.shared_controls(*scans[:2])
    if doubled:
        raise InputError(f"{doubled} control cells are in both files", where="--truth, --train",
                         hint="scores need disjoint control cells: put one half into each file")  # fmt: skip
    evaluate_inputs.check_controls(*scans[:2])
    ratio = evaluate_inputs.check_scale(scans[2], scans[1], predicted.path)
    total = evaluate_inputs.target_sum(scans[1], options.target_sum)
    targets = evaluate_inputs.target_genes(
        test, None if options.perturbations is None else truth_cli.read_targets(options.perturbations)
    )
    hashes = {option: sha256_file(path) for option, path in files.items()}
    facts = {"dataset": DATASET, "split": SPLIT, "inputs": {option[2:]: value for option, value in hashes.items()}}

    measured = build_truth(test, train, genes, targets, facts, options, total, list_name, wanted)
    built, de_rows = measured.test, measured.de_rows
    of_cells = any(metric.cells for metric in metrics.values())
    found = predictions.summarise_stored(predicted.reader, predicted.labels, built.genes, of_cells)
    tables = score_all(built, found, metrics, options.seed)
    rows = [row for part in tables.values() for row in part]
    header = {
        **facts, "n_genes": len(genes), "axis_sha256": built.facts["axis_sha256"], "target_sum": total,
        "bench_compat_de_list": list_name, "n_missing": len(missing), "n_extra": len(extra),
    }  # fmt: skip
    scored = scoring.to_table(rows, header)
    columns = summary(built, tables, metrics, tests_of(scored, clusters(test.ids, table), options))
    options.out.mkdir(parents=True, exist_ok=True)
    import pyarrow.parquet as pq

    pq.write_table(scored, options.out / "scores.parquet")
    settings = json.loads(json.dumps({**de.settings(), **header}))
    pq.write_table(de.to_table(de_rows, built.genes, settings), options.out / "de.parquet")
    write_tsv(options.out / "summary.tsv", columns, SUMMARY)
    record = {
        "schema_version": SCHEMA_VERSION, **header,
        "inputs": {s.option[2:]: s.facts(hashes[s.option], len(genes)) for s in (test, train, predicted)},
        "predicted_as": "cells" if found.variance is not None else "profiles",
        "missing_perturbations": missing, "extra_perturbations": extra, "predicted_to_measured_total": round(ratio, 6),
        "control_cells": {"held_out": test.n_control, "training": train.n_control},
        "metrics": ["default", *wanted], "seed": options.seed, "bootstrap": options.bootstrap,
    }  # fmt: skip
    (options.out / "evaluation.json").write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    print(headline(columns, metrics))


def score_all(
    built: bundle.TruthBundle, found: predictions.PredictedProfiles, metrics: Mapping[str, Metric], seed: int
) -> dict[str, list[tuple]]:
    """Return the score rows by id: the predictions, train_mean, no_change and the evaluator's own.

    All ceilings stand under `tech_duplicate`.
    """
    fold = built.fold(FOLD)
    ones = np.ones(len(fold.ids), dtype=np.int64)
    control = np.tile(fold.control_b, (len(fold.ids), 1))
    scored = {
        OWN: score.with_cells(
            scoring.align(fold, found.ids, found.mean, found.variance, found.n_cells), fold, found, built.facts["seed"]
        ),
        "train_mean": scoring.train_mean_prediction(fold),
        "no_change": scoring.align(fold, fold.ids, control, None, ones),
    }
    tables: dict[str, list[tuple]] = {}
    for name, predicted in scored.items():
        rows = scoring.Rows(built.facts["dataset"], SPLIT, name)
        scoring.score_combination(built, {FOLD: predicted}, metrics, rows, seed, nulls=name == OWN)
        tables[name] = rows.rows
    rows = scoring.Rows(built.facts["dataset"], SPLIT, contract.NO_SKILL)
    scoring.add_no_skill(built, metrics, rows)
    tables[contract.NO_SKILL] = rows.rows
    tables[contract.TECH_DUPLICATE] = ceilings.rows_of(built, metrics)
    rows = scoring.Rows(built.facts["dataset"], SPLIT, contract.TRUTH)
    scoring.add_truth_facts(built, rows)
    tables[contract.TRUTH] = rows.rows
    return tables


def clusters(ids: Sequence[str], table: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """Return the cluster of each perturbation: variants of one residue belong together, others stand alone.

    The residue is column `pos` of the table of perturbations, or read from ids like ``TP53~R175H``.
    """
    listed = {row["perturbation"]: f"{row['gene']} {row['pos']}".strip() for row in table or () if row.get("pos")}
    found = {}
    for name in ids:
        variant = re.fullmatch(r"([^~+;]+)~[A-Za-z]+(\d+)[^~+;\d]+", name)
        found[name] = listed.get(name) or (f"{variant[1]} {variant[2]}" if variant else name)
    return found


def tests_of(scored: Any, cluster_of: Mapping[str, str], options: Any) -> dict[tuple[str, str], dict[str, Any]]:
    """Return by metric and gene set the interval of the value, and the test against the better baseline.

    Intervals, resamples, flips and the choice of the baseline are those of the pipeline (:mod:`vcbench.stats`).
    """
    from vcbench.stats import aggregate

    plan = [
        {"dataset": DATASET, "split": SPLIT, "fold": FOLD, "model": name, "encoder": "none", "strategy": "none",
         "seed": 0, "class": "baseline" if name in BASELINES else "external", "state": "ok"}
        for name in (OWN, *BASELINES)
    ]  # fmt: skip
    tables = aggregate.aggregate(
        plan, scored.replace_schema_metadata(None), {DATASET: cluster_of}, options.assets, set(), options.seed,
        options.bootstrap,
    )  # fmt: skip
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in tables["leaderboard"]:
        if row["model"] == OWN:
            kept = {key: row[key] for key in ("ci_low", "ci_high", "discriminates", "metric_status",
                                               "n_missing_pred")}  # fmt: skip
            found[row["metric"], row["gene_set"]] = {**kept, contract.FULL_VS_FULL: row["ceiling_full"]}
    for row in tables["contrasts"]:
        if row["model"] == OWN and row["reference"] == aggregate.BEST_BASELINE:
            found[row["metric"], row["gene_set"]] |= {
                "best_baseline": row["reference_model"], "difference": row["difference"],
                "difference_low": row["ci_low"], "difference_high": row["ci_high"],
                **{key: row[key] for key in ("p", "p_holm", "verdict")},
            }  # fmt: skip
    return found


def summary(
    built: bundle.TruthBundle, tables: Mapping[str, list[tuple]], metrics: Mapping[str, Metric],
    tests: Mapping[tuple[str, str], Mapping[str, Any]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row per metric and gene set: value, perturbations behind it, why others have none, and references."""
    from vcbench.stats.numbers import tidy

    of = {model: _by_column(rows) for model, rows in tables.items()}
    empty = dict.fromkeys(
        ("ci_low", "ci_high", contract.FULL_VS_FULL, "difference", "difference_low", "difference_high", "p", "p_holm"),
        np.nan,
    )
    result = []
    for metric, gene_set in scoring.reported(built, metrics):
        name = scoring.set_name(built, gene_set)
        key = (metric.id, name)
        value, n, status = _panel_value(of[OWN], metric, name, OWN)
        references = {
            model: tidy(_panel_value(of[model], metric, name, model)[0])
            for model in (*BASELINES, contract.TECH_DUPLICATE)
        }
        model = f"{contract.SHUFFLED_LABELS}:{OWN}"
        null = [row[10] for row in of[OWN].get((model, *key), ())]
        null = [found for found in null if not np.isnan(found)]
        low, high = np.percentile(null, [2.5, 97.5]) if null else (np.nan, np.nan)
        result.append({
            "metric": metric.id, "gene_set": name, "value": tidy(value), "n": n, "status": status, **references,
            "null_mean": tidy(np.mean(null)) if null else np.nan, "null_low": tidy(low), "null_high": tidy(high),
            **empty, "best_baseline": "", "verdict": "", "discriminates": "", "metric_status": "", "n_missing_pred": "",
            **tests.get(key, {}),
            "direction": metric.direction, "title": metric.title,
        })  # fmt: skip
    return result


def _by_column(rows: Sequence[tuple]) -> dict[tuple[str, str, str], list[tuple]]:
    """Return score rows by (model, metric, gene set)."""
    found: dict[tuple[str, str, str], list[tuple]] = {}
    for row in rows:
        found.setdefault((row[3], *row[8:10]), []).append(row)
    return found


def _panel_value(
    rows: Mapping[tuple[str, str, str], list[tuple]], metric: Metric, gene_set: str, model: str
) -> tuple[float, int, str]:
    """Return value, number of perturbations and status (``ok``, or reasons with counts) of one metric."""
    found = rows.get((model, metric.id, gene_set), [])
    if metric.level == "panel":
        row = found[0]
        return row[10], row[15], row[14]
    values = np.array([row[10] for row in found])
    known = ~np.isnan(values)
    reasons = Counter(row[14] for row, ok in zip(found, known, strict=True) if not ok)
    status = ";".join(f"{name}:{count}" for name, count in sorted(reasons.items())) or contract.OK
    return float(values[known].mean()) if known.any() else np.nan, int(known.sum()), status


def headline(rows: Sequence[Mapping[str, Any]], metrics: Mapping[str, Metric]) -> str:
    """Return the headline metrics as a table for the terminal."""
    columns = ("value", *BASELINES, contract.TECH_DUPLICATE, "null_mean")
    lines = [["metric", "genes", "better", *columns, "against best baseline"]]
    for row in rows:
        metric = metrics[row["metric"]]
        if row["gene_set"] in metric.headline and not metric.compat:
            numbers = ["-" if np.isnan(row[name]) else f"{row[name]:.3g}" for name in columns]
            missing = f" ({row['n_missing_pred']} not predicted: no skill)" if row["n_missing_pred"] else ""
            lines.append(
                [row["metric"], row["gene_set"], row["direction"], *numbers, (row["verdict"] or "-") + missing]
            )
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
                     for line in lines)  # fmt: skip

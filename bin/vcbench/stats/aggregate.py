"""`vcb_aggregate.py`: all scores onto the plan: leaderboard, contrasts, and what became of every unit."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import catalogue, cli, seeds
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.metrics import contract, registry, scoring
from vcbench.metrics.registry import Metric
from vcbench.stats import accounting, bootstrap, contrasts
from vcbench.stats.panel import Combination, Panel, Scores, Series

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

EPILOG = """Example:
  vcb_aggregate.py --plan plan.tsv --statuses statuses/* --scores scores/* --perturbations *.perturbations.tsv \\
    --failures failures.json --seed 0 --bootstrap 2000 --out-dir tables

Writes leaderboard.tsv, contrasts.tsv, plan.tsv (every unit with its state and reason) and scores.parquet (every value).
--scores takes the tables of vcb_score.py and the reference tables of vcb_truth.py. The best simple baseline of a metric
is the baseline model (on any encoder except negative controls) with the best value over the test perturbations: chosen
on the data it is compared on, which favours the baseline, so that a claim to beat it is conservative."""

LEADERBOARD = (
    "dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "value", "ci_low", "ci_high", "n",
    "n_expected", "value_imputed", "median", "sd", "n_nan", "reasons", "null_mean", "null_low", "null_high", "ceiling",
    "ceiling_full", "interval", "n_clusters", "n_seeds", "seed_sd", "units_ok", "units_planned",
)  # fmt: skip
CONTRASTS = (
    "dataset", "split", "metric", "gene_set", "model", "encoder", "strategy", "reference_model", "reference_encoder",
    "reference_strategy", "difference", "ci_low", "ci_high", "p", "p_holm", "n", "detectable", "reference", "verdict",
    "interval", "n_clusters", "median_difference", "superiority", "p_signed_rank", "n_zero", "sd_difference",
)  # fmt: skip

#: Two kinds of reference; each is a family of its own for Holm's correction within metric, dataset and split.
BEST_BASELINE = "best_baseline"
TRAIN_MEAN = "train_mean"
ALPHA = 0.05


@dataclass(frozen=True)
class Planned:
    """A planned combination: its class, seeds, folds and how many of its units have scores."""

    of: Combination
    kind: str
    seeds: tuple[int, ...]
    folds: frozenset[int]
    units: int
    units_ok: int


def within(value: float, metric: Metric) -> float:
    """Return an end of an interval cut to what the metric can be: t intervals of few values reach beyond it."""
    low, high = metric.range
    return float(np.clip(value, -np.inf if low is None else low, np.inf if high is None else high))


def tidy(value: float) -> float:
    """Return a number with 10 significant digits: what readers need, and safe from the last bits of a library."""
    return float(f"{value:.10g}")


# ---------------------------------------------------------------------------------------------------------------------
# Reading


def read_scores(paths: Iterable[Path]) -> pa.Table:
    """Return all score rows sorted by their keys; raises :class:`InputError` for doubled rows or another layout."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in sorted(paths):
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError("not a readable score table", where=str(path), found=error) from error
        if tuple(table.column_names) != scoring.COLUMNS:
            raise InputError("not a score table", where=str(path), found=", ".join(table.column_names[:4]),
                             expected=", ".join(scoring.COLUMNS[:4]) + ", ...")  # fmt: skip
        tables.append(table.replace_schema_metadata(None))
    if not tables:
        return scoring.to_table([], {}).replace_schema_metadata(None)
    table = pa.concat_tables(tables)
    table = table.sort_by([(name, "ascending") for name in scoring.KEYS])
    keys = table.select(list(scoring.KEYS))
    counts = keys.group_by(list(scoring.KEYS)).aggregate([([], "count_all")])
    doubled = counts.filter(pa.compute.greater(counts["count_all"], 1))
    if doubled.num_rows:
        first = doubled.sort_by([(name, "ascending") for name in scoring.KEYS]).slice(0, 1).to_pylist()[0]
        raise InputError(
            "score rows given twice", where="--scores", found=" ".join(str(first[k]) for k in scoring.KEYS)
        )
    return table


def read_clusters(paths: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Return by dataset the cluster of each perturbation: gene and residue position, or the perturbed genes.

    A perturbation with several residues or genes is a cluster of its own: chaining clusters over shared parts would
    tie most of a combinatorial screen together.
    """
    found = {}
    for path in sorted(paths, key=lambda path: path.name):
        rows = read_tsv(path, ("perturbation", "gene", "pos"))
        found[path.name.split(".")[0]] = {row["perturbation"]: f"{row['gene']} {row['pos']}".strip() for row in rows}
    return found


def _lookup(table: pa.Table) -> dict[tuple[str, str], Scores]:
    """Return the rows of all panels as dictionaries."""
    panels: dict[tuple[str, str], Scores] = defaultdict(lambda: Scores(defaultdict(dict), {}))
    columns = [table.column(name).to_pylist() for name in scoring.COLUMNS[:15]]
    for (dataset, split, fold, model, encoder, strategy, seed, perturbation, metric, gene_set,
         value, n_genes, _, _, status) in zip(*columns, strict=True):  # fmt: skip
        scores = panels[dataset, split]
        key = (metric, gene_set, model, encoder, strategy, seed)
        value = np.nan if value is None else value
        if fold == contract.ALL_FOLDS and not perturbation:
            scores.over_folds[key] = (value, n_genes, status)
        elif perturbation:
            scores.by_perturbation[key][fold, perturbation] = (value, status)
    return panels


# ---------------------------------------------------------------------------------------------------------------------
# One panel


def build_panel(
    dataset: str, split: str, scores: Scores, clusters: Mapping[str, str], seed: int, n_resamples: int
) -> Panel:
    """Return the panel of a dataset and split; its rows are the test perturbations the truth names."""
    rows = sorted(
        {row for key, found in scores.by_perturbation.items() if key[2] == contract.NO_SKILL for row in found}
    )
    unknown = [name for _, name in rows if name not in clusters]
    if unknown:
        raise InputError(f"perturbation {unknown[0]} is not listed", where=f"{dataset}.perturbations.tsv")
    groups = bootstrap.clusters([clusters[name] for _, name in rows], np.array([fold for fold, _ in rows]))
    generator = seeds.stream(seed, "bootstrap", dataset, split)
    weights = bootstrap.resamples(groups, n_resamples, generator)
    return Panel(dataset, split, tuple(rows), groups, weights, scores)


def _null(panel: Panel, metric: str, gene_set: str, planned: Planned) -> tuple[float, float, float]:
    """Return mean, 2.5 % and 97.5 % point of the shuffled-label values, seeds averaged per permutation."""
    model, encoder, strategy = planned.of
    per_seed = []
    for seed in planned.seeds:
        key = (metric, gene_set, f"{contract.SHUFFLED_LABELS}:{model}", encoder, strategy, seed)
        found = panel.scores.by_perturbation.get(key, {})
        per_seed.append({name: value for (_, name), (value, _) in found.items()})
    names = sorted({name for found in per_seed for name in found})
    values = np.array([[found.get(name, np.nan) for name in names] for found in per_seed])
    known = ~np.isnan(values)
    if not known.any():
        return np.nan, np.nan, np.nan
    columns = known.any(axis=0)
    means = np.where(known, values, 0.0).sum(0)[columns] / known.sum(0)[columns]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(means.mean()), float(low), float(high)


def ceilings(panel: Panel, metric: Metric, gene_set: str) -> tuple[float, float]:
    """Return the split-half ceiling and the value of two full-size replicates that follows from it (metrics.md 6.5).

    Correlations step up by Spearman-Brown when positive, squared errors halve; NaN for other metrics.
    """
    of = (contract.TECH_DUPLICATE, "none", "none")
    if metric.jackknife:
        half = panel.scores.over_folds.get((metric.id, gene_set, *of, 0), (np.nan, 0, ""))[0]
    else:
        half = panel.series(metric, gene_set, of, (0,), {fold for fold, _ in panel.rows}).value
    if metric.replicate == "spearman_brown" and half > 0:
        return half, 2 * half / (1 + half)
    if metric.replicate == "halve":
        return half, half / 2
    return half, np.nan


def leaderboard_rows(
    panel: Panel, plan: Sequence[Planned], pairs: Sequence[tuple[Metric, str]], series: Mapping[tuple, Series]
) -> list[dict[str, Any]]:
    """Return one row per planned combination, metric and gene set, also for those without any value."""
    top = {(metric.id, gene_set): ceilings(panel, metric, gene_set) for metric, gene_set in pairs}
    rows = []
    for planned in plan:
        n_expected = int(panel.expected(set(planned.folds)).sum())
        for metric, gene_set in pairs:
            found = series[metric.id, gene_set, planned.of]
            ci = bootstrap.interval([(found.numerator, found.denominator)], [1.0], panel.groups, panel.weights)
            null = _null(panel, metric.id, gene_set, planned)
            per_perturbation = metric.level == "perturbation"
            values = found.numerator[~np.isnan(found.numerator)]
            known_seeds = found.seed_values[~np.isnan(found.seed_values)]
            numbers = {
                "value": found.value, "ci_low": within(ci.low, metric), "ci_high": within(ci.high, metric),
                "value_imputed": found.imputed if planned.units_ok else np.nan,
                "median": np.median(values) if per_perturbation and len(values) else np.nan,
                "sd": np.std(values, ddof=1) if per_perturbation and len(values) > 1 else np.nan,
                "null_mean": null[0], "null_low": null[1], "null_high": null[2],
                "ceiling": top[metric.id, gene_set][0], "ceiling_full": top[metric.id, gene_set][1],
                "seed_sd": np.std(known_seeds, ddof=1) if len(known_seeds) > 1 else np.nan,
            }  # fmt: skip
            model, encoder, strategy = planned.of
            present = ~np.isnan(found.numerator) & ~np.isnan(found.denominator)
            rows.append({
                "dataset": panel.dataset, "split": panel.split,
                "model": model, "encoder": encoder, "strategy": strategy, "metric": metric.id,
                "gene_set": gene_set, "n": found.n, "n_expected": n_expected,
                "n_nan": n_expected - found.n,
                "reasons": ";".join(f"{name}:{count}" for name, count in sorted(found.reasons.items())),
                "interval": ci.method, "n_clusters": len(np.unique(panel.groups.code[present])),
                "n_seeds": len(planned.seeds), "units_ok": planned.units_ok, "units_planned": planned.units,
                **{name: tidy(value) for name, value in numbers.items()},
            })  # fmt: skip
    return rows


def best_baseline(
    metric: Metric, gene_set: str, plan: Sequence[Planned], series: Mapping[tuple, Series], negative: set[str]
) -> Combination | None:
    """Return the baseline combination with the best imputed value, None without one.

    Baselines on negative-control encoders carry no information about the perturbation: choosing among them
    would only add the luck of the draw.
    """
    better = 1 if metric.direction == "higher" else -1
    found = [
        (better * series[metric.id, gene_set, planned.of].imputed, planned.of)
        for planned in plan
        if planned.kind == "baseline" and planned.of[1] not in negative and planned.units_ok
    ]
    found = [item for item in found if not np.isnan(item[0])]
    # Ties go to the first name, so that the choice does not depend on the order of the plan.
    return min(found, key=lambda item: (-tidy(item[0]), item[1]))[1] if found else None


def contrast_rows(
    panel: Panel, plan: Sequence[Planned], pairs: Sequence[tuple[Metric, str]], series: Mapping[tuple, Series],
    negative: set[str], seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the paired difference of every combination to the best simple baseline and to the train mean."""
    rows = []
    train_mean = next((p.of for p in plan if p.of[0] == TRAIN_MEAN and p.units_ok), None)
    for metric, gene_set in pairs:
        if metric.direction not in ("higher", "lower"):
            continue
        best = best_baseline(metric, gene_set, plan, series, negative)
        for kind, reference in ((BEST_BASELINE, best), (TRAIN_MEAN, train_mean)):
            if reference is None:
                continue
            family = [
                _contrast(panel, metric, gene_set, planned, reference, kind, series, seed)
                for planned in plan
                if planned.of != reference
            ]
            adjusted = contrasts.holm(np.array([row["p"] for row in family]))
            for row, p_holm in zip(family, adjusted, strict=True):
                row["p_holm"] = tidy(p_holm)
                row["verdict"] = _verdict(row, metric)
            rows += family
    return rows


def _verdict(row: Mapping[str, Any], metric: Metric) -> str:
    """Return better, worse or unresolved, from the corrected p value and the sign that is good for the metric."""
    if not row["p_holm"] < ALPHA:
        return "unresolved"
    return "better" if (row["difference"] > 0) == (metric.direction == "higher") else "worse"


def _contrast(
    panel: Panel, metric: Metric, gene_set: str, planned: Planned, reference: Combination, kind: str,
    series: Mapping[tuple, Series], seed: int,
) -> dict[str, Any]:  # fmt: skip
    model, other = series[metric.id, gene_set, planned.of], series[metric.id, gene_set, reference]
    common = ~np.isnan(model.imputed_numerator) & ~np.isnan(other.imputed_numerator)
    common &= bool(planned.units_ok)  # a combination without any score is listed, not judged
    terms = [
        tuple(np.where(common, part, np.nan) for part in (found.imputed_numerator, found.imputed_denominator))
        for found in (model, other)
    ]
    scale = terms[1][1][common].mean() if common.any() else np.nan
    # Single precision of predictions moves scores in the seventh digit: such differences are none.
    close = np.abs(terms[0][0] - terms[1][0]) <= contract.TOLERANCE * np.maximum(1.0, np.abs(terms[1][0]))
    terms[0] = (np.where(close, terms[1][0], terms[0][0]), terms[0][1])
    differences = (terms[0][0] - terms[1][0]) / scale
    ci = bootstrap.interval(terms, [1.0, -1.0], panel.groups, panel.weights)
    # The flips depend on the panel only, so every contrast of it meets the same ones.
    generator = seeds.stream(seed, "sign flips", panel.dataset, panel.split)
    signed_rank, zeros = contrasts.signed_rank(differences)
    known = differences[common]
    numbers = {
        "difference": bootstrap.ratio(*terms[0]) - bootstrap.ratio(*terms[1]),
        "ci_low": ci.low,
        "ci_high": ci.high,
        "p": contrasts.sign_flip(differences, panel.groups, generator),
        "detectable": contrasts.DETECTABLE_ERRORS * ci.standard_error,
        "median_difference": np.median(known) if len(known) else np.nan,
        "superiority": contrasts.superiority(differences),
        "p_signed_rank": signed_rank,
        "sd_difference": np.std(known, ddof=1) if len(known) > 1 else np.nan,
    }
    names = dict(zip(("model", "encoder", "strategy"), planned.of, strict=True))
    reference_names = dict(zip(("reference_model", "reference_encoder", "reference_strategy"), reference, strict=True))
    return {
        "dataset": panel.dataset, "split": panel.split, "metric": metric.id, "gene_set": gene_set, **names,
        **reference_names, "n": int(common.sum()), "reference": kind, "interval": ci.method, "n_zero": zeros,
        "n_clusters": len(np.unique(panel.groups.code[common])),
        **{name: tidy(value) for name, value in numbers.items()},
    }  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Everything


def combinations(plan: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Planned]]:
    """Return the planned combinations of each (dataset, split), sorted; rows must have their `state`."""
    units: dict[tuple[str, str], dict[Combination, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in plan:
        units[row["dataset"], row["split"]][row["model"], row["encoder"], row["strategy"]].append(row)
    return {
        panel: [
            Planned(
                of,
                rows[0]["class"],
                tuple(sorted({int(row["seed"]) for row in rows})),
                frozenset(int(row["fold"]) for row in rows),
                len(rows),
                sum(row["state"] == "ok" for row in rows),
            )
            for of, rows in sorted(found.items())
        ]
        for panel, found in sorted(units.items())
    }


def _pairs(metrics: Mapping[str, Metric], scores: Scores) -> list[tuple[Metric, str]]:
    """Return the (metric, gene set) pairs of a panel; compat lists by the name under which they were scored."""
    found = {key[:2] for key in [*scores.by_perturbation, *scores.over_folds]}
    present = {metrics[metric].group for metric, _ in found if metric in metrics}
    pairs = []
    for metric, gene_set in registry.reported(registry.chosen(dict(metrics), sorted(present))):
        if gene_set == "listed":
            pairs += sorted(((metric, s) for m, s in found if m == metric.id), key=lambda pair: pair[1])
        else:
            pairs.append((metric, gene_set))
    return pairs


def aggregate(
    plan: Sequence[Mapping[str, Any]], table: pa.Table, clusters: Mapping[str, Mapping[str, str]],
    metrics: Mapping[str, Metric], negative: set[str], seed: int, n_resamples: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Return leaderboard and contrast rows of all panels; `plan` carries the state of each unit."""
    lookup = _lookup(table)
    board, differences = [], []
    for (dataset, split), planned in combinations(plan).items():
        scores = lookup.get((dataset, split), Scores({}, {}))
        if dataset not in clusters and scores.by_perturbation:
            raise InputError(f"no perturbations table of dataset {dataset}", where="--perturbations")
        panel = build_panel(dataset, split, scores, clusters.get(dataset, {}), seed, n_resamples)
        pairs = _pairs(metrics, scores)
        log.info("%s %s: %d combinations, %d perturbations, %d clusters", dataset, split, len(planned), len(panel.rows),
                 panel.groups.n)  # fmt: skip
        series = {
            (metric.id, gene_set, item.of): panel.series(metric, gene_set, item.of, item.seeds, set(item.folds))
            for metric, gene_set in pairs
            for item in planned
        }
        board += leaderboard_rows(panel, planned, pairs, series)
        differences += contrast_rows(panel, planned, pairs, series, negative, seed)
    return board, differences


def scored_units(table: pa.Table, plan: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the units that have at least one score; raises :class:`InputError` for scores of units not planned."""
    keys = table.select(["dataset", "split", "fold", "model", "encoder", "strategy", "seed"])
    known = {row["unit"] for row in plan}
    found = set()
    for row in keys.group_by(keys.column_names).aggregate([]).to_pylist():
        if row["fold"] == contract.ALL_FOLDS or contract.is_evaluator(row["model"]):
            continue
        unit = "{dataset}.{split}.f{fold}.{model}.{encoder}.{strategy}.s{seed}".format(**row)
        if unit not in known:
            raise InputError("scores of a unit that is not in the plan", where="--scores", found=unit)
        found.add(unit)
    return found


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
    parser.add_argument("--failures", type=Path, metavar="JSON", help="tasks that ended without output")
    parser.add_argument(
        "--perturbations", nargs="*", default=[], type=Path, metavar="TSV", help="<id>.perturbations.tsv"
    )
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--seed", type=int, default=0, help="seed of resamples and sign flips")
    parser.add_argument(
        "--bootstrap", type=int, default=2000, metavar="N", help="resamples of the perturbation clusters"
    )
    parser.add_argument("--out-dir", required=True, type=Path, help="output folder")
    options = parser.parse_args(argv)
    import pyarrow.parquet as pq

    metrics = registry.load(options.assets)
    encoders = catalogue.load("encoders", options.assets)["entries"]
    plan = read_tsv(options.plan, ("unit", "dataset", "split", "fold", "model", "encoder", "strategy", "seed", "class",
                                   "process", "task"))  # fmt: skip
    table = read_scores(options.scores)
    accounts = accounting.account(
        plan, accounting.read_statuses(options.statuses), accounting.read_failures(options.failures),
        scored_units(table, plan), encoders,
    )  # fmt: skip
    negative = {name for name, entry in encoders.items() if entry.get("negative_control")}
    board, differences = aggregate(
        accounts, table, read_clusters(options.perturbations), metrics, negative, options.seed, options.bootstrap
    )
    folder = options.out_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_tsv(folder / "leaderboard.tsv", board, LEADERBOARD)
    write_tsv(folder / "contrasts.tsv", differences, CONTRASTS)
    columns = [name for name in plan[0] if name not in accounting.COLUMNS] if plan else []
    write_tsv(folder / "plan.tsv", accounts, [*columns, *accounting.COLUMNS])
    write_tsv(folder / "cost.tsv", accounts, accounting.COST)
    pq.write_table(table, folder / "scores.parquet")

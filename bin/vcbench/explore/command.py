"""`vcb_explore.py`: the optional tables, from the tables of AGGREGATE."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import catalogue, cli, known_columns, seeds
from vcbench.core.errors import InputError
from vcbench.core.tables import OF_THE_SCREEN, read_tsv, write_tsv
from vcbench.explore import atlas, known_function, learning_curve, predictors
from vcbench.explore.intervals import Sample
from vcbench.metrics import registry
from vcbench.stats import bootstrap, panel, scores
from vcbench.stats.panel import Planned
from vcbench.stats.scores import Scores

log = logging.getLogger(__name__)

#: Columns of tables of substitutions that are needed here.
SUBSTITUTION = ("perturbation", "gene", "ref", "pos", "alt")

EPILOG = """example:
  vcb_explore.py --tables results/tables --perturbations results/datasets/*.perturbations.tsv \\
    --known-function 'alphamissense,giac_wt_nutlin,clinvar' --zero-shot results/encodings/tp53.esm2_llr.alt.h5ad \\
    --out-dir explored

Writes known_function.tsv, when --known-function names columns of the annotations, learning_curve.tsv, when the plan has
units of a learning curve, and atlas.tsv, when units of it were to predict all substitutions (docs/output.md)."""


def known_rows(
    held: Mapping[tuple[str, str], Scores], plan: Mapping[tuple[str, str], Sequence[Planned]],
    tables: Mapping[str, Mapping[str, Mapping[str, str]]], zero_shot: Mapping[str, Mapping[str, float]],
    wanted: Sequence[known_columns.Known], seed: int, n_resamples: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of known_function.tsv about held-out variants."""
    rows = []
    for (dataset, split), planned in plan.items():
        of = held.get((dataset, split), scores.no_scores())
        if not of.rows:
            continue
        names = [name for _, name in of.rows]
        absent = [name for name in names if name not in tables.get(dataset, {})]
        if absent:
            raise InputError(f"perturbation {absent[0]} is not listed", where=f"{dataset}.perturbations.tsv")
        annotations = [tables[dataset][name] for name in names]
        fold = np.array([number for number, _ in of.rows], dtype=int)
        base = predictors.zero_shot(names, zero_shot.get(dataset, {}), annotations)
        rankings = [*([base] if base else []), predictors.measured(of), *predictors.of_models(of, planned)]
        sample = sample_of(dataset, split, annotations, fold, seed, n_resamples)
        log.info("%s %s: %d variants, %d rankings", dataset, split, len(names), len(rankings))
        rows += known_function.rows(
            known_function.Variants(dataset, split, known_function.HELD_OUT, annotations, fold, sample, rankings),
            wanted,
        )
    return rows


def atlas_rows(
    units: Mapping[atlas.Key, Sequence[Mapping[str, Mapping[str, str]]]], held: Mapping[tuple[str, str], Scores],
    substitutions: Mapping[str, Sequence[Mapping[str, str]]], zero_shot: Mapping[str, Mapping[str, float]],
) -> dict[atlas.Key, list[dict[str, Any]]]:  # fmt: skip
    """Return the rows of atlas.tsv by configuration."""
    found = {}
    for key, tables in units.items():
        dataset, split = key[:2]
        if dataset not in substitutions:
            raise InputError(f"no substitutions of dataset {dataset}", where="--substitutions")
        of = held.get((dataset, split), scores.no_scores())
        measured = dict(zip((name for _, name in of.rows), predictors.measured(of).impact.tolist(), strict=True))
        found[key] = atlas.rows(key, tables, substitutions[dataset], measured, zero_shot.get(dataset, {}))
    return found


def known_of_atlas(
    atlases: Mapping[atlas.Key, Sequence[Mapping[str, Any]]], substitutions: Mapping[str, Sequence[Mapping[str, str]]],
    zero_shot: Mapping[str, Mapping[str, float]], kinds: Mapping[str, str], wanted: Sequence[known_columns.Known],
    seed: int, n_resamples: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of known_function.tsv about substitutions that nobody measured."""
    rows = []
    for dataset, split in sorted({key[:2] for key in atlases}):
        table = substitutions[dataset]
        base = predictors.zero_shot([row["perturbation"] for row in table], zero_shot.get(dataset, {}), table)
        sample = sample_of(dataset, split, table, np.ones(len(table), dtype=int), seed, n_resamples)
        own = {key: of for key, of in atlases.items() if key[:2] == (dataset, split)}
        rows += known_function.rows(atlas.unmeasured(dataset, split, own, table, kinds, base, sample), wanted)
    return rows


def curve_rows(
    held: Mapping[tuple[str, str], Scores], accounts: Sequence[Mapping[str, Any]],
    tables: Mapping[str, Mapping[str, Mapping[str, str]]], assets: Path, seed: int, n_resamples: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the rows of learning_curve.tsv; none when no unit is trained on a part."""
    metrics, plan = registry.load(assets), panel.combinations(accounts)
    models, encoders = (catalogue.load(kind, assets)["entries"] for kind in ("models", "encoders"))
    negative = {name for name, entry in {**models, **encoders}.items() if entry.get("negative_control")}
    rows = []
    for (dataset, split), units in learning_curve.points(accounts).items():
        of = held.get((dataset, split), scores.no_scores())
        clusters = {name: f"{row['gene']} {row['pos']}".strip() for name, row in tables.get(dataset, {}).items()}
        one = panel.build(dataset, split, plan[dataset, split], of, clusters, seed, n_resamples)
        rows += learning_curve.rows(one, units, metrics, negative)
    return rows


def of_no_use(
    wanted: Sequence[known_columns.Known], found: Sequence[Mapping[str, Any]], variants: Sequence[Mapping[str, str]]
) -> list[dict[str, Any]]:
    """Return the rows of items, or of classes of items, that no variant of any dataset has; each is a warning, too.

    `found` are the rows of known_function.tsv so far: an item that is in none of them gets a row in any case.
    """
    rows, reserved = [], set(OF_THE_SCREEN)
    columns = sorted({name for row in variants for name in row})
    for known in wanted:
        reason = known_columns.without_column(known, columns) and known_columns.without_column(
            known, [name for name in columns if name not in reserved]
        )
        reason = reason or known_columns.without_class(known, variants)
        if reason:
            log.warning("--known-function %s: %s", known.text, reason)
        own = [row for row in found if row["known"] == known.text]
        if not own or (reason and any(row["statistic"] for row in own)):
            rows.append(known_function.unused(known, reason))
    return rows


def sample_of(
    dataset: str, split: str, annotations: Sequence[Mapping[str, str]], fold: np.ndarray, seed: int, n_resamples: int
) -> Sample:
    """Return the clusters of variants (residue positions) and their draws: those of the leaderboard's intervals."""
    clusters = bootstrap.clusters([f"{row['gene']} {row['pos']}".strip() for row in annotations], fold)
    return Sample(clusters, bootstrap.resamples(clusters, n_resamples, seeds.stream(seed, "bootstrap", dataset, split)))


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
    parser = cli.parser("Write the optional tables of a run.", EPILOG)
    parser.add_argument(
        "--tables", required=True, type=Path, metavar="DIR", help="plan.tsv and scores.parquet of AGGREGATE"
    )
    parser.add_argument(
        "--perturbations", nargs="*", default=[], type=Path, metavar="TSV", help="<dataset>.perturbations.tsv"
    )
    parser.add_argument(
        "--known-function", default="", metavar="LIST", help=f"columns of the annotations: {known_columns.EXPECTED}"
    )
    parser.add_argument(
        "--substitutions", nargs="*", default=[], type=Path, metavar="TSV", help="<dataset>.substitutions.tsv"
    )
    parser.add_argument("--atlas", nargs="*", default=[], type=Path, metavar="TSV", help="<unit>.atlas.tsv")
    parser.add_argument(
        "--zero-shot", nargs="*", default=[], type=Path, metavar="H5AD", help="<dataset>.esm2_llr.<strategy>.h5ad"
    )
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    parser.add_argument(
        "--bootstrap", type=cli.at_least(1), default=2000, metavar="N", help="resamples of the clusters"
    )
    parser.add_argument("--out-dir", required=True, type=Path, help="output folder")
    options = parser.parse_args(argv)
    wanted = known_columns.parse(options.known_function, "--known-function")
    accounts = read_tsv(options.tables / "plan.tsv", ("unit", "state", "class"))
    plan = panel.combinations(accounts)
    held = scores.by_panel(scores.read_scores([options.tables / "scores.parquet"]))
    tables = {
        path.name.split(".")[0]: {row["perturbation"]: row for row in read_tsv(path, ("perturbation", "gene", "pos"))}
        for path in options.perturbations
    }
    zero_shot = predictors.read_zero_shot(options.zero_shot)
    substitutions = {path.name.split(".")[0]: read_tsv(path, SUBSTITUTION) for path in options.substitutions}
    atlases = atlas_rows(atlas.read_units(options.atlas), held, substitutions, zero_shot)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    if any(row.get("atlas") for row in accounts):
        write_tsv(options.out_dir / "atlas.tsv", [row for of in atlases.values() for row in of], atlas.COLUMNS)
    if wanted:
        rows = known_rows(held, plan, tables, zero_shot, wanted, options.seed, options.bootstrap)
        kinds = {row["model"]: row["class"] for row in accounts}
        rows += known_of_atlas(atlases, substitutions, zero_shot, kinds, wanted, options.seed, options.bootstrap)
        rows += of_no_use(wanted, rows, [*(row for table in tables.values() for row in table.values()),
                                         *(row for table in substitutions.values() for row in table)])  # fmt: skip
        write_tsv(options.out_dir / "known_function.tsv", rows, known_function.COLUMNS)
    if any(row.get("trained_on") for row in accounts):
        rows = curve_rows(held, accounts, tables, options.assets, options.seed, options.bootstrap)
        write_tsv(options.out_dir / "learning_curve.tsv", rows, learning_curve.COLUMNS)

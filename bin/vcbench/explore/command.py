"""`vcb_explore.py`: the optional tables, from the tables of AGGREGATE."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vcbench.core import catalogue, cli, seeds
from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv, write_tsv
from vcbench.explore import known_columns, known_function, predictors
from vcbench.explore.intervals import Sample
from vcbench.stats import bootstrap, panel, scores
from vcbench.stats.panel import Planned
from vcbench.stats.scores import Scores

log = logging.getLogger(__name__)

EPILOG = """example:
  vcb_explore.py --tables results/tables --perturbations results/datasets/*.perturbations.tsv \\
    --known-function 'alphamissense,giac_wt_nutlin,clinvar' --zero-shot results/encodings/tp53.esm2_llr.alt.h5ad \\
    --out-dir explored

Writes known_function.tsv, when --known-function names columns of the annotations (docs/output.md)."""


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
        "--zero-shot", nargs="*", default=[], type=Path, metavar="H5AD", help="<dataset>.esm2_llr.<strategy>.h5ad"
    )
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of the catalogues")
    parser.add_argument("--seed", type=int, default=0, help="seed of the resamples")
    parser.add_argument("--bootstrap", type=int, default=2000, metavar="N", help="resamples of the clusters")
    parser.add_argument("--out-dir", required=True, type=Path, help="output folder")
    options = parser.parse_args(argv)
    wanted = known_columns.parse(options.known_function, "--known-function")
    plan = panel.combinations(read_tsv(options.tables / "plan.tsv", ("unit", "state", "class")))
    held = scores.by_panel(scores.read_scores([options.tables / "scores.parquet"]))
    tables = {
        path.name.split(".")[0]: {row["perturbation"]: row for row in read_tsv(path, ("perturbation", "gene", "pos"))}
        for path in options.perturbations
    }
    options.out_dir.mkdir(parents=True, exist_ok=True)
    if wanted:
        rows = known_rows(held, plan, tables, predictors.read_zero_shot(options.zero_shot), wanted, options.seed,
                          options.bootstrap)  # fmt: skip
        columns = {name for table in tables.values() for row in table.values() for name in row}
        rows += [
            known_function.unused(known, known.column in columns)
            for known in wanted
            if not any(row["known"] == known.text for row in rows)
        ]
        write_tsv(options.out_dir / "known_function.tsv", rows, known_function.COLUMNS)

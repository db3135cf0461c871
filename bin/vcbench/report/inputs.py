"""Everything the report reads, checked and typed once; tables stay lists of rows of strings."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.report.names import Names
from vcbench.report.text import parse

Row = dict[str, str]

#: What the run file holds; a fact that is missing is shown as "not recorded".
RUN_FACTS = {
    "pipeline_version": "Pipeline version",
    "git_commit": "Git commit",
    "nextflow_version": "Nextflow version",
    "run_name": "Run name",
    "date": "Date",
    "profile": "Profile",
    "command_line": "Command line",
}

_REQUIRED = {
    "plan.tsv": (
        "unit",
        "dataset",
        "split",
        "fold",
        "model",
        "encoder",
        "strategy",
        "seed",
        "state",
        "stage",
        "reason",
    ),
    "cost.tsv": ("unit", "train_seconds", "predict_seconds", "peak_memory_mb", "device"),
    "leaderboard.tsv": (
        *("dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "value", "ci_low", "ci_high"),
        *("n", "n_expected", "null_mean", "null_low", "null_high", "ceiling"),
    ),
    "contrasts.tsv": (
        *("dataset", "split", "metric", "gene_set", "model", "encoder", "strategy", "reference_model"),
        *("reference_encoder", "reference_strategy", "difference", "ci_low", "ci_high", "p", "p_holm", "n"),
    ),
    "selection.tsv": (
        *("dataset", "split", "metric", "gene_set", "model", "value", "ci_low", "ci_high", "n_configurations"),
        *("chosen", "n_validation", "naive", "naive_encoder", "naive_strategy", "optimism", "difference", "p_holm"),
        *("verdict", "status"),
    ),
    "ranks.tsv": (
        *("dataset", "split", "model", "encoder", "strategy", "place", "mean_rank", "rank_low", "rank_high"),
        *("groups", "winner_share", "n_missing", "n_blocks", "n_configurations", "p", "critical_difference"),
    ),
    "factors.tsv": (
        *("dataset", "split", "effect", "level", "estimate", "ci_low", "ci_high", "size", "size_low", "size_high"),
        *("size_debiased", "share", "p_holm", "levels", "left_out"),
    ),
    "families.tsv": (
        *("dataset", "split", "model", "encoder", "strategy", "family", "scaled", "ci_low", "ci_high", "metrics"),
        "left_out",
    ),
    "agreement.tsv": (
        *("compared", "dataset", "split", "metric", "gene_set", "other_dataset", "other_split", "other_metric"),
        *("other_gene_set", "tau", "n_configurations"),
    ),
}

#: Tables of vcb_aggregate.py without which the report has fewer sections.
_OPTIONAL = {
    "ceilings.tsv": (
        *("dataset", "split", "metric", "gene_set", "status", "n_genes_median", "n_genes_min", "base", "base_value"),
        *("tech_duplicate", "full_vs_full", "noise_free", "interpolated_duplicate", "drf", "drf_low", "drf_high"),
    ),
    "diagnostics.tsv": (
        *("dataset", "split", "model", "encoder", "strategy", "diagnostic", "reference", "value", "low", "high", "n"),
    ),
    "strata.tsv": (
        *("dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "stratum", "level", "value"),
        *("ci_low", "ci_high", "n_expected", "ceiling"),
    ),
}

#: Columns of `encoder_<name>.tsv` that the report needs.
_ENCODER_TABLES = {
    "quality": (
        "dataset", "encoder", "strategy", "n", "dimensions", "n_duplicates", "norm_q05", "norm_median", "norm_q95",
        "relative_spread", "effective_rank", "effective_rank_max", "pc1_share", "not_own_reference", "flags",
        "undefined", "position_agreement", "severity_agreement", "domain_agreement",
    ),
    "similarity": ("dataset", "strategy", "encoder_a", "encoder_b", "cka", "undefined"),
    "map": ("dataset", "encoder", "strategy", "perturbation", "x", "y", "x_share", "y_share", "zero_shot_llr"),
    "provenance": ("encoder", "licence", "noncommercial", "url", "revision", "weights_sha256", "official_size"),
}  # fmt: skip

#: Columns of the tables of vcb_explore.py that the report needs.
_EXPLORED_TABLES = {
    "known_function": (
        "dataset", "split", "variants", "known", "statistic", "model", "encoder", "strategy", "class", "value",
        "ci_low", "ci_high", "interval", "chance", "n", "n_expected", "n_positive", "zero_shot_difference",
        "difference_low", "difference_high", "left_out", "reason",
    ),
    "learning_curve": (
        "dataset", "split", "model", "encoder", "strategy", "metric", "gene_set", "trained_on", "n_train", "value",
        "ci_low", "ci_high", "gain_to_all", "gain_low", "gain_high", "baseline", "baseline_model", "baseline_encoder",
        "baseline_strategy", "units_ok", "units_planned",
    ),
    "atlas": (
        "dataset", "split", "model", "encoder", "strategy", "perturbation", "gene", "position", "ref", "alt", "impact",
        "impact_sd", "n_models_all", "seen", "zero_shot_llr",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Inputs:
    """The tables of a run by name; `quality` and `perturbations` by dataset id.

    `encoders` holds the tables of vcb_encoder_qc.py (quality, similarity, map, provenance); none when it failed.
    `explored` holds the optional tables of vcb_explore.py by name; none when the run was not asked for them.
    """

    plan: list[Row]
    leaderboard: list[Row]
    contrasts: list[Row]
    leakage: list[Row]
    quality: dict[str, list[Row]]
    perturbations: dict[str, list[Row]]
    versions: list[Row]
    run: dict[str, Any]
    scores: Path
    names: Names
    encoders: dict[str, list[Row]] = field(default_factory=dict)
    selection: list[Row] = field(default_factory=list)
    ranks: list[Row] = field(default_factory=list)
    factors: list[Row] = field(default_factory=list)
    families: list[Row] = field(default_factory=list)
    agreement: list[Row] = field(default_factory=list)
    explored: dict[str, list[Row]] = field(default_factory=dict)
    ceilings: list[Row] = field(default_factory=list)
    diagnostics: list[Row] = field(default_factory=list)
    strata: list[Row] = field(default_factory=list)

    def panels(self) -> list[tuple[str, str]]:
        """Return the planned (dataset, split) pairs, sorted; a panel without any result is among them."""
        return sorted({(row["dataset"], row["split"]) for row in self.plan})

    def datasets(self) -> list[str]:
        """Return the planned datasets, sorted."""
        return sorted({row["dataset"] for row in self.plan})

    def usable(self, dataset: str) -> list[Row]:
        """Return the perturbations of a dataset that have cells in the benchmark."""
        return [row for row in self.perturbations.get(dataset, []) if parse(row["n_cells"]) > 0]


def _by_dataset(paths: Iterable[Path], required: Sequence[str]) -> dict[str, list[Row]]:
    # Dataset ids hold no dot, so the id is what stands before the first one of the file name.
    return {path.name.split(".")[0]: read_tsv(path, required) for path in sorted(paths, key=lambda path: path.name)}


def _encoder_tables(paths: Sequence[Path]) -> dict[str, list[Row]]:
    names = {path.name.removeprefix("encoder_").removesuffix(".tsv"): path for path in paths}
    return {name: read_tsv(names[name], columns) for name, columns in _ENCODER_TABLES.items() if name in names}


def _explored_tables(paths: Sequence[Path]) -> dict[str, list[Row]]:
    names = {path.name.removesuffix(".tsv"): path for path in paths}
    return {name: read_tsv(names[name], columns) for name, columns in _EXPLORED_TABLES.items() if name in names}


def read(
    tables: Path,
    quality: Sequence[Path],
    leakage: Sequence[Path],
    perturbations: Sequence[Path],
    versions: Path | None,
    run: Path,
    assets: Path,
    encoders: Sequence[Path] = (),
    explored: Sequence[Path] = (),
) -> Inputs:
    """Read the inputs; raises :class:`InputError` naming the file and what it lacks."""
    loaded = {}
    for name, columns in _REQUIRED.items():
        if not (tables / name).is_file():
            raise InputError("table not found", where=str(tables / name), hint="run vcb_aggregate.py first")
        loaded[name.removesuffix(".tsv")] = read_tsv(tables / name, columns)
    for name, columns in _OPTIONAL.items():
        if (tables / name).is_file():
            loaded[name.removesuffix(".tsv")] = read_tsv(tables / name, columns)
    if not (tables / "scores.parquet").is_file():
        raise InputError("table not found", where=str(tables / "scores.parquet"), hint="run vcb_aggregate.py first")
    try:
        facts = json.loads(run.read_text())
    except (OSError, ValueError) as error:
        raise InputError("not a readable JSON file", where=str(run), found=error) from error
    cost = {row["unit"]: row for row in loaded.pop("cost")}
    loaded["plan"] = [{**row, **cost.get(row["unit"], {})} for row in loaded["plan"]]
    loaded["plan"].sort(key=lambda row: (row["dataset"], row["split"], int(row["fold"]), row["unit"]))
    return Inputs(
        **loaded,
        leakage=[row for path in sorted(leakage) for row in read_tsv(path, ("dataset", "split", "fold"))],
        quality=_by_dataset(quality, ("metric", "value")),
        perturbations=_by_dataset(perturbations, ("perturbation", "status", "n_cells")),
        versions=read_tsv(versions, ("process", "software", "version")) if versions else [],
        run=facts,
        scores=tables / "scores.parquet",
        names=Names.load(assets, *({row[key] for row in loaded["plan"]} for key in ("encoder", "model"))),
        encoders=_encoder_tables(encoders),
        explored=_explored_tables(explored),
    )


def perturbation_scores(path: Path, metric: str, gene_set: str) -> dict[tuple[str, ...], dict[str, float]]:
    """Return ``{(dataset, split, model, encoder, strategy): {perturbation: value}}`` of one metric.

    Seeds (and folds, should a perturbation be tested twice) are averaged within a perturbation; NaN is left out.
    """
    import pyarrow.parquet as parquet

    keys = ["dataset", "split", "model", "encoder", "strategy"]
    table = parquet.read_table(
        path,
        columns=[*keys, "perturbation", "value"],
        filters=[("metric", "=", metric), ("gene_set", "=", gene_set)],
    )
    collected: dict[tuple[str, ...], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in table.to_pylist():
        # A row without a perturbation is a value over the whole panel.
        if row["perturbation"] and row["value"] is not None and math.isfinite(row["value"]):
            collected[tuple(row[key] for key in keys)][row["perturbation"]].append(row["value"])
    return {
        key: {name: math.fsum(values) / len(values) for name, values in sorted(by_name.items())}
        for key, by_name in collected.items()
    }

"""`vcb_score.py`: score a batch of units of one dataset and split against the truth bundle."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vcbench.core import catalogue, cli
from vcbench.core.errors import InputError, ModelError
from vcbench.core.status import Status, recorded
from vcbench.core.units import Unit
from vcbench.metrics import (
    bundle,
    cell_space,
    compat,
    contract,
    cross_line,
    diagnostics,
    extras,
    gene_values,
    predictions,
    registry,
    scoring,
)
from vcbench.metrics.comparison import Predicted

log = logging.getLogger(__name__)

#: Model (of the learning curve: as it is scored), encoder, strategy, seed.
Combination = tuple[str, str, str, int]
SUFFIX, VALIDATION_SUFFIX = ".predictions.h5ad", ".validation.h5ad"
EPILOG = """Example:
  vcb_score.py --truth tp53.variant.truth.h5ad --de tp53.variant.de.parquet \\
    --predictions tp53.variant.f*.sclambda.esm2_650m.alt.s0.predictions.h5ad --seed 0 --out sclambda.scores.parquet

All folds of a model, encoder, strategy and seed belong into one call: gene-wise metrics and nulls run over folds.
With --validation-truth also <unit>.validation.h5ad are scored, by the primary metric, into a table of their own."""


def unit_of(path: Path, dataset: str, split: str) -> Unit:
    """Return the unit a prediction file belongs to, from its name; it must be of this dataset and split."""
    if not path.name.endswith((SUFFIX, VALIDATION_SUFFIX)):
        raise InputError("not a prediction file name", where=str(path), expected=f"<unit>{SUFFIX}")
    unit = Unit.parse(path.name.removesuffix(SUFFIX).removesuffix(VALIDATION_SUFFIX))
    if (unit.dataset, unit.split) != (dataset, split):
        raise InputError(
            "prediction of another dataset or split", where=str(path),
            found=f"{unit.dataset}.{unit.split}", expected=f"{dataset}.{split}",
        )  # fmt: skip
    return unit


def read_truth(path: Path, de: Path, role: str) -> bundle.TruthBundle:
    """Return a truth bundle; raises :class:`InputError` when it is about perturbations of another role."""
    truth = bundle.read(path, de)
    if truth.facts["role"] != role:
        raise InputError(f"not the truth of {role} perturbations", where=str(path), found=truth.facts["role"])
    return truth


def check_groups(truth: bundle.TruthBundle, groups: Sequence[str], path: Path) -> None:
    """Raise :class:`InputError` for groups of metrics that need more of the truth than it was prepared for."""
    lacking = sorted((set(groups) & set(extras.GROUPS)) - set(truth.facts.get("metric_groups", ())))
    if lacking:
        raise InputError(
            f"no truth for metrics of group {', '.join(lacking)}", where=str(path),
            hint="run vcb_truth.py with the same --metrics",
        )  # fmt: skip


def align(truth: bundle.TruthBundle, unit: Unit, path: Path, allow_missing: bool, cells: bool = False) -> Predicted:
    """Return the aligned predictions of a unit; raises :class:`ModelError` for missing or extra perturbations.

    Perturbations the model declared it cannot predict may be missing; their rows are `missing_pred`. With `cells`
    predicted cells are compared too.
    """
    fold = truth.fold(unit.fold)
    found = predictions.read(path, truth.genes, cells)
    if found.absent:
        log.warning("%s: %d perturbations not predicted, first: %s", path.name, len(found.absent),
                    "{}: {}".format(*min(found.absent.items())))  # fmt: skip
    check_perturbations([*found.ids, *found.absent], fold.ids, path.name, allow_missing)
    aligned = scoring.align(fold, found.ids, found.mean, found.variance, found.n_cells)
    if found.predictive is not None:
        row = {name: i for i, name in enumerate(found.ids)}
        nothing = np.full(len(truth.genes), np.nan)
        own = np.array([found.predictive[row[name]] if name in row else nothing for name in fold.ids])
        aligned = replace(aligned, predictive=own)
    return with_cells(aligned, fold, found, truth.facts["seed"])


def with_cells(
    aligned: Predicted, fold: bundle.FoldTruth, found: predictions.PredictedProfiles, seed: int
) -> Predicted:
    """Return the predictions with their cells, where these were kept and there are several of a perturbation."""
    if found.cells is None or found.owner is None or found.variance is None:
        return aligned
    return replace(aligned, cells=cell_space.predicted(fold, found.ids, found.cells, found.owner, seed))


def check_perturbations(found: Sequence[str], expected: Sequence[str], where: str, allow_missing: bool) -> None:
    """Raise :class:`ModelError` unless `found` and `expected` are the same set, or differences are allowed."""
    missing, extra = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    for what, names in (("missing", missing), ("unexpected", extra)):
        if names and not allow_missing:
            raise ModelError(f"{where}: {len(names)} {what} perturbations, first {', '.join(names[:3])} "
                             "(--allow-missing scores the others and counts these)")  # fmt: skip
        if names:
            log.warning("%s: %d %s perturbations, first %s", where, len(names), what, names[0])


def main(argv: Sequence[str]) -> int:
    """Run the command line; returns 1 when no unit could be scored."""
    parser = cli.parser("Score predictions of one dataset and split.", EPILOG)
    parser.add_argument("--truth", required=True, type=Path, metavar="H5AD", help="truth bundle of vcb_truth.py")
    parser.add_argument("--de", required=True, type=Path, metavar="PARQUET", help="DE table of vcb_truth.py")
    parser.add_argument(
        "--predictions", required=True, nargs="+", type=Path, metavar="H5AD",
        help="<unit>.predictions.h5ad, or truth bundles of other datasets (the ceiling cross_line)",
    )  # fmt: skip
    parser.add_argument(
        "--validation-truth", type=Path, metavar="H5AD", help="truth bundle of the validation perturbations"
    )
    parser.add_argument("--validation-de", type=Path, metavar="PARQUET", help="their DE table")
    parser.add_argument("--validation-out", type=Path, metavar="PARQUET", help="their score table")
    parser.add_argument("--genes-out", type=Path, metavar="PARQUET", help="values gene by gene of gene-wise metrics")
    parser.add_argument("--seed", type=int, default=0, help="seed of the label permutations")
    parser.add_argument(
        "--metrics", nargs="*", default=[], metavar="GROUP", help="groups of metrics beside the default ones"
    )
    parser.add_argument("--bench-compat", action="store_true", help="also the bench_compat metrics")
    parser.add_argument("--bench-compat-de-list", default="", help="their DE list; must be the one of the truth bundle")
    parser.add_argument(
        "--allow-missing", action="store_true", help="score units that lack perturbations (rows missing_pred)"
    )
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of metrics.yml")
    parser.add_argument("--out", required=True, type=Path, metavar="PARQUET", help="score table")
    options = parser.parse_args(argv)
    wanted_groups = registry.requested(options.metrics, options.bench_compat)
    metrics = registry.chosen(registry.load(options.assets), wanted_groups)
    truth = read_truth(options.truth, options.de, bundle.TEST)
    dataset, split = truth.facts["dataset"], truth.facts["split"]
    check_groups(truth, wanted_groups, options.truth)
    if registry.BENCH_COMPAT in wanted_groups:
        prepared = truth.facts.get("compat_list", "")
        wanted = compat.check_list(options.bench_compat_de_list or prepared or compat.DE_LISTS[0])
        if prepared != wanted:
            raise InputError(
                "no truth for these bench_compat metrics", where=str(options.truth), found=prepared or "none",
                expected=wanted, hint="run vcb_truth.py with --bench-compat too",
            )  # fmt: skip

    elsewhere = [path for path in options.predictions if path.name.endswith(cross_line.SUFFIX)]
    units = {path: unit_of(path, dataset, split) for path in options.predictions if path not in elsewhere}
    tested, validated = (
        {unit: path for path, unit in units.items() if path.name.endswith(suffix)}
        for suffix in (SUFFIX, VALIDATION_SUFFIX)
    )
    if len(tested) + len(validated) < len(units):
        raise InputError("a unit is given twice", where="--predictions")
    validation, of_validation = None, (options.validation_truth, options.validation_de, options.validation_out)
    if any(of_validation) and not all(of_validation):
        raise InputError(
            "incomplete", where="--validation-truth, --validation-de, --validation-out", expected="all three"
        )
    if options.validation_truth:
        validation = read_truth(options.validation_truth, options.validation_de, bundle.VALIDATION)
    elif validated:
        raise InputError(
            "predictions of validation perturbations without their truth", where="--predictions",
            found=min(path.name for path in validated.values()), expected="--validation-truth",
        )  # fmt: skip
    aligned: dict[Combination, dict[int, Predicted]] = {}
    choosing: dict[Combination, dict[int, Predicted]] = {}
    failed = []
    folder = options.out.parent
    with_cells = any(metric.cells for metric in metrics.values())
    for unit, path in sorted(tested.items()):
        status = Status(unit.id, "score", options.seed)
        of = (unit.scored_as, unit.encoder, unit.strategy, unit.seed)
        with recorded(status):
            found = align(truth, unit, path, options.allow_missing, with_cells)
            if validation is not None and unit in validated:
                own = align(validation, unit, validated[unit], options.allow_missing)
                choosing.setdefault(of, {})[unit.fold] = own
            aligned.setdefault(of, {})[unit.fold] = found
        if status.facts["state"] != "ok":
            log.error("%s: %s", unit.id, status.facts["reason"])
            folder.mkdir(parents=True, exist_ok=True)
            status.write(folder, ("numpy", "scipy"))
            failed.append(f"{unit.id}: {status.facts['reason']}")
    if not tested and not elsewhere:
        raise InputError("no predictions of test perturbations", where="--predictions", expected=f"<unit>{SUFFIX}")
    if not aligned and not elsewhere:
        raise ModelError(f"no unit could be scored; first {failed[0]}")
    folder.mkdir(parents=True, exist_ok=True)
    headline = registry.headline(metrics)
    rows = cross_line.rows_of(truth, elsewhere, metrics)
    by_gene = []
    for (model, encoder, strategy, seed), by_fold in sorted(aligned.items()):
        collector = scoring.Rows(dataset, split, model, encoder, strategy, seed)
        if contract.is_evaluator(model):  # of the learning curve
            scoring.score_combination(truth, by_fold, headline, collector, options.seed, nulls=False)
            rows += collector.rows
            continue
        scoring.score_combination(truth, by_fold, metrics, collector, options.seed)
        diagnostics.add_prediction(truth, by_fold, metrics, collector)
        rows += collector.rows
        by_gene += gene_values.of_model(truth, by_fold, model, encoder, strategy, seed)
    write(truth, rows, options.out)
    if options.genes_out and by_gene:
        gene_values.write(gene_values.to_table(dataset, split, by_gene), options.genes_out)
    if validation is not None:
        rows, primary = [], registry.primary(options.assets)
        for (model, encoder, strategy, seed), by_fold in sorted(choosing.items()):
            collector = scoring.Rows(dataset, split, model, encoder, strategy, seed)
            scoring.score_combination(validation, by_fold, primary, collector, options.seed, nulls=False)
            rows += collector.rows
        write(validation, rows, options.validation_out)
    return 0


def write(truth: bundle.TruthBundle, rows: list[tuple], path: Path) -> None:
    """Write a score table."""
    import pyarrow.parquet as pq

    header = {name: truth.facts[name] for name in ("dataset", "split", "role", "axis_sha256", "truth_sha256")}
    header |= {"n_genes": len(truth.genes), "bench_compat_de_list": truth.facts.get("compat_list", "")}
    pq.write_table(scoring.to_table(rows, header), path)

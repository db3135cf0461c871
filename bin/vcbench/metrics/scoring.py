"""Scoring one model combination over its folds: values, nulls and the no-skill rows, as one long table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import seeds
from vcbench.metrics import (
    cell_space,
    compat,
    contract,
    de_sets,
    delta,
    direction,
    discrimination,
    distribution,
    errors,
    extras,
    genewise,
    half_cells,
    interactions,
    magnitude,
    panels,
    recovery,
    registry,
    spread,
    vcc,
)
from vcbench.metrics.bundle import FoldTruth, TruthBundle, fixed_name
from vcbench.metrics.comparison import Comparison, Outcome, Predicted
from vcbench.metrics.registry import Metric

if TYPE_CHECKING:
    import pyarrow as pa

#: Modules that hold the functions named in assets/metrics.yml. A new metric is an entry there and a function in one.
MODULES: dict[str, ModuleType] = {
    "compat": compat, "de_sets": de_sets, "delta": delta, "direction": direction, "discrimination": discrimination,
    "distribution": distribution, "errors": errors, "genewise": genewise, "interactions": interactions,
    "magnitude": magnitude, "panels": panels, "recovery": recovery, "spread": spread, "vcc": vcc,
}  # fmt: skip


def function_of(metric: Metric) -> Callable[..., Any]:
    """Return the function of a metric.

    Fold by fold it is ``(Comparison, gene set) -> Outcome``; over folds it is ``(true, predicted, folds) -> Genewise``
    on (perturbations, genes) profiles and the fold of each row.
    """
    module, name = metric.function.split(".")
    return getattr(MODULES[module], name)


#: Suffix of gene sets listed from one half of the cells and scored on the other.
XFIT = "_xfit"


def _by_fold(metric: Metric) -> bool:
    return bool(metric.function) and not metric.over_folds


COLUMNS = (
    "dataset", "split", "fold", "model", "encoder", "strategy", "seed", "perturbation", "metric", "gene_set", "value",
    "n_genes", "n_cells_true", "n_cells_pred", "status", "n_perturbations", "n_folds",
)  # fmt: skip
KEYS = COLUMNS[:10]
_INTEGERS = ("fold", "seed", "n_genes", "n_cells_true", "n_cells_pred", "n_perturbations", "n_folds")


@dataclass
class Rows:
    """Collects score rows of one dataset, split and (model, encoder, strategy, seed)."""

    dataset: str
    split: str
    model: str
    encoder: str = "none"
    strategy: str = "none"
    seed: int = 0
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def add(
        self, fold: int, perturbation: str, metric: str, gene_set: str, value: float, n_genes: int = 0,
        n_cells_true: int = 0, n_cells_pred: int = 0, status: str = contract.OK, n_perturbations: int = 1,
        n_folds: int = 1, model: str = "",
    ) -> None:  # fmt: skip
        """Add one row; `model` replaces the collector's model id."""
        self.rows.append((
            self.dataset, self.split, int(fold), model or self.model, self.encoder, self.strategy, int(self.seed),
            perturbation, metric, gene_set, float(value), int(n_genes), int(n_cells_true), int(n_cells_pred), status,
            int(n_perturbations), int(n_folds),
        ))  # fmt: skip


def to_table(rows: Iterable[tuple[Any, ...]], header: Mapping[str, Any]) -> pa.Table:
    """Return the score table sorted by its keys, with `header` as metadata."""
    import json

    import pyarrow as pa

    ordered = sorted(rows, key=lambda row: row[:10])
    columns = list(zip(*ordered, strict=True)) if ordered else [()] * len(COLUMNS)
    types = {name: pa.int32() for name in _INTEGERS} | {"value": pa.float64()}
    named = dict(zip(COLUMNS, columns, strict=True))
    table = pa.table({name: pa.array(list(found), types.get(name, pa.string())) for name, found in named.items()})
    return table.replace_schema_metadata({"vcbench": json.dumps(dict(header), sort_keys=True)})


def permutations(bundle: TruthBundle, fold: FoldTruth, seed: int, n: int = contract.N_PERMUTATIONS) -> np.ndarray:
    """Return (K, 1 + n) truth rows: the perturbation itself, then `n` label permutations within the fold.

    They depend on seed, dataset, split and fold only, so every model meets the same permutations.
    """
    k = len(fold.ids)
    columns = [np.arange(k)]
    for number in range(n):
        purpose = ("shuffled labels", bundle.facts["dataset"], bundle.facts["split"], fold.fold, number)
        columns.append(seeds.stream(seed, *purpose).permutation(k))
    return np.stack(columns, axis=1)


def align(
    fold: FoldTruth, ids: Sequence[str], mean: np.ndarray, variance: np.ndarray | None, n_cells: np.ndarray
) -> Predicted:
    """Return predictions in the order of the truth, matched by label; missing perturbations become NaN rows.

    `variance` (rows, G) is the sampling variance of the means of predicted cells, None for profiles. A prediction that
    equals the training control mean is the mean of those cells and gets their sampling variance (metrics.md 11.1.2).
    """
    row = {name: i for i, name in enumerate(ids)}
    k, g = fold.profile.shape
    aligned = Predicted(np.full((k, g), np.nan), np.zeros((k, g)), np.zeros(k, dtype=np.int64))
    for i, name in enumerate(fold.ids):
        if name not in row:
            continue
        profile = mean[row[name]]
        aligned.mean[i] = profile
        aligned.n_cells[i] = n_cells[row[name]]
        if variance is not None:
            aligned.variance[i] = np.nan_to_num(variance[row[name]])
        scale = max(1.0, float(np.abs(profile).max()))
        if np.abs(profile - fold.control_b).max() <= contract.TOLERANCE * scale:
            aligned.variance[i] = np.nan_to_num(fold.control_b_variance)
    return aligned


def statuses(outcome: Outcome, predicted: Predicted) -> np.ndarray:
    """Return (K,) statuses: what the truth excludes comes first, so that it is excluded for every model alike."""
    status = np.where(outcome.flag != "", outcome.flag, contract.OK).astype(object)
    status[outcome.constant_prediction] = "const_pred"
    if outcome.prediction_reason is not None:
        other = outcome.prediction_reason != ""
        status[other] = outcome.prediction_reason[other]
    status[predicted.n_cells == 0] = "missing_pred"
    excluded = outcome.truth_reason != ""
    status[excluded] = outcome.truth_reason[excluded]
    return status


def defined(outcome: Outcome, pairs: np.ndarray) -> np.ndarray:
    """Return the values with those of excluded truths and of undefined predictions as NaN."""
    values = np.where((outcome.truth_reason != "")[pairs], np.nan, outcome.values)
    values[outcome.constant_prediction, 0] = np.nan
    if outcome.prediction_reason is not None:
        values[outcome.prediction_reason != "", 0] = np.nan
    return values


def _wanted(bundle: TruthBundle, metrics: Mapping[str, Metric]) -> list[tuple[Metric, str]]:
    """Return the (metric, gene set) pairs this truth allows; sets chosen in advance by their own names."""
    fixed = [fixed_name(name) for name in bundle.facts.get("fixed_sets", ())]
    classes = bundle.folds[0].extras.classes
    phenotypes = () if classes is None else classes.names.tolist()
    return [
        (metric, name)
        for metric in metrics.values()
        for gene_set in metric.gene_sets
        for name in registry.expand(gene_set, fixed, bool(bundle.folds[0].sets), has_doubles(bundle), phenotypes)
    ]


def reported(bundle: TruthBundle, metrics: Mapping[str, Metric]) -> list[tuple[Metric, str]]:
    """Return the pairs of :func:`_wanted` that are reported: terms are left out."""
    return [(metric, gene_set) for metric, gene_set in _wanted(bundle, metrics) if metric.level != "term"]


def has_doubles(bundle: TruthBundle) -> bool:
    """Return whether the truth was prepared for genetic interactions and any test perturbation is a double."""
    return any(fold.extras.doubles is not None and len(fold.extras.doubles.row) for fold in bundle.folds)


def log_of_mean(comparison: Comparison) -> Comparison:
    """Return the comparison on log-of-mean profiles; predictions without cells become missing (`no_cells`)."""
    truth, predicted = comparison.truth, comparison.predicted
    lm = truth.extras.log_of_mean
    mean = np.full(predicted.mean.shape, np.nan) if predicted.cells is None else predicted.cells.log_of_mean.copy()
    mean[distribution.profile_only(comparison) != ""] = np.nan
    return replace(
        comparison,
        truth=replace(
            truth, profile=lm.profile, control_a=lm.control_a, control_b=lm.control_b, train_mean=lm.train_mean
        ),
        predicted=replace(predicted, mean=mean),
    )


def _outcome(metric: Metric, comparison: Comparison, base: str, of_means: Comparison | None) -> Outcome:
    """Return the outcome of a metric fold by fold, on log-of-mean profiles where it says so."""
    if not metric.log_of_mean or of_means is None:
        return function_of(metric)(comparison, base)
    outcome = function_of(metric)(of_means, base)
    return replace(outcome, prediction_reason=distribution.profile_only(comparison))


def view(fold: FoldTruth, gene_set: str) -> tuple[FoldTruth, str]:
    """Return the truth a gene set is scored on and its name there: ``*_xfit`` has lists and profiles of its own."""
    return (fold.cross_fit, gene_set.removesuffix(XFIT)) if gene_set.endswith(XFIT) else (fold, gene_set)


def _nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0.0).sum(axis) / known.sum(axis)


def set_name(bundle: TruthBundle, gene_set: str) -> str:
    """Return the name a gene set has in the table: compat lists are written with the name of the list."""
    return bundle.facts.get("compat_list", gene_set) if gene_set == "listed" else gene_set


def score_combination(
    bundle: TruthBundle, predictions: Mapping[int, Predicted], metrics: Mapping[str, Metric], rows: Rows, seed: int,
    nulls: bool = True,
) -> None:  # fmt: skip
    """Add all rows of one (model, encoder, strategy, seed) to `rows`.

    Parameters
    ----------
    predictions
        By fold number; a fold that is missing shortens the gene-wise metrics, which are then flagged `missing_pred`.
    seed
        Of the label permutations.
    nulls
        Whether to add the `shuffled_labels:<model>` rows: per permutation the value of each metric over all folds.
    """
    folds = [bundle.fold(number) for number in sorted(predictions)]
    pairs = {f.fold: permutations(bundle, f, seed, contract.N_PERMUTATIONS if nulls else 0) for f in folds}
    wanted = _wanted(bundle, metrics)
    values: dict[tuple[str, str], list[np.ndarray]] = {}
    statuses_of: dict[tuple[str, str], list[str]] = {}
    for fold in folds:
        comparison = Comparison(fold, predictions[fold.fold], pairs[fold.fold])
        own_lists = fold.significant_first is not None and any(name.endswith(XFIT) for _, name in wanted)
        crossed = replace(comparison, truth=fold.cross_fit) if own_lists else None
        of_means = None if fold.extras.log_of_mean is None else log_of_mean(comparison)
        for metric, gene_set in wanted:
            if not _by_fold(metric):
                continue
            truth, base = view(fold, gene_set)
            outcome = _outcome(metric, comparison if crossed is None or truth is fold else crossed, base, of_means)
            found = defined(outcome, comparison.pairs)
            values.setdefault((metric.id, gene_set), []).append(found)
            status = statuses(outcome, comparison.predicted)
            statuses_of.setdefault((metric.id, gene_set), []).extend(status)
            for k, name in enumerate(fold.ids):
                keep = status[k] == contract.OK or status[k] in contract.FLAGS
                rows.add(
                    fold.fold, name, metric.id, set_name(bundle, gene_set), found[k, 0] if keep else np.nan,
                    outcome.n_genes[k], truth.n_cells[k], comparison.predicted.n_cells[k], status[k],
                )  # fmt: skip
        for metric, gene_set in wanted:
            if metric.numerator:
                _add_ratio(rows, fold, comparison, metric, gene_set, values)
    if nulls:
        _add_fold_nulls(bundle, rows, wanted, values, statuses_of, len(folds))
    for metric, gene_set in wanted:
        if metric.combined:
            _add_combined(rows, folds, predictions, metric, gene_set, values)
        elif metric.over_folds:
            _add_over_folds(bundle, rows, folds, predictions, pairs, metric, gene_set)


def _add_ratio(
    rows: Rows, fold: FoldTruth, comparison: Comparison, metric: Metric, gene_set: str, values: dict[Any, Any]
) -> None:
    """Add the row of one fold of a ratio of sums."""
    top, bottom = (values[name, gene_set][-1][:, 0] for name in (metric.numerator, metric.denominator))
    both = ~np.isnan(top) & ~np.isnan(bottom)
    total = float(bottom[both].sum())
    absent = comparison.predicted.n_cells == 0
    genes = fold.gene_set(gene_set)
    excluded = delta.panel_reasons(fold, genes)
    allowed = excluded == ""
    status = contract.OK if both.any() else "missing_pred"
    if not allowed.any():  # one that has cells says more of the fold than one that has not
        status = next((reason for reason in excluded if reason != "few_cells"), "few_cells")
    elif both.any() and total <= 0:
        status = "no_de"
    # as over folds: the value stands, over fewer perturbations than the truth allows
    value = float(top[both].sum()) / total if status == contract.OK else np.nan
    if status == contract.OK and (allowed & absent).any():
        status = "missing_pred"
    n_genes = len(genes.index[0]) if fold.ids else 0
    rows.add(
        fold.fold, "", metric.id, gene_set,
        value, n_genes, int(fold.n_cells[both].sum()),
        int(comparison.predicted.n_cells[both].sum()), status, int(both.sum()),
    )  # fmt: skip


def _add_fold_nulls(
    bundle: TruthBundle, rows: Rows, wanted: list[tuple[Metric, str]], values: dict[Any, list[np.ndarray]],
    statuses_of: Mapping[Any, Sequence[str]], n_folds: int,
) -> None:  # fmt: skip
    """Add the null values over all folds, one row per permutation and metric."""
    null = f"{contract.SHUFFLED_LABELS}:{rows.model}"
    for metric, gene_set in wanted:
        if metric.level == "term" or not (_by_fold(metric) or metric.numerator):
            continue
        if metric.numerator:
            top, bottom = (np.concatenate(values[name, gene_set]) for name in (metric.numerator, metric.denominator))
            both = ~np.isnan(top) & ~np.isnan(bottom)
            total = np.where(both, bottom, 0.0).sum(0)
            with np.errstate(invalid="ignore", divide="ignore"):
                found = np.where(total > 0, np.where(both, top, 0.0).sum(0) / total, np.nan)
            n, undivided = both.sum(0), "no_de"  # without any effect there is nothing to divide by
            why = _commonest(statuses_of[metric.numerator, gene_set])
        else:
            every = np.concatenate(values[metric.id, gene_set])
            found, n, undivided = _nanmean(every, 0), (~np.isnan(every)).sum(0), ""
            why = _commonest(statuses_of[metric.id, gene_set])
        for number in range(1, len(found)):
            rows.add(
                contract.ALL_FOLDS,
                f"permutation_{number:02d}",
                metric.id,
                set_name(bundle, gene_set),
                found[number],
                n_perturbations=n[number],
                n_folds=n_folds,
                model=null,
                status=contract.OK if not np.isnan(found[number]) else undivided if n[number] else why,
            )


def _commonest(found: Sequence[str]) -> str:
    """Return the reason that most of these statuses give for an undefined value; ``const_pred`` when none does."""
    reasons = sorted(status for status in found if status != contract.OK and status not in contract.FLAGS)
    return max(dict.fromkeys(reasons), key=reasons.count, default="const_pred")


def _add_over_folds(
    bundle: TruthBundle, rows: Rows, folds: list[FoldTruth], predictions: Mapping[int, Predicted],
    pairs: Mapping[int, np.ndarray], metric: Metric, gene_set: str,
) -> None:  # fmt: skip
    """Add a metric over perturbations: its value, the jack-knife terms of its perturbations and its null."""
    name = metric.function.split(".")[1]
    present, true, predicted, number, names, shuffled = [], [], [], [], [], []
    why: dict[tuple[int, str], str] = {}
    for fold in folds:
        p = predictions[fold.fold]
        of_truth, of_prediction = _features(name, fold, p, gene_set, bundle.eligible)
        usable = allowed_by(fold, of_truth)
        there = (p.n_cells > 0) & ~np.isnan(of_prediction).any(axis=1)
        both = usable & there
        for k, perturbation in enumerate(fold.ids):
            absent = "no_cells" if metric.cells and p.n_cells[k] else "missing_pred"
            why[fold.fold, perturbation] = absent if usable[k] else _why_not(metric, fold, k)
        present.append(both)
        true.append(of_truth[both])
        predicted.append(of_prediction[both])
        number.append(np.full(both.sum(), fold.fold))
        names += [name for name, known in zip(fold.ids, both, strict=True) if known]
        # Truths of the permuted labels; one that is unusable is left out of that permutation.
        shuffled.append((pairs[fold.fold][both], usable, of_truth, of_prediction[both]))
    folds_of = np.concatenate(number)
    result = function_of(metric)(np.concatenate(true), np.concatenate(predicted), folds_of)
    cells_true = sum(int(fold.n_cells[both].sum()) for fold, both in zip(folds, present, strict=True))
    cells_pred = sum(int(predictions[f.fold].n_cells[both].sum()) for f, both in zip(folds, present, strict=True))
    expected = _expected(bundle, name, gene_set)
    if len(names) < expected and result.status in contract.TRUTH_REASONS:
        # Too little is left of a truth that had enough: the predictions are why.
        result = replace(result, status=_blame(bundle, metric, name, gene_set, result.status))
    status = result.status
    if status == contract.OK and len(names) < expected:
        status = "missing_pred"  # the value stands, over fewer perturbations
    if not names and metric.cells and "no_cells" in why.values():
        status = "no_cells"
    rows.add(
        contract.ALL_FOLDS, "", metric.id, gene_set, result.value, result.n_genes, cells_true, cells_pred, status,
        len(names), len(folds),
    )  # fmt: skip
    terms = dict(zip(zip(folds_of.tolist(), names, strict=True), result.terms.tolist(), strict=True))
    for fold in folds:
        for k, name in enumerate(fold.ids):
            reason = result.status if (fold.fold, name) in terms else why[fold.fold, name]
            rows.add(
                fold.fold, name, metric.jackknife, gene_set, terms.get((fold.fold, name), np.nan), result.n_genes,
                fold.n_cells[k], predictions[fold.fold].n_cells[k], reason,
            )  # fmt: skip
    null = f"{contract.SHUFFLED_LABELS}:{rows.model}"
    for column in range(1, next(iter(pairs.values())).shape[1]):
        parts = [(profile[c[:, column]][ok[c[:, column]]], p[ok[c[:, column]]]) for c, ok, profile, p in shuffled]
        which = np.concatenate([np.full(len(t), f.fold) for (t, _), f in zip(parts, folds, strict=True)])
        sides = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        value = function_of(metric)(*sides, which, terms=False)
        rows.add(
            contract.ALL_FOLDS, f"permutation_{column:02d}", metric.id, gene_set, value.value, value.n_genes,
            n_perturbations=len(which), n_folds=len(folds), status=value.status, model=null,
        )  # fmt: skip


def _features(
    name: str, fold: FoldTruth, predicted: Predicted, gene_set: str, eligible: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, F) features of truth and prediction of a metric over perturbations."""
    if name in panels.FEATURES:
        return panels.FEATURES[name](fold, predicted, gene_set)
    return genewise.features(name, fold, predicted.mean, gene_set, eligible)


def allowed_by(fold: FoldTruth, of_truth: np.ndarray) -> np.ndarray:
    """Return (K,) which perturbations the truth allows in a metric over perturbations."""
    return (fold.n_cells >= contract.MIN_CELLS_PROFILE) & ~np.isnan(of_truth).any(axis=1)


def _why_not(metric: Metric, fold: FoldTruth, k: int) -> str:
    """Return why the truth leaves a perturbation out of a metric over perturbations."""
    if metric.gene_sets == (registry.DOUBLES,):
        doubles = fold.extras.doubles
        at = np.flatnonzero(doubles.row == k)
        if not len(at):
            return contract.NO_DOUBLE
        if doubles.first[at[0]] < 0 or doubles.second[at[0]] < 0:
            return "no_single"
    if metric.gene_sets == (registry.PHENOTYPE,) and fold.n_cells[k] >= contract.MIN_CELLS_PROFILE:
        return contract.NO_CLASS
    return "few_cells"


def _blame(bundle: TruthBundle, metric: Metric, name: str, gene_set: str, status: str) -> str:
    """Return `status`, a reason of the truth, where all perturbations of it give that too; else ``missing_pred``."""
    return status if _truth_reason(bundle, metric, name, gene_set) == status else "missing_pred"


def _truth_reason(bundle: TruthBundle, metric: Metric, name: str, gene_set: str) -> str:
    """Return why a metric over perturbations is undefined whatever is predicted: the truth against itself; or empty."""
    if metric.combined:
        return _lacking(bundle.folds)
    true, number = [], []
    for fold in bundle.folds:
        of_truth = _features(name, fold, train_mean_prediction(fold), gene_set, bundle.eligible)[0]
        true.append(of_truth[allowed_by(fold, of_truth)])
        number.append(np.full(len(true[-1]), fold.fold))
    whole = np.concatenate(true)
    status = function_of(metric)(whole, whole, np.concatenate(number), terms=False).status
    return status if status in contract.TRUTH_REASONS else ""


def _lacking(folds: Sequence[FoldTruth]) -> str:
    """Return why the overall score of the challenge is undefined whatever is predicted, or empty."""
    des, pds, mae = np.concatenate([np.isnan(fold.extras.vcc.baseline) for fold in folds]).all(axis=0)
    return "few_cells" if mae else "single_pert" if pds else "no_de" if des else ""


def _expected(bundle: TruthBundle, name: str, gene_set: str) -> int:
    """Return the number of perturbations the truth allows in a metric over perturbations."""
    return sum(
        int(allowed_by(f, _features(name, f, train_mean_prediction(f), gene_set, bundle.eligible)[0]).sum())
        for f in bundle.folds
    )


def _add_combined(
    rows: Rows, folds: list[FoldTruth], predictions: Mapping[int, Predicted], metric: Metric, gene_set: str,
    values: Mapping[Any, list[np.ndarray]],
) -> None:  # fmt: skip
    """Add a metric of the values of others over all folds: its value, jack-knife terms and null."""
    function = function_of(metric)
    parts = np.stack([np.concatenate(values[part, gene_set]) for part in metric.parts], axis=2)
    baseline = np.concatenate([fold.extras.vcc.baseline for fold in folds])
    names = [(fold.fold, name) for fold in folds for name in fold.ids]
    n_true = np.concatenate([fold.n_cells for fold in folds])
    n_pred = np.concatenate([predictions[fold.fold].n_cells for fold in folds])
    n_genes = len(folds[0].expressed)
    known = ~np.isnan(parts[:, 0]).any(axis=1)
    value = function(parts[:, 0], baseline)
    undefined = _lacking(folds) or ("no_cells" if (n_pred > 0).any() else "missing_pred")
    status = contract.OK if not np.isnan(value) else undefined
    partly = status == contract.OK and ((n_pred == 0) & (n_true >= contract.MIN_CELLS_PROFILE)).any()
    rows.add(contract.ALL_FOLDS, "", metric.id, gene_set, value, n_genes, int(n_true[known].sum()),
             int(n_pred[known].sum()), "missing_pred" if partly else status, int(known.sum()), len(folds))  # fmt: skip
    k = len(names)
    for row, (fold, name) in enumerate(names):
        left = np.arange(k) != row
        term = value + (k - 1) * (value - function(parts[left, 0], baseline[left])) if k > 1 else np.nan
        few = n_true[row] < contract.MIN_CELLS_PROFILE
        reason = "few_cells" if few else "missing_pred" if not n_pred[row] else status
        reason = "single_pert" if reason == contract.OK and np.isnan(term) else reason
        rows.add(fold, name, metric.jackknife, gene_set, term if reason == contract.OK else np.nan, n_genes,
                 n_true[row], n_pred[row], reason)  # fmt: skip
    null = f"{contract.SHUFFLED_LABELS}:{rows.model}"
    for column in range(1, parts.shape[1]):
        found = function(parts[:, column], baseline)
        rows.add(contract.ALL_FOLDS, f"permutation_{column:02d}", metric.id, gene_set, found, n_genes,
                 n_perturbations=k, n_folds=len(folds), model=null,
                 status=undefined if np.isnan(found) else contract.OK)  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------------
# Rows of the evaluator: what a prediction without skill scores, the split-half ceiling, facts of the truth.


def train_mean_prediction(fold: FoldTruth) -> Predicted:
    """Return the training mean as prediction for every test perturbation."""
    k, g = fold.profile.shape
    return Predicted(np.tile(fold.train_mean, (k, 1)), np.zeros((k, g)), np.ones(k, dtype=np.int64))


def add_no_skill(bundle: TruthBundle, metrics: Mapping[str, Metric], rows: Rows) -> None:
    """Add per perturbation and metric the no-skill value and, as status, why the truth excludes it (else ``ok``).

    These rows are the complete list of what should be scored: the aggregate left-joins every model onto them.
    """
    for metric, gene_set in _wanted(bundle, metrics):
        name = set_name(bundle, gene_set)
        if metric.over_folds:
            function = "" if metric.combined else metric.function.split(".")[1]
            n_genes = _n_features(bundle, gene_set)
            if metric.combined or function in panels.FEATURES:
                of_first = () if metric.combined else _features(
                    function, bundle.folds[0], train_mean_prediction(bundle.folds[0]), gene_set, bundle.eligible
                )  # fmt: skip
                n_genes = of_first[0].shape[1] if of_first else len(bundle.folds[0].expressed)
            allowed = [
                f.n_cells >= contract.MIN_CELLS_PROFILE if metric.combined else
                allowed_by(f, _features(function, f, train_mean_prediction(f), gene_set, bundle.eligible)[0])
                for f in bundle.folds
            ]  # fmt: skip
            expected = sum(int(found.sum()) for found in allowed)
            undefined = _truth_reason(bundle, metric, function, gene_set)
            rows.add(contract.ALL_FOLDS, "", metric.id, name, np.nan if undefined else float(metric.no_skill), n_genes,
                     n_perturbations=expected, n_folds=len(bundle.folds), status=undefined or contract.OK)  # fmt: skip
            for fold, usable in zip(bundle.folds, allowed, strict=True):
                for k, perturbation in enumerate(fold.ids):
                    reason = undefined if usable[k] else _why_not(metric, fold, k)
                    rows.add(fold.fold, perturbation, metric.jackknife, name,
                             np.nan if reason else float(metric.no_skill), n_genes, fold.n_cells[k],
                             status=reason or contract.OK)  # fmt: skip
            continue
        if not _by_fold(metric):
            continue
        for fold in bundle.folds:
            pairs = np.arange(len(fold.ids))[:, None]
            truth, base = view(fold, gene_set)
            without = Comparison(truth, train_mean_prediction(fold), pairs)
            outcome = _outcome(metric, without, base, log_of_mean_baseline(without) if metric.log_of_mean else None)
            baseline = _no_skill(metric, base, truth, outcome)
            for k, perturbation in enumerate(fold.ids):
                reason = outcome.truth_reason[k]
                rows.add(fold.fold, perturbation, metric.id, name, np.nan if reason else baseline[k],
                         outcome.n_genes[k], truth.n_cells[k], status=reason or contract.OK)  # fmt: skip


def log_of_mean_baseline(comparison: Comparison) -> Comparison:
    """Return the comparison on log-of-mean profiles with the training mean of these profiles as prediction."""
    found = log_of_mean(comparison)
    k = len(found.truth.ids)
    return replace(found, predicted=replace(found.predicted, mean=np.tile(found.truth.train_mean, (k, 1))))


def _n_features(bundle: TruthBundle, gene_set: str) -> int:
    """Return on how many genes (pathways, norms) a metric over perturbations would be defined."""
    if gene_set == "eligible":
        return int(bundle.eligible.sum())
    if gene_set == registry.PATHWAYS:
        return len(bundle.folds[0].sets)
    return 1 if gene_set == "expr_nt" else _varying(bundle)


def _varying(bundle: TruthBundle) -> int:
    """Return the number of genes whose true profile varies over test perturbations."""
    true = np.concatenate([fold.profile[fold.n_cells >= contract.MIN_CELLS_PROFILE] for fold in bundle.folds])
    return int((~contract.constant((true - true.mean(0)).T, true.T)).sum()) if len(true) else 0


def _no_skill(metric: Metric, gene_set: str, fold: FoldTruth, outcome: Outcome) -> np.ndarray:
    """Return (K,) the value of a prediction without skill."""
    n = len(fold.ids)
    if metric.no_skill == "train_mean":
        return outcome.values[:, 0]
    if metric.no_skill == "control_cells":
        controls = replace(train_mean_prediction(fold), cells=cell_space.control_prediction(fold))
        return function_of(metric)(Comparison(fold, controls, np.arange(n)[:, None]), gene_set).values[:, 0]
    if metric.no_skill == "denominator":
        return delta.effect(fold, gene_set)
    if metric.no_skill == "prevalence":
        return recovery.prevalence(fold, metric.function.split(".")[1], gene_set)
    if metric.no_skill == "top_share":
        return recovery.top_share(fold, metric.id, gene_set)
    if metric.no_skill == "constant_area":
        return (1 + fold.compat_label.mean(1)) / 2
    if str(metric.no_skill).startswith("chance"):
        return np.full(n, discrimination.chance(metric.id, fold))
    return np.full(n, float(metric.no_skill))


def half_truths(fold: FoldTruth, seed: int) -> tuple[FoldTruth, FoldTruth]:
    """Return the fold with the first and with the second half of each perturbation's cells as its truth.

    Gene sets, labels and weights stay those of all cells; sampling variances are those of the halves.
    """
    n, first = fold.n_cells[:, None].astype(np.float64), fold.n_first[:, None].astype(np.float64)
    one = fold.first_half[seed]
    with np.errstate(invalid="ignore", divide="ignore"):
        other = (n * fold.profile - first * one) / (n - first)
        spread = fold.variance * n
        return tuple(  # type: ignore[return-value]
            fold.with_profiles(profile=half, weight_profile=half, variance=spread / size)
            for half, size in ((one, first), (other, n - first))
        )


def _sample(fold: FoldTruth, side: half_cells.Side | None) -> Predicted:
    """Return the truth of a fold as a prediction made of a finite sample of cells."""
    known = ~np.isnan(fold.profile).any(axis=1)
    cells = None if side is None else side.cells
    return Predicted(fold.profile, np.nan_to_num(fold.variance), np.where(known, fold.n_cells // 2, 0), cells)


def _on_own_cells(metric: Metric) -> bool:
    """Return whether a half is judged by its own cells alone; other metrics keep gene sets and labels of all cells."""
    return (metric.cells or metric.group == extras.VCC) and not metric.log_of_mean


def _as_truth(half: FoldTruth, side: half_cells.Side | None) -> FoldTruth:
    """Return the half with its own log-of-mean profiles."""
    if side is None or half.extras.log_of_mean is None:
        return half
    return replace(half, extras=replace(half.extras, log_of_mean=side.truth.extras.log_of_mean))


def add_tech_duplicate(bundle: TruthBundle, metrics: Mapping[str, Metric], rows: Rows) -> None:
    """Add the split-half ceiling: half of a perturbation's cells predicts the other, both ways, mean of the seeds.

    Cross-fitted gene sets have none: the half that would predict has chosen the genes. Metrics of cells are of two
    disjoint halves throughout: significant genes of one half against those of the other.
    """
    metrics = without_xfit(metrics)
    of_cells = {name: metric for name, metric in metrics.items() if _on_own_cells(metric)}
    of_profiles = {name: metric for name, metric in metrics.items() if name not in of_cells}
    n_seeds = bundle.folds[0].first_half.shape[0]
    parts = []
    for seed in range(n_seeds):
        halves = [half_truths(fold, seed) for fold in bundle.folds]
        sides = [
            (None, None) if fold.extras.halves is None else
            tuple(half_cells.side_of(fold, seed, number) for number in (0, 1))
            for fold in bundle.folds
        ]  # fmt: skip
        for true, other in ((0, 1), (1, 0)):
            part = Rows(rows.dataset, rows.split, contract.TECH_DUPLICATE)
            predictions = {
                fold.fold: _sample(half[other], side[other])
                for fold, half, side in zip(bundle.folds, halves, sides, strict=True)
            }
            truths = tuple(_as_truth(half[true], side[true]) for half, side in zip(halves, sides, strict=True))
            score_combination(replace(bundle, folds=truths), predictions, of_profiles, part, 0, nulls=False)
            truths = tuple(half[true] if side[true] is None else side[true].truth
                           for half, side in zip(halves, sides, strict=True))  # fmt: skip
            score_combination(replace(bundle, folds=truths), predictions, of_cells, part, 0, nulls=False)
            parts.append(part)
    rows.rows += means(parts)


def without_xfit(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics without cross-fitted gene sets: the half that would predict has chosen their genes."""
    return {
        name: replace(metric, gene_sets=tuple(s for s in metric.gene_sets if not s.endswith(XFIT)))
        for name, metric in metrics.items()
    }


def means(parts: Iterable[Rows]) -> list[tuple[Any, ...]]:
    """Return one row for the rows of equal keys in all parts: the mean of their values."""
    found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for part in parts:
        for row in part.rows:
            found.setdefault(row[: len(KEYS)], []).append(row)
    return [averaged(same) for same in found.values()]


def averaged(found: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    """Return the row that stands for rows with the same keys: the mean of their values."""
    values = np.array([row[10] for row in found])
    # Halves without a value are left out of the mean; the row is what those with one are.
    status = found[int(np.isnan(values).argmin())][14]
    if np.isnan(values).all():
        status = "few_cells" if status in (contract.OK, "missing_pred", *contract.FLAGS) else status
    return (*found[0][:10], float(_nanmean(values, 0)), *found[0][11:14], status, *found[0][15:])


def add_truth_facts(bundle: TruthBundle, rows: Rows) -> None:
    """Add per perturbation the numbers of significant and positive genes and the measured impact (all `expr_nt`).

    Where the truth was prepared for them also the E-test and the interactions of measured doubles.
    """
    for fold in bundle.folds:
        genes = fold.gene_set("expr_nt")
        measured = magnitude.measured_impact(fold, "expr_nt")
        for k, (name, index) in enumerate(zip(fold.ids, genes.index, strict=True)):
            few = fold.n_cells[k] < contract.MIN_CELLS_DE
            positive = int(fold.positive[k, index].sum())
            facts = {
                "de_nsig_true": len(np.intersect1d(fold.significant[k], index)),
                "de_n_positive": positive,
                "de_prevalence": positive / len(index) if len(index) else np.nan,
            }
            for metric, value in facts.items():
                rows.add(fold.fold, name, metric, "expr_nt", np.nan if few else value, len(index), fold.n_cells[k],
                         status="few_cells" if few else contract.OK)  # fmt: skip
            rows.add(fold.fold, name, "impact", "expr_nt", measured[k], len(index), fold.n_cells[k],
                     status="few_cells" if np.isnan(measured[k]) else contract.OK)  # fmt: skip
        _add_cell_facts(fold, rows)
        _add_measured_doubles(fold, rows)


def _add_cell_facts(fold: FoldTruth, rows: Rows) -> None:
    """Add the E-test of the cells of each perturbation against held-out controls, where the truth has cells."""
    space = fold.extras.cells
    if space is None:
        return
    for k, name in enumerate(fold.ids):
        for metric, value in (("etest_distance", space.etest_distance[k]), ("etest_p", space.etest_p[k])):
            rows.add(fold.fold, name, metric, "hvg", value, len(space.genes), fold.n_cells[k],
                     status="few_cells" if np.isnan(value) else contract.OK)  # fmt: skip


def _add_measured_doubles(fold: FoldTruth, rows: Rows) -> None:
    """Add the interactions of the measured doubles: what the same metrics of a model are to be compared with."""
    doubles = fold.extras.doubles
    if doubles is None or not len(doubles.row):
        return
    measured = interactions.observed(fold)
    n_genes = len(interactions.top_genes(fold))
    missing = (doubles.first < 0) | (doubles.second < 0)
    for metric in interactions.NAMES:
        for i, value in enumerate(interactions.values(metric, fold, measured)):
            k = doubles.row[i]
            few = fold.n_cells[k] < contract.MIN_CELLS_PROFILE
            status = "few_cells" if few else "no_single" if missing[i] else contract.OK
            if status == contract.OK and np.isnan(value):
                status = "sign_mismatch" if metric == "gi_dominance" else "const_true"
            rows.add(fold.fold, fold.ids[k], metric, registry.DOUBLES, value if status == contract.OK else np.nan,
                     n_genes, fold.n_cells[k], status=status)  # fmt: skip

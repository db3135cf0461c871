"""`vcb_evaluate.py`: score any prediction file against truth and training cells, with the pipeline's own code."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core import catalogue, cli, h5ad
from vcbench.core.errors import InputError
from vcbench.core.h5ad import CONTROL
from vcbench.core.hashing import sha256_file
from vcbench.core.tables import write_tsv
from vcbench.metrics import bundle, compat, contract, gmt, predictions, registry, score, scoring, truth, truth_cli
from vcbench.metrics.registry import Metric

if TYPE_CHECKING:
    import anndata as ad

log = logging.getLogger(__name__)

FOLD = 1
SPLIT = "given"
SUMMARY = (
    "metric", "gene_set", "value", "n", "status", "train_mean", "no_change", "tech_duplicate", "null_mean",
    "null_low", "null_high", "direction", "title",
)  # fmt: skip

EPILOG = """Example:
  vcb_evaluate.py --truth test.h5ad --train train.h5ad --predictions mine.h5ad --out evaluation

  --truth        cells of the held-out perturbations and control cells no model has seen
  --train        cells of the training perturbations and the control cells the model was given
  --predictions  predicted cells, or one profile per perturbation; no control rows

All three: obs column `perturbation` (control = `control`), X = natural log1p of counts scaled to one total per cell,
genes matched by name. Writes scores.parquet (every value) and summary.tsv: per metric your value, the number of
perturbations behind it, and beside it what the training mean, no change, a replicate measurement (tech_duplicate) and
shuffled labels score."""


def load(path: Path, measured: bool) -> ad.AnnData:
    """Return a file with labels and log1p values; raises :class:`InputError` for anything else.

    Only measured values must not be negative: a regression may well predict slightly less than nothing.
    """
    data = h5ad.read(path)
    if "perturbation" not in data.obs:
        raise InputError("missing obs column", where=str(path), found=", ".join(data.obs.columns) or "none",
                         expected="perturbation")  # fmt: skip
    for axis, names in (("gene", data.var_names), ("cell", data.obs_names)):
        if not names.is_unique:
            raise InputError(f"duplicate {axis} name", where=str(path), found=names[names.duplicated()][0])
    stored = data.X.data if hasattr(data.X, "tocsr") else np.asarray(data.X)
    if not np.isfinite(stored).all():
        raise InputError("values that are not finite", where=f"{path}, X")
    if measured and stored.size and stored.min() < 0:
        raise InputError("negative values", where=f"{path}, X", found=float(stored.min()), expected="log1p expression")
    if stored.size and stored.max() > 20:
        raise InputError("values too large for log1p", where=f"{path}, X", found=float(stored.max()),
                         expected="natural log1p of scaled counts", hint="are these raw counts?")  # fmt: skip
    return data


def labels_of(data: ad.AnnData) -> np.ndarray:
    """Return the perturbation labels as an object array of strings."""
    return data.obs["perturbation"].astype(str).to_numpy().astype(object)


def target_genes(data: ad.AnnData, table: Path | None) -> dict[str, tuple[str, ...]]:
    """Return the perturbed genes by perturbation: from a table, an obs column `gene`, or ids of the form GENE~VARIANT.

    A label that merely equals a gene name is not taken for its target (metrics.md 1.3.10).
    """
    if table is not None:
        return truth_cli.read_targets(table)
    labels = labels_of(data)
    if "gene" in data.obs:
        pairs = dict(zip(labels, data.obs["gene"].astype(str), strict=True))
        return {
            name: tuple(gene for gene in text.split(";") if gene) for name, text in pairs.items() if name != CONTROL
        }
    found = {name: (name.split("~")[0],) for name in set(labels) if "~" in name}
    unknown = sorted(set(labels) - set(found) - {CONTROL})
    if unknown:
        log.warning(
            "no target gene known for %d perturbations (first %s): gene sets *_nt keep it; give --perturbations",
            len(unknown), unknown[0],
        )  # fmt: skip
    return found


def shared_controls(test: ad.AnnData, train: ad.AnnData) -> int:
    """Return how many control cells occur in both files: same barcode and same expression."""
    parts = []
    for data in (test, train):
        controls = data[labels_of(data) == CONTROL]
        sums = np.asarray(controls.X.sum(axis=1, dtype=np.float64)).ravel()
        parts.append(dict(zip(controls.obs_names, sums.tolist(), strict=True)))
    return sum(parts[1].get(name) == total for name, total in parts[0].items())


def _csr(data: ad.AnnData, genes: list[str]) -> Any:
    import scipy.sparse as sp

    position = {name: i for i, name in enumerate(data.var_names)}
    return sp.csr_matrix(data.X)[:, [position[name] for name in genes]]


def build_truth(
    test: ad.AnnData, train: ad.AnnData, genes: list[str], targets: Mapping[str, Sequence[str]], facts: dict[str, Any],
    seed: int, target_sum: float, list_name: str, gene_sets: Mapping[str, Sequence[str]], fixed: Sequence[str],
) -> tuple[bundle.TruthBundle, list[Any]]:  # fmt: skip
    """Return truth bundle and DE rows of one fold: control half A is the truth file's, half B the training file's."""
    import scipy.sparse as sp

    labels = [labels_of(test), labels_of(train)]
    if not target_sum:
        # The sum of linear values of a cell is its target sum, up to the genes that were left out.
        linear = _csr(train, list(train.var_names)).astype(np.float64)
        linear.data = np.expm1(linear.data)
        target_sum = float(np.median(np.asarray(linear.sum(axis=1))))
        log.info("target sum of the normalisation estimated from the training cells: %.1f", target_sum)
    cells = truth.sorted_cells(
        sp.vstack([_csr(test, genes), _csr(train, genes)]).tocsr(),
        [*(f"truth {name}" for name in test.obs_names), *(f"train {name}" for name in train.obs_names)],
        np.concatenate(labels),
        np.repeat(["A", "B"], [test.n_obs, train.n_obs]),
        np.array(genes, dtype=object),
        target_sum,
        "--truth, --train",
    )
    roles = truth.Roles(FOLD, *(tuple(sorted(set(names) - {CONTROL})) for names in (labels[1], labels[0])))
    return truth.build(cells, [roles], targets, facts, seed, list_name, gene_sets, fixed)


def check(test: ad.AnnData, train: ad.AnnData, options: Any) -> list[str]:
    """Return the common genes; raises :class:`InputError` for files that cannot be evaluated together."""
    for data, path in ((test, options.truth), (train, options.train)):
        present = set(labels_of(data))
        if CONTROL not in present:
            raise InputError("no control cells", where=f"{path}, obs['perturbation']", expected=f"label '{CONTROL}'",
                             hint="half of the control cells belong into each of --truth and --train")  # fmt: skip
        if present == {CONTROL}:
            raise InputError("no perturbed cells", where=f"{path}, obs['perturbation']")
    both = sorted((set(labels_of(test)) & set(labels_of(train))) - {CONTROL})
    if both:
        raise InputError("perturbation in both files", where="--truth, --train", found=", ".join(both[:3]),
                         hint="test perturbations must not be in the training cells")  # fmt: skip
    doubled = shared_controls(test, train)
    if doubled:
        raise InputError(f"{doubled} control cells are in both files", where="--truth, --train",
                         hint="scores need disjoint control cells: put one half into each file")  # fmt: skip
    return [name for name in test.var_names if name in set(train.var_names)]


def main(argv: Sequence[str]) -> None:
    """Run the command line."""
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
        "--bench-compat-de-list", default="gears_ttest", help=f"their DE list: {', '.join(compat.DE_LISTS)}"
    )
    parser.add_argument(
        "--perturbations", type=Path, metavar="TSV", help="columns perturbation, gene: the target genes"
    )
    parser.add_argument("--target-sum", type=float, default=0, help="counts per cell before log1p; 0 = estimate")
    parser.add_argument(
        "--allow-missing", action="store_true", help="score although perturbations are missing or extra"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of halves and permutations")
    parser.add_argument("--gene-sets", type=Path, metavar="GMT", help="sets of genes chosen in advance (pathways)")
    parser.add_argument(
        "--fixed-sets", nargs="+", metavar="NAME",
        help=f"sets of that file that get columns of their own; without a choice {gmt.DEFAULT_FIXED} where it is there",
    )  # fmt: skip
    parser.add_argument("--assets", type=Path, default=catalogue.ASSETS, help="folder of metrics.yml")
    options = parser.parse_args(argv)
    list_name = compat.check_list(options.bench_compat_de_list) if options.bench_compat else ""
    wanted = [*options.metrics, *(["bench_compat"] if options.bench_compat else [])]
    metrics = registry.chosen(registry.load(options.assets), wanted)
    gene_sets, fixed = gmt.choose(options.gene_sets, options.fixed_sets)
    test, train = (load(path, measured=True) for path in (options.truth, options.train))
    predicted = load(options.predictions, measured=False)
    genes = check(test, train, options)
    common = [name for name in genes if name in set(predicted.var_names)]
    if len(common) < contract.MIN_GENES_CORRELATION:
        raise InputError("the three files have no common genes", where="var names", found=f"{len(common)} genes",
                         expected="the same gene names")  # fmt: skip
    for path, data in ((options.truth, test), (options.train, train), (options.predictions, predicted)):
        if data.n_vars > len(common):
            log.warning(
                "%s: %d of its %d genes are not in all three files", path, data.n_vars - len(common), data.n_vars
            )
    targets = target_genes(test, options.perturbations)
    facts = {
        "dataset": "evaluation",
        "split": SPLIT,
        "inputs": {name: sha256_file(getattr(options, name)) for name in ("truth", "train", "predictions")},
    }
    found = predictions.summarise(predicted, np.array(common, dtype=object), options.predictions.name)
    test_ids = sorted(set(labels_of(test)) - {CONTROL})
    score.check_perturbations(found.ids, test_ids, options.predictions.name, options.allow_missing)
    if not set(found.ids) & set(test_ids):
        raise InputError("no perturbation in common", where="--truth, --predictions",
                         found=", ".join(found.ids[:1]) or "none", expected=test_ids[0])  # fmt: skip
    built, _ = build_truth(test, train, common, targets, facts, options.seed, options.target_sum, list_name,
                           gene_sets, fixed)  # fmt: skip
    tables = score_all(built, found, metrics, options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    import pyarrow.parquet as pq

    header = {**facts, "n_genes": len(common), "axis_sha256": built.facts["axis_sha256"]}
    header |= {"target_sum": built.facts["target_sum"], "bench_compat_de_list": list_name}
    pq.write_table(
        scoring.to_table([row for rows in tables.values() for row in rows], header), options.out / "scores.parquet"
    )
    write_tsv(options.out / "summary.tsv", summary(built, tables, metrics), SUMMARY)


def score_all(
    built: bundle.TruthBundle, found: predictions.PredictedProfiles, metrics: Mapping[str, Metric], seed: int
) -> dict[str, list[tuple]]:
    """Return the score rows by id: the predictions, train_mean, no_change and the evaluator's own."""
    fold = built.fold(FOLD)
    ones = np.ones(len(fold.ids), dtype=np.int64)
    control = np.tile(fold.control_b, (len(fold.ids), 1))
    scored = {
        "predictions": scoring.align(fold, found.ids, found.mean, found.variance, found.n_cells),
        "train_mean": scoring.train_mean_prediction(fold),
        "no_change": scoring.align(fold, fold.ids, control, None, ones),
    }
    tables: dict[str, list[tuple]] = {}
    for name, predicted in scored.items():
        rows = scoring.Rows(built.facts["dataset"], SPLIT, name)
        scoring.score_combination(built, {FOLD: predicted}, metrics, rows, seed, nulls=name == "predictions")
        tables[name] = rows.rows
    for name, add in ((contract.NO_SKILL, scoring.add_no_skill), (contract.TECH_DUPLICATE, scoring.add_tech_duplicate)):
        rows = scoring.Rows(built.facts["dataset"], SPLIT, name)
        add(built, metrics, rows)
        tables[name] = rows.rows
    rows = scoring.Rows(built.facts["dataset"], SPLIT, contract.TRUTH)
    scoring.add_truth_facts(built, rows)
    tables[contract.TRUTH] = rows.rows
    return tables


def summary(
    built: bundle.TruthBundle, tables: Mapping[str, list[tuple]], metrics: Mapping[str, Metric]
) -> list[dict[str, Any]]:
    """Return one row per metric and gene set: value, perturbations behind it, why others have none, and references."""
    result = []
    for metric, gene_set in scoring.reported(built, metrics):
        name = scoring.set_name(built, gene_set)
        value, n, status = _panel_value(tables["predictions"], metric, name, "predictions")
        references = {
            model: _panel_value(tables[model], metric, name, model)[0]
            for model in ("train_mean", "no_change", contract.TECH_DUPLICATE)
        }
        model = f"{contract.SHUFFLED_LABELS}:predictions"
        null = [row[10] for row in tables["predictions"] if row[3] == model and row[8:10] == (metric.id, name)]
        null = [found for found in null if not np.isnan(found)]
        low, high = np.percentile(null, [2.5, 97.5]) if null else (np.nan, np.nan)
        result.append({
            "metric": metric.id, "gene_set": name, "value": value, "n": n, "status": status, **references,
            "null_mean": float(np.mean(null)) if null else np.nan, "null_low": low, "null_high": high,
            "direction": metric.direction, "title": metric.title,
        })  # fmt: skip
    return result


def _panel_value(rows: list[tuple], metric: Metric, gene_set: str, model: str) -> tuple[float, int, str]:
    """Return value, number of perturbations and status (``ok``, or reasons with counts) of one metric."""
    found = [row for row in rows if row[3] == model and row[8:10] == (metric.id, gene_set)]
    if metric.level == "panel":
        row = found[0]
        return row[10], row[15], row[14]
    values = np.array([row[10] for row in found])
    known = ~np.isnan(values)
    reasons = Counter(row[14] for row, ok in zip(found, known, strict=True) if not ok)
    status = ";".join(f"{name}:{count}" for name, count in sorted(reasons.items())) or contract.OK
    return float(values[known].mean()) if known.any() else np.nan, int(known.sum()), status

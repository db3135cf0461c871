#!/usr/bin/env python3
"""Scores of vcb_evaluate.py against cell-eval, scikit-learn, scipy and statsmodels (metrics.md 11.3).

Runs in the environment of tests/external/requirements.txt on a folder with truth.h5ad, train.h5ad, predictions.h5ad and
out/ (what vcb_evaluate.py wrote for them with --metrics extended vcc --bench-compat). Every number is computed from the
cells again, by the other package. Prints one line per comparison, exits with 1 when any lies beyond its tolerance.
"""

import sys
import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
import pyarrow.parquet as pq
from scipy import stats

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bin"))
warnings.simplefilter("ignore")
FAILED = []


def report(what, package, ours, theirs, tolerance):
    """Print the largest difference of two sets of numbers; NaN on one side only is a failure."""
    ours, theirs = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    same = (np.isnan(ours) == np.isnan(theirs)).all() and len(ours) == len(theirs)
    largest = float(np.nanmax(np.abs(ours - theirs), initial=0.0)) if same else np.nan
    ok = same and largest <= tolerance and np.isfinite(ours).any()
    if not ok:
        FAILED.append(what)
    print(f"{what}\t{package}\t{np.isfinite(ours).sum()}\t{largest:.2g}\t{tolerance:g}\t{'ok' if ok else 'FAILED'}")


class Data:
    """Cells, profiles and our scores of one evaluation."""

    def __init__(self, folder):
        read = {name: ad.read_h5ad(folder / f"{name}.h5ad") for name in ("truth", "train", "predictions")}
        self.read = read
        self.genes = read["truth"].var_names.to_numpy()
        x = {name: data.X.toarray().astype(np.float64) for name, data in read.items()}
        label = {name: data.obs["perturbation"].astype(str).to_numpy() for name, data in read.items()}
        self.x, self.label = x, label
        self.names = sorted(set(label["truth"]) - {"control"})
        self.t = np.stack([x["truth"][label["truth"] == name].mean(0) for name in self.names])
        self.p = np.stack([x["predictions"][label["predictions"] == name].mean(0) for name in self.names])
        self.control_a = x["truth"][label["truth"] == "control"]
        self.control_b = x["train"][label["train"] == "control"]
        train = sorted(set(label["train"]) - {"control"})
        self.train_mean = np.mean([x["train"][label["train"] == name].mean(0) for name in train], axis=0)
        table = pq.read_table(folder / "out" / "scores.parquet").to_pandas()
        self.table = table[table.model == "predictions"]
        self.de = pq.read_table(folder / "out" / "de.parquet").to_pandas()

    def ours(self, metric, gene_set):
        rows = self.table[(self.table.metric == metric) & (self.table.gene_set == gene_set)]
        return rows[rows.perturbation != ""].set_index("perturbation").value.reindex(self.names).to_numpy()


def de_table(data):
    """The truth DE table: scipy's rank-sum, statsmodels' Benjamini-Hochberg; pdex, which corrects for continuity."""
    from statsmodels.stats.multitest import multipletests

    position = {gene: i for i, gene in enumerate(data.genes)}
    differences = {"p": [], "p_adj": []}
    for name in data.names:
        rows = data.de[data.de.perturbation == name]
        at = [position[gene] for gene in rows.gene]
        cells = data.x["truth"][data.label["truth"] == name][:, at]
        p = stats.mannwhitneyu(cells, data.control_a[:, at], method="asymptotic", use_continuity=False).pvalue
        differences["p"].append((rows.p.to_numpy(), p))
        differences["p_adj"].append((rows.p_adj.to_numpy(), multipletests(p, method="fdr_bh")[1]))
    for column, package in (("p", "scipy mannwhitneyu"), ("p_adj", "statsmodels multipletests fdr_bh")):
        ours, theirs = (np.concatenate(side) for side in zip(*differences[column], strict=True))
        report(f"DE table, {column}", package, ours, theirs, 1e-10)

    from pdex import pdex

    from vcbench.metrics import de

    real = data.read["truth"]
    found = pdex(real, groupby="perturbation", is_log1p=True, mode="ref", reference="control", threads=1).to_pandas()
    label = next(c for c in ("target", "perturbation", "group") if c in found)
    gene = "feature" if "feature" in found else "gene"
    p = next(c for c in ("p_value", "pvalue", "p") if c in found)
    found = found.set_index([label, gene])[p]
    theirs = found.reindex([(name, gene) for name in data.names for gene in data.genes]).to_numpy()
    groups = np.array([-1 if name == "control" else data.names.index(name) for name in data.label["truth"]])
    ours = de.rank_sum(real.X.tocsr(), groups, len(data.names), continuity=True)[1].ravel()
    # Where U is its mean exactly, p is 1 there and 1 - 1e-3 here: the engine's correction steps over the mean.
    at_mean = theirs == 1
    report("rank-sum p, continuity corrected", "pdex", ours[~at_mean], theirs[~at_mean], 1e-10)
    report("rank-sum p, continuity corrected, U at its mean", "pdex", ours[at_mean], theirs[at_mean], 5e-3)


def correlations(data):
    """Correlations and distances of profiles over the tested genes: scipy, scikit-learn."""
    from scipy.spatial.distance import cosine
    from sklearn.metrics import mean_absolute_error, mean_squared_error

    tested = set(data.de.gene)
    g = np.array([gene in tested for gene in data.genes])
    a, b, m = data.control_a.mean(0)[g], data.control_b.mean(0)[g], data.train_mean[g]
    t, p = data.t[:, g], data.p[:, g]
    k = range(len(data.names))
    by = {
        ("dpearson_pm", "expr_nt"): ("scipy pearsonr", [stats.pearsonr(p[i] - m, t[i] - m).statistic for i in k]),
        ("dspearman_ctrl", "expr_nt"): ("scipy spearmanr", [stats.spearmanr(p[i] - b, t[i] - a).statistic for i in k]),
        ("dcosine_ctrl", "expr_nt"): ("scipy cosine", [1 - cosine(p[i] - b, t[i] - a) for i in k]),
        ("mse", "expr_nt"): ("scikit-learn mean_squared_error", [mean_squared_error(t[i], p[i]) for i in k]),
        ("mae", "expr_nt"): ("scikit-learn mean_absolute_error", [mean_absolute_error(t[i], p[i]) for i in k]),
    }
    for (metric, gene_set), (package, theirs) in by.items():
        ours = data.ours(metric, gene_set)
        report(f"{metric}__{gene_set}", package, ours, np.where(np.isnan(ours), np.nan, theirs), 1e-9)


def recovery(data):
    """Ranking metrics of changed genes: scikit-learn."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    position = {gene: i for i, gene in enumerate(data.genes)}
    control = data.control_b.mean(0)
    found = {"ap_de": [], "auroc_de": []}
    for row, name in enumerate(data.names):
        rows = data.de[data.de.perturbation == name]
        at = [position[gene] for gene in rows.gene]
        label = ((rows.p_adj < 0.05) & (rows.log2fc.abs() >= np.log2(1.5))).to_numpy()
        score = np.abs(data.p[row, at] - control[at])
        mixed = 0 < label.sum() < len(label)
        found["ap_de"].append(average_precision_score(label, score) if mixed else np.nan)
        found["auroc_de"].append(roc_auc_score(label, score) if mixed else np.nan)
    for metric, package in (("ap_de", "average_precision_score"), ("auroc_de", "roc_auc_score")):
        report(f"{metric}__expr_nt", f"scikit-learn {package}", data.ours(metric, "expr_nt"), found[metric], 1e-9)


def challenge(data):
    """The challenge's metrics and errors on all genes: cell-eval with the measured controls on both sides."""
    from cell_eval import MetricsEvaluator

    controls = [data.read[name][data.label[name] == "control"] for name in ("truth", "train")]
    perturbed = data.read["truth"][data.label["truth"] != "control"]
    real, predicted = ad.concat([perturbed, *controls]), ad.concat([data.read["predictions"], *controls])
    for part in (real, predicted):
        part.obs_names_make_unique()
    with tempfile.TemporaryDirectory() as folder:
        evaluator = MetricsEvaluator(
            adata_pred=predicted, adata_real=real, control_pert="control", pert_col="perturbation", outdir=folder,
            num_threads=1,
        )  # fmt: skip
        found, _ = evaluator.compute(profile="full", write_csv=False, skip_metrics=["clustering_agreement"])
    found = found.to_pandas().set_index("perturbation").reindex(data.names)
    for ours, theirs in (
        ("vcc_mae", "mae"), ("vcc_pds", "discrimination_score_l1"), ("vcc_des", "overlap_at_N"),
        ("bench_compat_mse_gw", "mse"),
    ):  # fmt: skip
        column, values = data.ours(ours, "all"), found[theirs].to_numpy()
        if ours == "vcc_des":  # no changed gene: undefined here, 0 there
            values = np.where(np.isnan(column) & (values == 0), np.nan, values)
        report(ours, f"cell-eval {theirs}", column, values, 1e-6)


def statistics():
    """Corrections and signed ranks: statsmodels, scipy."""
    from statsmodels.stats.multitest import multipletests

    from vcbench.stats import contrasts

    generator = np.random.default_rng(0)
    p = generator.beta(0.4, 2, 200)
    report("Holm", "statsmodels multipletests holm", contrasts.holm(p), multipletests(p, method="holm")[1], 1e-12)
    ours = contrasts.benjamini_hochberg(p)
    report("Benjamini-Hochberg", "statsmodels multipletests fdr_bh", ours, multipletests(p, method="fdr_bh")[1], 1e-12)
    d = generator.normal(0.3, 1, (20, 30))
    theirs = [stats.wilcoxon(row, method="exact").pvalue for row in d]
    report("signed rank", "scipy wilcoxon exact", contrasts.signed_rank(d)[0], theirs, 1e-12)


def main():
    data = Data(Path(sys.argv[1]))
    print("what\tpackage\tn\tlargest_difference\ttolerance\tresult")
    for check in (de_table, correlations, recovery, challenge):
        check(data)
    statistics()
    if FAILED:
        sys.exit(f"{len(FAILED)} comparisons beyond their tolerance: {', '.join(FAILED)}")


if __name__ == "__main__":
    main()

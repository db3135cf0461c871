"""Every metric of the registry written once more, differently: loops over perturbations, scipy and scikit-learn.

An oracle takes a fold of truth, its predictions and a gene set and returns one value per perturbation; those of panel
metrics take what all folds hold. Nothing here calls the code it is held against, apart from the truth's plain arrays.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats
from scipy.spatial import distance
from sklearn import metrics as sk


def genes(fold, gene_set, k):
    """Return the genes of perturbation k, from the definitions of metrics.md 2.2."""
    base = gene_set.removesuffix("_xfit").split("@")[0]
    plain = base.removesuffix("_nt")
    if plain == "all":
        found = list(range(len(fold.expressed)))
    elif plain == "eligible":
        found = [g for g in range(len(fold.expressed)) if fold.eligible[g]]
    elif plain == "expr":
        found = [g for g in range(len(fold.expressed)) if fold.expressed[g]]
    elif plain == "listed":
        return list(fold.listed[k])[:20]
    else:
        found = list(fold.significant[k])
    if base.endswith("_nt"):
        found = [g for g in found if g not in fold.targets[k]]
    return found[: int(plain[2:])] if plain.startswith("de") else found


def panel_genes(fold, gene_set):
    """Return the genes on which the perturbations of a fold are compared with each other."""
    every = set(np.concatenate(fold.targets).tolist())
    base = range(len(fold.expressed)) if gene_set.startswith("all") else np.flatnonzero(fold.expressed)
    return [g for g in base if not (gene_set.endswith("_nt") and g in every)]


def per(of: Callable, reference: str = "ctrl"):
    """Return an oracle of (predicted delta, true delta) of each perturbation."""

    def oracle(fold, predicted, gene_set):
        zero = np.zeros(len(fold.expressed))
        minus_p, minus_t = {
            "ctrl": (fold.control_b, fold.control_a), "pm": (fold.train_mean, fold.train_mean), "none": (zero, zero),
            "all": (fold.control_all, fold.control_all), "test": (fold.cell_mean, fold.cell_mean),
        }[reference]  # fmt: skip
        found = []
        for k in range(len(fold.ids)):
            at = genes(fold, gene_set, k)
            found.append(of((predicted.mean[k] - minus_p)[at], (fold.profile[k] - minus_t)[at]))
        return np.array(found)

    return oracle


def pearson(p, t):
    return stats.pearsonr(p, t).statistic


def spearman(p, t):
    return stats.spearmanr(p, t).statistic


def cosine(p, t):
    return 1 - distance.cosine(p, t)


def mean_square(p, t):
    return sk.mean_squared_error(t, p)


def mean_absolute(p, t):
    return sk.mean_absolute_error(t, p)


def weighted(reference: str | None):
    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            w, p, t = fold.weights[k], predicted.mean[k], fold.weight_profile[k]
            if reference is None:
                found.append(np.average((p - t) ** 2, weights=w))
                continue
            minus_p, minus_t = {
                "pm": (fold.train_mean, fold.train_mean), "ctrl": (fold.control_b, fold.control_a)
            }[reference]  # fmt: skip
            found.append(sk.r2_score(t - minus_t, p - minus_p, sample_weight=w))
        return np.array(found)

    return oracle


def without_pc1(fold, predicted, gene_set):
    found = []
    project = np.eye(len(fold.expressed)) - np.outer(fold.train_pc1, fold.train_pc1)
    for k in range(len(fold.ids)):
        at = genes(fold, gene_set, k)
        p, t = (project @ (x[k] - fold.train_mean) for x in (predicted.mean, fold.profile))
        found.append(pearson(p[at], t[at]))
    return np.array(found)


def nmse_error(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        total = 0.0
        for g in genes(fold, gene_set, k):
            total += (predicted.mean[k, g] - fold.profile[k, g]) ** 2 - fold.variance[k, g]
            total -= min(predicted.variance[k, g], fold.variance[k, g])
        found.append(total)
    return np.array(found)


def nmse_effect(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        at = genes(fold, gene_set, k)
        noise = (fold.variance[k] + fold.control_a_variance)[at].sum()
        found.append(((fold.profile[k] - fold.control_a)[at] ** 2).sum() - noise)
    return np.array(found)


def impact(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        square = sum((predicted.mean[k, g] - fold.control_b[g]) ** 2 - predicted.variance[k, g]
                     for g in genes(fold, gene_set, k))  # fmt: skip
        found.append(np.copysign(abs(square) ** 0.5, square))
    return np.array(found)


def direction(of):
    def share(p, t):
        return float(np.mean([of(a if abs(a) >= 1e-6 else 0.0, b) for a, b in zip(p, t, strict=True)]))

    return per(share)


def farther(own, others):
    """Return the share of other distances above the own one, ties half."""
    return np.mean([1.0 if other > own else 0.5 if other == own else 0.0 for other in others])


def discrimination(kind, of=lambda share, n: share):
    """Return an oracle of ranks of distances, `of` (share of others farther, number of truths)."""

    def oracle(fold, predicted, gene_set):
        at, k = panel_genes(fold, gene_set), len(fold.ids)
        minus_p, minus_t = (fold.control_b, fold.control_a) if kind.startswith("delta") else (0.0, 0.0)
        p, t = (predicted.mean - minus_p)[:, at], (fold.profile - minus_t)[:, at]
        measure = {"delta l1": distance.cityblock, "delta cos": distance.cosine}.get(kind, distance.euclidean)
        d = np.array([[measure(p[i], t[j]) for j in range(k)] for i in range(k)])
        d = d.T if kind == "reverse" else d
        return np.array([of(farther(d[i, i], np.delete(d[i], i)), k) for i in range(k)])

    return oracle


def c_acc_ctrl(fold, predicted, gene_set):
    at = panel_genes(fold, gene_set)
    return np.array([
        float(np.linalg.norm((predicted.mean[k] - fold.control_a)[at]) > np.linalg.norm(
            (predicted.mean[k] - fold.profile[k])[at])) for k in range(len(fold.ids))
    ])  # fmt: skip


def labelled(of, kind=""):
    """Return an oracle of labels and scores; `kind` up, down or a grid cut in the gene set."""

    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            at = genes(fold, gene_set, k)
            score = (predicted.mean[k] - fold.control_b)[at]
            label = fold.positive[k, at]
            if kind == "grid":
                fdr, cut = (float(x) for x in gene_set.split("@fdr")[1].split("_lfc"))
                cut = np.log2(1.5) if cut == 0.585 else cut
                label = (fold.p_adj[k, at] < fdr) & (abs(fold.log2fc[k, at]) >= cut)
            if kind == "up":
                label = label & (fold.log2fc[k, at] > 0)
            if kind == "down":
                label, score = label & (fold.log2fc[k, at] < 0), -score
            found.append(of(label, score if kind in ("up", "down") else abs(score)))
        return np.array(found)

    return oracle


def lift(label, score):
    return (sk.average_precision_score(label, score) - label.mean()) / (1 - label.mean())


def overlap(size, of=lambda common, k: common / k):
    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            expressed = genes(fold, "expr_nt", k)
            listed = genes(fold, gene_set, k)
            n = size or len([g for g in fold.significant[k] if g in expressed])
            d_p, d_t = abs(predicted.mean[k] - fold.control_b), abs(fold.profile[k] - fold.control_a)
            if gene_set.startswith("de"):
                n, true = len(listed), set(listed)
            else:
                true = set(sorted(expressed, key=lambda g: -d_t[g])[:n])
            called = set(sorted(expressed, key=lambda g: -d_p[g])[:n])
            found.append(of(len(true & called), n))
        return np.array(found)

    return oracle


def relative_error(p, t):
    return sum(abs(a - b) for a, b in zip(p, t, strict=True)) / sum(abs(b) for b in t)


def compat_c_acc(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        own = distance.euclidean(predicted.mean[k], fold.profile[k])
        rest = [distance.euclidean(predicted.mean[k], t) for j, t in enumerate(fold.profile) if j != k]
        rest.append(distance.euclidean(predicted.mean[k], fold.control_all))
        found.append(sum(d > own for d in rest) / len(rest))
    return np.array(found)


def compat_auprc(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        precision, recall, _ = sk.precision_recall_curve(
            fold.compat_label[k], abs(predicted.mean[k] - fold.control_all)
        )
        found.append(round(sk.auc(recall, precision), 4))
    return np.array(found)


# ---------------------------------------------------------------------------------------------------------------------
# Spread of cells and other formulas


def spread(of, varying=True):
    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            at = [g for g in genes(fold, gene_set, k) if not varying or fold.extras.spread.sd[k, g] > 0]
            found.append(of(fold, k, predicted.mean[k], at))
        return np.array(found)

    return oracle


def sigmas(of):
    return spread(lambda fold, k, p, at: of(abs(p[at] - fold.profile[k, at]) / fold.extras.spread.sd[k, at]))


def in_range(fold, k, p, at):
    low, high = fold.extras.spread.lowest[k], fold.extras.spread.highest[k]
    return sum(low[g] <= p[g] <= high[g] for g in at) / len(at)


def log_ratio(of):
    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            at = genes(fold, gene_set, k)
            p, b, t, a = (np.maximum(x[at], 0) + 0.1 for x in (
                predicted.mean[k], fold.control_b, fold.profile[k], fold.control_a))  # fmt: skip
            found.append(of(np.log2(p / b), np.log2(t / a)))
        return np.array(found)

    return oracle


# ---------------------------------------------------------------------------------------------------------------------
# Cells


def true_cells(fold, k):
    return fold.extras.cells.coordinates[fold.extras.cells.owner == k]


def e_distance(a, b):
    def mean(x, y):
        return np.mean([np.sqrt(((p - q) ** 2).sum()) for p in x for q in y])

    return 2 * mean(a, b) - mean(a, a) - mean(b, b)


def ediff(fold, predicted, gene_set):
    return np.array([e_distance(predicted.cells.coordinates[k], true_cells(fold, k)) for k in range(len(fold.ids))])


def mmd(fold, predicted, gene_set):
    gamma = 1 / (2 * fold.extras.cells.bandwidth**2)
    found = []
    for k in range(len(fold.ids)):
        p, t = predicted.cells.coordinates[k], true_cells(fold, k)
        every = np.concatenate([p, t])
        sign = np.concatenate([np.full(len(p), 1 / len(p)), np.full(len(t), -1 / len(t))])
        found.append(np.sqrt(sign @ sk.pairwise.rbf_kernel(every, gamma=gamma) @ sign))
    return np.array(found)


def var_ratio(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        ratios = [
            predicted.cells.variance[k, g] / (fold.variance[k, g] * fold.n_cells[k])
            for g in genes(fold, gene_set, k) if fold.variance[k, g] > 0
        ]  # fmt: skip
        found.append(np.median(ratios))
    return np.array(found)


def sets(of):
    """Return an oracle of boolean labels: significant in the truth, in the predicted cells."""

    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            at = genes(fold, gene_set, k)
            true = np.isin(at, fold.significant[k])
            found.append(of(true, predicted.cells.p_adj[k, at] < 0.05))
        return np.array(found)

    return oracle


def overlap_lfc(size):
    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            at = genes(fold, gene_set, k)
            n = size or int(np.isin(at, fold.significant[k]).sum())
            lists = [
                set(sorted(at, key=lambda g, x=x: -abs(x[k, g]))[:n]) for x in (fold.log2fc, predicted.cells.log2fc)
            ]
            found.append(len(lists[0] & lists[1]) / n)
        return np.array(found)

    return oracle


def signs(reach):
    def oracle(fold, predicted, gene_set):
        found = []
        for k in range(len(fold.ids)):
            at = genes(fold, gene_set, k)
            n_true = int(np.isin(at, fold.significant[k]).sum())
            called = [g for g in at if predicted.cells.p_adj[k, g] < 0.05]
            called.sort(key=lambda g: -abs(predicted.cells.stat[k, g]))
            right = [predicted.cells.log2fc[k, g] * fold.log2fc[k, g] > 0 for g in called]
            if not reach:
                found.append(sum(right) / max(len(called), n_true))
                continue
            pure = [m for m in range(1, len(called) + 1) if sum(right[:m]) / m >= 0.9]
            found.append(max(pure, default=0) / n_true)
        return np.array(found)

    return oracle


# ---------------------------------------------------------------------------------------------------------------------
# Challenge


def vcc_pds(fold, predicted, gene_set):
    n = len(fold.ids)
    found = []
    for k in range(n):
        d = [np.abs((predicted.mean[k] - fold.control_all) - (t - fold.control_all)).sum() for t in fold.profile]
        found.append(1 - stats.rankdata(d, "average")[k] / n + 1 / n)
    return np.array(found)


def vcc_des(fold, predicted, gene_set):
    found = []
    for k in range(len(fold.ids)):
        true = list(fold.extras.vcc.listed[k])
        found.append(len(set(true) & set(list(predicted.cells.listed[k])[: len(true)])) / len(true))
    return np.array(found)


def vcc_score(folds, predictions, gene_set):
    scores = np.concatenate([
        np.stack([vcc_des(f, p, "all"), vcc_pds(f, p, "all"), per(mean_absolute, "none")(f, p, "all")], 1)
        for f, p in zip(folds, predictions, strict=True)
    ]).mean(0)  # fmt: skip
    base = np.concatenate([f.extras.vcc.baseline for f in folds]).mean(0)
    gains = [(scores[0] - base[0]) / (1 - base[0]), (scores[1] - base[1]) / (1 - base[1]), 1 - scores[2] / base[2]]
    return np.mean([max(gain, 0) for gain in gains])


# ---------------------------------------------------------------------------------------------------------------------
# Doubles


def parts(fold, mean, k, measured=False):
    """Return deltas of double k and its singles; predicted test profiles `mean`, or with `measured` the truth's.

    Measured test profiles are held against the held-out controls, all others against the training ones.
    """
    doubles = fold.extras.doubles
    i = list(doubles.row).index(k)
    at = sorted(np.argsort(-fold.control_all, kind="stable")[:1000])
    found = [mean[k] - (fold.control_a if measured else fold.control_b)]
    for s in (doubles.first[i], doubles.second[i]):
        row = doubles.test_row[s]
        if row < 0:
            found.append(doubles.profile[s] - fold.control_b)
        else:
            found.append(doubles.profile[s] - fold.control_a if measured else mean[row] - fold.control_b)
    return [part[at] for part in found]


def of_doubles(of):
    def oracle(fold, predicted, gene_set):
        found = np.full(len(fold.ids), np.nan)
        for k in fold.extras.doubles.row:
            found[k] = of(fold, *parts(fold, predicted.mean, k))
        return found

    return oracle


_COEFFICIENTS: dict[bytes, np.ndarray] = {}


def coefficients(double, a, b):
    from sklearn.linear_model import TheilSenRegressor

    key = np.concatenate([double, a, b]).tobytes()
    if key not in _COEFFICIENTS:
        model = TheilSenRegressor(fit_intercept=False, random_state=1000)
        _COEFFICIENTS[key] = model.fit(np.stack([a, b], axis=1), double).coef_
    return _COEFFICIENTS[key]


def dominance(fold, double, a, b):
    c1, c2 = coefficients(double, a, b)
    return abs(np.log10(c1) - np.log10(c2)) if c1 > 0 and c2 > 0 else (
        abs(np.log10(-c1) - np.log10(-c2)) if c1 < 0 and c2 < 0 else np.nan)  # fmt: skip


def distance_correlation(x, y):
    """Return the distance correlation from the definition: double-centred matrices entry by entry."""

    def centred(v):
        v = np.asarray(v, dtype=float).reshape(len(v), -1)
        d = distance.squareform(distance.pdist(v))
        h = np.eye(len(d)) - 1 / len(d)
        return h @ d @ h

    a, b = centred(x), centred(y)
    return np.sqrt((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def equality(fold, double, a, b):
    both = distance_correlation(a, double), distance_correlation(b, double)
    return min(both) / max(both)


def count(kind):
    def of(fold, double, a, b):
        found = {"synergistic": 0, "buffering": 0, "opposite": 0}
        for d, s in zip(double, a + b, strict=True):
            if fold.extras.doubles.lower <= d - s <= fold.extras.doubles.upper:
                continue
            found["opposite" if d * s < 0 else "synergistic" if abs(d) > abs(s) else "buffering"] += 1
        return found[kind]

    return of_doubles(of)


def pairs_of(folds, predictions):
    """Yield by fold predicted deviations of (double, gene) pairs and whether the measured ones are above the cut."""
    for fold, predicted in zip(folds, predictions, strict=True):
        score, label = [], []
        for k in fold.extras.doubles.row:
            d, a, b = parts(fold, predicted.mean, k)
            score += list(d - a - b)
            d, a, b = parts(fold, fold.profile, k, measured=True)
            label += list(d - a - b > fold.extras.doubles.upper)
        yield np.array(score), np.array(label)


def found_at(proportion):
    def oracle(folds, predictions, gene_set):
        values = []
        for score, label in pairs_of(folds, predictions):
            order = np.argsort(-score)
            hits = np.cumsum(label[order])
            fdp = np.maximum.accumulate(1 - hits / np.arange(1, len(hits) + 1))
            best = {}
            for f, h in zip(fdp, hits, strict=True):
                best[f] = max(best.get(f, 0), h / label.sum())
            x = np.array(sorted(best))
            grid = np.linspace(0, 1, 101)
            curve = np.interp(grid, x, [best[f] for f in x], left=0.0)
            values.append(np.interp(proportion, grid, curve))
        return np.mean(values)

    return oracle


def interaction_ap(folds, predictions, gene_set):
    return np.mean([sk.average_precision_score(label, score) for score, label in pairs_of(folds, predictions)])


# ---------------------------------------------------------------------------------------------------------------------
# Over perturbations


def stack(folds, predictions, at):
    number = np.concatenate([[f.fold] * len(f.ids) for f in folds])
    return (
        np.concatenate([f.profile[:, at] for f in folds]),
        np.concatenate([p.mean[:, at] for p in predictions]),
        number,
    )


def residuals(values, number):
    return np.concatenate([values[number == f] - values[number == f].mean(0) for f in sorted(set(number.tolist()))])


def over_genes(axis, pooled):
    def oracle(folds, predictions, gene_set):
        at = [g for g in range(len(folds[0].expressed)) if axis == "all" or folds[0].eligible[g]]
        t, p, number = stack(folds, predictions, at)
        number = number * 0 if pooled else number
        t, p = residuals(t, number), residuals(p, number)
        # scipy centres again, which changes nothing; a gene that does not vary on a side has no correlation
        varying = [g for g in range(len(at)) if min(np.ptp(t[:, g]), np.ptp(p[:, g])) > 1e-6]
        return np.mean([stats.pearsonr(t[:, g], p[:, g]).statistic for g in varying])

    return oracle


def gw_nmse(folds, predictions, gene_set):
    at = np.flatnonzero(folds[0].eligible)
    t, p, _ = stack(folds, predictions, at)
    return np.mean([((t[:, g] - p[:, g]) ** 2).mean() / t[:, g].var() for g in range(len(at)) if t[:, g].std() > 1e-6])


def pathway(folds, predictions, gene_set):
    found = []
    for name in folds[0].sets:
        t, p, number = [], [], []
        for fold, predicted in zip(folds, predictions, strict=True):
            every = set(np.concatenate(fold.targets).tolist())
            at = [g for g in fold.sets[name] if g not in every]
            t += list((fold.profile - fold.control_a)[:, at].mean(1))
            p += list((predicted.mean - fold.control_b)[:, at].mean(1))
            number += [fold.fold] * len(fold.ids)
        number = np.array(number)
        found.append(pearson(residuals(np.array(p), number), residuals(np.array(t), number)))
    return np.mean(found)


def ranked(feature):
    """Return an oracle of the rank correlation of a feature, ranked and centred within folds."""

    def oracle(folds, predictions, gene_set):
        t, p = [], []
        for fold, predicted in zip(folds, predictions, strict=True):
            true, found = feature(fold, predicted, gene_set)
            t += list(stats.rankdata(true) - np.mean(stats.rankdata(true)))
            p += list(stats.rankdata(found) - np.mean(stats.rankdata(found)))
        return pearson(np.array(p), np.array(t))

    return oracle


def norms(fold, predicted, gene_set):
    at = panel_genes(fold, gene_set)
    return (np.linalg.norm((fold.profile - fold.control_a)[:, at], axis=1),
            np.linalg.norm((predicted.mean - fold.control_b)[:, at], axis=1))  # fmt: skip


def numbers(fold, predicted, gene_set):
    at = [genes(fold, gene_set, k) for k in range(len(fold.ids))]
    return ([np.isin(a, fold.significant[k]).sum() for k, a in enumerate(at)],
            [(predicted.cells.p_adj[k, a] < 0.05).sum() for k, a in enumerate(at)])  # fmt: skip


def edist_pearson(folds, predictions, gene_set):
    t, p = [], []
    for fold, predicted in zip(folds, predictions, strict=True):
        control = fold.extras.cells.control
        for values, cells in ((t, [true_cells(fold, k) for k in range(len(fold.ids))]),
                              (p, predicted.cells.coordinates)):  # fmt: skip
            found = np.array([e_distance(group, control) for group in cells])
            values += list(found - found.mean())
    return pearson(np.array(p), np.array(t))


def phenotype(folds, predictions, gene_set):
    top = bottom = 0.0
    for fold, predicted in zip(folds, predictions, strict=True):
        classes = fold.extras.classes
        (number,) = (i for i, name in enumerate(classes.names) if gene_set == f"phenotype@{name}")
        at = panel_genes(fold, "expr_nt")
        score = [
            mean_square(p[at], classes.prototypes[number][0][at])
            - mean_square(p[at], classes.prototypes[number][1][at])
            for p in predicted.mean
        ]
        labels = classes.damaging[number]
        size = labels.sum() * (1 - labels).sum()
        top, bottom = top + size * sk.roc_auc_score(labels, score), bottom + size
    return top / bottom


def nmse(folds, predictions, gene_set):
    both = list(zip(folds, predictions, strict=True))
    top = sum(nmse_error(f, p, gene_set).sum() for f, p in both)
    return top / sum(nmse_effect(f, p, gene_set).sum() for f, p in both)


def log_of_mean(of):
    """Return the oracle `of` on log-of-mean profiles."""
    from dataclasses import replace

    def oracle(fold, predicted, gene_set):
        lm = fold.extras.log_of_mean
        fold = replace(
            fold, profile=lm.profile, control_a=lm.control_a, control_b=lm.control_b, train_mean=lm.train_mean
        )
        return of(fold, replace(predicted, mean=predicted.cells.log_of_mean), gene_set)

    return oracle


#: By metric; values per perturbation.
PERTURBATION: dict[str, Callable] = {
    "mse": per(mean_square, "none"),
    "rmse": per(lambda p, t: np.linalg.norm(p - t) / np.sqrt(len(p)), "none"),
    "mae": per(mean_absolute, "none"),
    "mse_delta": per(mean_square),
    "mae_delta": per(mean_absolute),
    "gw_mse": per(mean_square, "none"),
    "wmse": weighted(None),
    "nmse_ctrl_num": nmse_error,
    "nmse_ctrl_den": nmse_effect,
    "pearson": per(pearson, "none"),
    "dpearson_ctrl": per(pearson),
    "dspearman_ctrl": per(spearman),
    "dcosine_ctrl": per(cosine),
    "dpearson_pm": per(pearson, "pm"),
    "dpearson_pm_nopc1": without_pc1,
    "r2w_delta": weighted("pm"),
    "r2w_delta_ctrl": weighted("ctrl"),
    "dir_acc": direction(lambda a, b: np.sign(a) == np.sign(b) and a != 0),
    "dir_acc_half": direction(lambda a, b: 0.5 if a == 0 else np.sign(a) == np.sign(b)),
    "dir_opposite": direction(lambda a, b: a * b < 0),
    "dir_zero": direction(lambda a, b: (a == 0) != (b == 0)),
    "lfc_slope": per(lambda p, t: np.linalg.lstsq(t[:, None], p, rcond=None)[0][0]),
    "delta_sd_ratio": per(lambda p, t: np.std(p) / np.std(t)),
    "norm_ratio": per(lambda p, t: np.linalg.norm(p) / np.linalg.norm(t)),
    "impact": impact,
    "c_acc": discrimination("profiles"),
    "c_acc_ctrl": c_acc_ctrl,
    "pds_l1": discrimination("delta l1"),
    "pds_l2": discrimination("delta l2"),
    "pds_cos": discrimination("delta cos"),
    "rank_t2p": discrimination("reverse"),
    "mrr": discrimination("profiles", lambda share, n: 1 / (n - share * (n - 1))),
    "top1": discrimination("profiles", lambda share, n: float(n - share * (n - 1) <= 1)),
    "top5": discrimination("profiles", lambda share, n: float(n - share * (n - 1) <= 5)),
    "ap_de": labelled(sk.average_precision_score),
    "ap_de_lift": labelled(lift),
    "ap_de_grid": labelled(sk.average_precision_score, "grid"),
    "ap_signed_up": labelled(sk.average_precision_score, "up"),
    "ap_signed_down": labelled(sk.average_precision_score, "down"),
    "auroc_de": labelled(sk.roc_auc_score),
    "overlap_k20": overlap(20),
    "overlap_k50": overlap(50),
    "overlap_k100": overlap(100),
    "overlap_nsig": overlap(0),
    "jaccard_de20": overlap(20, lambda common, k: common / (2 * k - common)),
    "lfc_nmae": per(relative_error),
    "de_lfc_spearman": per(spearman),
    "in_range_frac": spread(in_range, varying=False),
    "sigma_err_mean": sigmas(np.mean),
    "sigma_err_sd": sigmas(np.std),
    "sigma_below_1": sigmas(lambda error: np.mean([e < 1 for e in error])),
    "sigma_below_2": sigmas(lambda error: np.mean([e < 2 for e in error])),
    "logratio_ml_pearson": log_ratio(pearson),
    "logratio_ml_cosine": log_ratio(cosine),
    "ediff": ediff,
    "mmd": mmd,
    "var_ratio": var_ratio,
    "de_jaccard": sets(sk.jaccard_score),
    "de_mcc": sets(sk.matthews_corrcoef),
    "de_recall": sets(sk.recall_score),
    "de_precision": sets(sk.precision_score),
    "de_f1": sets(sk.f1_score),
    "de_nsig_pred": sets(lambda true, called: called.sum()),
    "overlap_k20_lfc": overlap_lfc(20),
    "overlap_k50_lfc": overlap_lfc(50),
    "overlap_k100_lfc": overlap_lfc(100),
    "overlap_nsig_lfc": overlap_lfc(0),
    "direction_yield": signs(reach=False),
    "direction_reach": signs(reach=True),
    "vcc_mae": per(mean_absolute, "none"),
    "vcc_pds": vcc_pds,
    "vcc_des": vcc_des,
    "gi_c1": of_doubles(lambda fold, d, a, b: coefficients(d, a, b)[0]),
    "gi_c2": of_doubles(lambda fold, d, a, b: coefficients(d, a, b)[1]),
    "gi_magnitude": of_doubles(lambda fold, d, a, b: np.linalg.norm(coefficients(d, a, b))),
    "gi_dominance": of_doubles(dominance),
    "gi_corr_fit": of_doubles(lambda fold, d, a, b: pearson(np.stack([a, b], 1) @ coefficients(d, a, b), d)),
    "gi_dcor_singles": of_doubles(lambda fold, d, a, b: distance_correlation(a, b)),
    "gi_dcor": of_doubles(lambda fold, d, a, b: distance_correlation(np.stack([a, b], 1), d)),
    "gi_equality": of_doubles(equality),
    "gi_score": of_doubles(lambda fold, d, a, b: np.sqrt(mean_square(d, a + b))),
    "gi_class_synergistic": count("synergistic"),
    "gi_class_buffering": count("buffering"),
    "gi_class_opposite": count("opposite"),
    "bench_compat_mse_cw_de": per(mean_square, "none"),
    "bench_compat_pcc_cw_de": per(pearson, "none"),
    "bench_compat_dpcc_cw_de": per(pearson, "all"),
    "bench_compat_dspcc_cw_de": per(pearson, "test"),
    "bench_compat_c_acc": compat_c_acc,
    "bench_compat_mse_gw": per(mean_square, "none"),
    "bench_compat_auprc": compat_auprc,
}

#: By metric; one value over all folds.
PANEL: dict[str, Callable] = {
    "nmse_ctrl": nmse,
    "gw_pearson_wf": over_genes("eligible", pooled=False),
    "gw_nmse": gw_nmse,
    "effect_rank": ranked(norms),
    "pw_pearson": pathway,
    "edist_pearson": edist_pearson,
    "de_nsig_spearman": ranked(numbers),
    "vcc_score": vcc_score,
    "phenotype_auc": phenotype,
    "gi_tpr_fdp_10": found_at(0.1),
    "gi_tpr_fdp_20": found_at(0.2),
    "gi_tpr_fdp_50": found_at(0.5),
    "gi_ap": interaction_ap,
    "bench_compat_pcc_gw": over_genes("all", pooled=True),
}


def oracle_of(metric):
    """Return the oracle of a metric, with None for jack-knife terms, which have a test of their own."""
    base = metric.id.removesuffix("_lm") if metric.log_of_mean else metric.id
    if metric.level == "panel":
        return PANEL[base]
    return log_of_mean(PERTURBATION[base]) if metric.log_of_mean else PERTURBATION[base]

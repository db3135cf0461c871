"""The metric catalogue `assets/metrics.yml` as typed objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from vcbench.core import catalogue
from vcbench.core.errors import InputError
from vcbench.core.names import closest

#: Gene sets that do not show in a column name: the metric exists in one form only.
_UNNAMED_SETS = ("eligible", "listed", "pathways", "top1000ctrl", "hvg")

#: Stands for every gene set that was chosen in advance (``--fixed-sets``); none are chosen without ``--gene-sets``.
FIXED = "fixed_nt"

#: All sets of ``--gene-sets``.
PATHWAYS = "pathways"

#: Genes of highest control expression, on which doubles are compared with their singles; none without doubles.
DOUBLES = "top1000ctrl"

#: Stands for one set of classes each (`--known_function`), as ``phenotype@<item>``; none without classes.
PHENOTYPE = "phenotype"

#: Gene sets that a truth may or may not have; without them their metrics are absent.
OPTIONAL_SETS = (FIXED, PATHWAYS, DOUBLES, PHENOTYPE)

#: Suffix and group of metrics of log-of-mean profiles.
LOG_OF_MEAN = "lm"

#: Group of the metrics that are always computed, and of VariantCellBench's own formulas.
DEFAULT, BENCH_COMPAT = "default", "bench_compat"


@dataclass(frozen=True)
class Metric:
    """One entry of the catalogue; the fields are explained at its top."""

    id: str
    title: str
    explain: str
    direction: str
    range: tuple[float | None, float | None]
    gene_sets: tuple[str, ...]
    headline: tuple[str, ...]
    no_skill: float | str
    level: str
    numerator: str
    denominator: str
    jackknife: str
    replicate: str
    base: str
    undefined: tuple[str, ...]
    group: str
    function: str
    cells: bool
    compat_of: str
    parts: tuple[str, ...] = ()
    log_of_mean: bool = False

    @property
    def compat(self) -> bool:
        """True for VariantCellBench's own formulas."""
        return self.group == BENCH_COMPAT

    @property
    def over_folds(self) -> bool:
        """True for a metric computed over the perturbations of all folds at once."""
        return bool(self.jackknife)

    @property
    def combined(self) -> bool:
        """True for a metric over all folds that is computed from the values of other metrics."""
        return bool(self.parts)

    def column(self, gene_set: str) -> str:
        """Return the name of a wide column, e.g. ``dpearson_pm__expr_nt`` or ``gw_nmse``."""
        return self.id if self.compat or gene_set in _UNNAMED_SETS else f"{self.id}__{gene_set}"


@cache
def load(assets: Path = catalogue.ASSETS) -> dict[str, Metric]:
    """Return the metrics by id, in catalogue order; raises :class:`InputError` for an incomplete entry."""
    metrics: dict[str, Metric] = {}
    log_of_mean: dict[str, Metric] = {}
    whole = catalogue.load("metrics", assets)
    listed = whole.get("log_of_mean", ())
    for name, entry in whole["entries"].items():
        try:
            terms = entry.get("terms", {})
            low, high = entry["range"]
            metrics[name] = Metric(
                id=name,
                title=entry["title"],
                explain=entry["explain"],
                direction=entry["direction"],
                range=(low, high),
                gene_sets=tuple(entry["gene_sets"]),
                headline=tuple(entry.get("headline", ())),
                no_skill=entry["no_skill"],
                level=entry["level"],
                numerator=terms.get("numerator", ""),
                denominator=terms.get("denominator", ""),
                jackknife=terms.get("jackknife", ""),
                replicate=entry.get("replicate", ""),
                base=entry.get("base", "train_mean"),
                undefined=tuple(entry["undefined"]),
                group=entry.get("group", DEFAULT),
                function=entry.get("function", ""),
                cells=entry.get("cells", False),
                compat_of=entry.get("compat_of", ""),
                parts=tuple(entry.get("parts", ())),
            )
            if name in listed:
                log_of_mean[f"{name}_{LOG_OF_MEAN}"] = _log_of_mean(metrics[name])
        except (KeyError, ValueError) as error:
            raise InputError("incomplete metric", where=f"metrics.yml, {name}", found=error) from error
    return {**metrics, **log_of_mean}


def _log_of_mean(metric: Metric) -> Metric:
    """Return the metric on log-of-mean profiles, for models that emit cells; cross-fitted and chosen sets left out."""
    return replace(
        metric,
        id=f"{metric.id}_{LOG_OF_MEAN}",
        title=f"{metric.title} (log of mean)",
        gene_sets=tuple(name for name in metric.gene_sets if name != FIXED and not name.endswith("_xfit")),
        headline=(),
        undefined=(*metric.undefined, "no_cells"),
        group=LOG_OF_MEAN,
        cells=True,
        compat_of="",
        log_of_mean=True,
    )


def requested(groups: Sequence[str], bench_compat: bool) -> list[str]:
    """Return the requested groups without duplicates; they may be comma-separated, or chosen by ``--bench-compat``."""
    names = [name.strip() for text in groups for name in text.split(",") if name.strip()]
    return list(dict.fromkeys([*names, *([BENCH_COMPAT] if bench_compat else [])]))


def groups(metrics: dict[str, Metric]) -> list[str]:
    """Return the names of the groups, `default` first."""
    return list(dict.fromkeys([DEFAULT, *(metric.group for metric in metrics.values())]))


def chosen(metrics: dict[str, Metric], requested: Sequence[str]) -> dict[str, Metric]:
    """Return the default metrics and those of the requested groups; :class:`InputError` for an unknown group."""
    known = groups(metrics)
    for name in requested:
        if name not in known:
            raise InputError(f"unknown group of metrics '{name}'", where="--metrics", hint=closest(name, known))
    return {name: metric for name, metric in metrics.items() if metric.group in (DEFAULT, *requested)}


def headline(metrics: dict[str, Metric]) -> dict[str, Metric]:
    """Return the headline metrics on their headline gene sets, with the terms they are computed from."""
    found = {name: replace(metric, gene_sets=metric.headline) for name, metric in metrics.items() if metric.headline}
    terms = {term for metric in found.values() for term in (metric.numerator, metric.denominator, metric.jackknife)}
    return {name: found.get(name, metric) for name, metric in metrics.items() if name in found or name in terms}


def primary(assets: Path = catalogue.ASSETS) -> dict[str, Metric]:
    """Return the primary metric on the gene set of its comparisons: what validation perturbations choose by, too."""
    name = catalogue.load("metrics", assets)["groups"]["primary"][0]
    metric = load(assets)[name]
    return {name: replace(metric, gene_sets=metric.headline[:1])}


def expand(
    gene_set: str, fixed: Sequence[str], pathways: bool, doubles: bool = False, phenotypes: Sequence[str] = ()
) -> list[str]:
    """Return the gene sets that a name of the catalogue stands for.

    `fixed` are names like ``fixed_hallmark_p53``, `pathways` tells whether there are sets at all, `doubles` whether
    there are doubles; `phenotypes` are the items of `--known_function` that give classes.
    """
    if gene_set == PHENOTYPE:
        return [f"{PHENOTYPE}@{item}" for item in phenotypes]
    if (gene_set == PATHWAYS and not pathways) or (gene_set == DOUBLES and not doubles):
        return []
    return [f"{name}_nt" for name in fixed] if gene_set == FIXED else [gene_set]


def reported(metrics: dict[str, Metric]) -> list[tuple[Metric, str]]:
    """Return the (metric, gene set) pairs of the leaderboard, in catalogue order; terms are left out."""
    return [(metric, s) for metric in metrics.values() if metric.level != "term" for s in metric.gene_sets]

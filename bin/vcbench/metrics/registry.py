"""The metric catalogue `assets/metrics.yml` as typed objects."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vcbench.core import catalogue
from vcbench.core.errors import InputError

#: Gene sets that do not show in a column name: the metric exists in one form only.
_UNNAMED_SETS = ("eligible", "listed")


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
    undefined: tuple[str, ...]
    compat: bool
    compat_of: str

    def column(self, gene_set: str) -> str:
        """Return the name of a wide column, e.g. ``dpearson_pm__expr_nt`` or ``gw_nmse``."""
        return self.id if self.compat or gene_set in _UNNAMED_SETS else f"{self.id}__{gene_set}"


@cache
def load(assets: Path = catalogue.ASSETS) -> dict[str, Metric]:
    """Return the metrics by id, in catalogue order; raises :class:`InputError` for an incomplete entry."""
    metrics = {}
    for name, entry in catalogue.load("metrics", assets)["entries"].items():
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
                undefined=tuple(entry["undefined"]),
                compat=entry.get("compat", False),
                compat_of=entry.get("compat_of", ""),
            )
        except (KeyError, ValueError) as error:
            raise InputError("incomplete metric", where=f"metrics.yml, {name}", found=error) from error
    return metrics


def reported(metrics: dict[str, Metric], compat: bool) -> list[tuple[Metric, str]]:
    """Return the (metric, gene set) pairs of the leaderboard, in catalogue order; terms are left out."""
    return [(m, s) for m in metrics.values() if m.level != "term" and (compat or not m.compat) for s in m.gene_sets]

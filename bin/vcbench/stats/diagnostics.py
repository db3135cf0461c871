"""diagnostics.tsv: properties of each measurement and of each configuration's predictions (metrics.md 7)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.metrics import contract, diagnostics
from vcbench.stats.agreement import kendall
from vcbench.stats.numbers import tidy

if TYPE_CHECKING:
    import pyarrow as pa

DIAGNOSTICS = (
    "dataset", "split", "model", "encoder", "strategy", "diagnostic", "reference", "value", "low", "high", "n",
    "n_seeds", "spread",
)  # fmt: skip

_KEYS = ("dataset", "split", "model", "encoder", "strategy", "seed", "metric", "gene_set")


def _select(table: pa.Table, columns: Iterable[str], condition: Any) -> list[dict[str, Any]]:
    return table.filter(condition).select(list(columns)).to_pylist()


def rows(
    table: pa.Table, catalogue: Mapping[str, Mapping[str, str]], primary: str,
    annotations: Mapping[str, Mapping[str, Mapping[str, str]]],
) -> list[dict[str, Any]]:  # fmt: skip
    """Return the diagnostics of a table of all scores, sorted.

    Parameters
    ----------
    catalogue
        The diagnostics of assets/metrics.yml, by id.
    primary
        Column name of the primary metric, on which the order of configurations with fewer cells is judged.
    annotations
        By dataset and perturbation the columns of perturbations.tsv.
    """
    import pyarrow.compute as pc

    wanted = pc.and_(pc.starts_with(table["metric"], diagnostics.PREFIX), pc.equal(table["perturbation"], ""))
    seeds: dict[tuple[str, ...], list[tuple[float, int]]] = defaultdict(list)
    for row in _select(table, (*_KEYS, "value", "n_perturbations"), wanted):
        # names of pathways may hold colons themselves: "protein modification process (GO:0006464)"
        part = next((name for name in ("low", "high") if row["gene_set"].endswith(f":{name}")), "value")
        reference = row["gene_set"].removesuffix(f":{part}") if part != "value" else row["gene_set"]
        key = (*(row[name] for name in _KEYS[:5]), row["metric"], reference, part)
        seeds[key].append((row["value"], row["n_perturbations"]))
    found: dict[tuple[str, ...], dict[str, Any]] = defaultdict(dict)
    for (*key, part), values in seeds.items():
        known = [value for value, _ in values if value is not None and not np.isnan(value)]
        entry = found[tuple(key)]
        entry[part] = float(np.mean(known)) if known else np.nan
        if part == "value":
            entry["n"], entry["n_seeds"] = min(n for _, n in values), len(values)
    result = [
        _row(key, entry, catalogue[key[5]]["spread"]) for key, entry in found.items() if key[5] in catalogue
    ]  # fmt: skip
    result += _synonymous(table, annotations)
    result += _order_with_fewer_cells(found, primary)
    return sorted(result, key=lambda row: tuple(row[name] for name in DIAGNOSTICS[:7]))


def _row(key: tuple[str, ...], entry: Mapping[str, Any], spread: str) -> dict[str, Any]:
    numbers = {name: tidy(entry.get(name, np.nan)) for name in ("value", "low", "high")}
    return {
        **dict(zip(DIAGNOSTICS[:7], key, strict=True)), **numbers, "n": entry["n"], "n_seeds": entry.get("n_seeds", 1),
        "spread": spread if "low" in entry else "none",
    }  # fmt: skip


def _synonymous(table: pa.Table, annotations: Mapping[str, Mapping[str, Mapping[str, str]]]) -> list[dict[str, Any]]:
    """Return the number of significant genes of synonymous variants: what the labels find where nothing changed."""
    import pyarrow.compute as pc

    condition = pc.and_(pc.equal(table["model"], contract.TRUTH), pc.equal(table["metric"], "de_nsig_true"))
    counts: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for row in _select(table, ("dataset", "split", "perturbation", "value"), condition):
        consequence = annotations.get(row["dataset"], {}).get(row["perturbation"], {}).get("consequence")
        if consequence == "synonymous" and row["value"] is not None:
            counts[row["dataset"], row["split"]][row["perturbation"]] = row["value"]
    result = []
    for (dataset, split), found in counts.items():
        value = diagnostics.spread("diag_synonymous", "ctrl", np.array(list(found.values()), dtype=np.float64))
        key = (dataset, split, contract.TRUTH, "none", "none", value.id, value.reference)
        entry = {"value": value.value, "low": value.low, "high": value.high, "n": value.n}
        result.append(_row(key, entry, "quartiles"))
    return result


def _order_with_fewer_cells(found: Mapping[tuple[str, ...], Mapping[str, Any]], primary: str) -> list[dict[str, Any]]:
    """Return Kendall's tau of the order of configurations on fewer cells with that on all cells."""
    values: dict[tuple[str, str], dict[str, dict[tuple[str, ...], float]]] = defaultdict(lambda: defaultdict(dict))
    for key, entry in found.items():
        column, _, fraction = key[6].partition("@")
        if key[5] == "diag_cells" and column == primary and not np.isnan(entry["value"]):
            values[key[:2]][fraction][key[2:5]] = entry["value"]
    result = []
    for panel, by_fraction in values.items():
        for fraction, some in by_fraction.items():
            common = sorted(set(some) & set(by_fraction.get("1", {})))
            if fraction == "1" or len(common) < 3:
                continue
            sides = [np.array([side[name] for name in common]) for side in (some, by_fraction["1"])]
            key = (*panel, contract.TRUTH, "none", "none", "diag_cells_tau", f"{primary}@{fraction}")
            result.append(_row(key, {"value": kendall(*sides), "n": len(common)}, "none"))
    return result

"""Reading values of level ``gene``: checked rows, and median and spread over genes for the leaderboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import InputError
from vcbench.metrics import contract, gene_values
from vcbench.stats.scores import Combination

if TYPE_CHECKING:
    import pyarrow as pa

#: Median and standard deviation over genes by (dataset, split), then by (metric, combination).
OverGenes = Mapping[tuple[str, str], Mapping[tuple[str, Combination], tuple[float, float]]]


def read(paths: Iterable[Path]) -> pa.Table:
    """Return all rows sorted by their keys; raises :class:`InputError` for doubled rows or another layout."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, tables = gene_values.schema(), []
    for path in sorted(paths):
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError("not a readable table of genes", where=str(path), found=error) from error
        if not table.schema.equals(schema, check_metadata=False):
            raise InputError("not a table of genes", where=str(path), found=", ".join(table.column_names[:4]),
                             expected=", ".join(schema.names[:4]) + ", ...",
                             hint="--genes takes the *.genes.parquet of vcb_score.py and vcb_truth.py")  # fmt: skip
        tables.append(table.replace_schema_metadata(None))
    if not tables:
        return schema.empty_table()
    table = pa.concat_tables(tables).unify_dictionaries()
    tables.clear()  # hundreds of megabytes with many configurations
    key = _key(table)
    order = np.argsort(key, kind="stable")
    table = _ordered(table, order)
    doubled = np.flatnonzero(np.diff(key[order]) == 0)
    if len(doubled):
        first = table.slice(int(doubled[0]), 1).to_pylist()[0]
        raise InputError("rows of genes given twice", where="--genes",
                         found=" ".join(str(first[name]) for name in gene_values.KEYS))  # fmt: skip
    return table


def _codes(table: pa.Table, name: str) -> tuple[np.ndarray, list[Any]]:
    """Return (rows,) rank of each value of a column in the order of its values, and these."""
    column = table.column(name).combine_chunks()
    if name not in gene_values.TEXTS:
        values, code = np.unique(column.to_numpy(zero_copy_only=False), return_inverse=True)
        return code.astype(np.int64), values.tolist()
    names = column.dictionary.to_pylist()
    rank = np.empty(len(names), dtype=np.int64)
    rank[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
    return rank[column.indices.to_numpy()], sorted(names)


def _ordered(table: pa.Table, order: np.ndarray) -> pa.Table:
    """Return the rows in this order, dictionaries sorted: the file does not depend on the order of its parts."""
    import pyarrow as pa

    columns = {}
    for name in gene_values.COLUMNS:
        if name in gene_values.TEXTS:
            code, names = _codes(table, name)
            indices = pa.array(code[order].astype(np.int32))
            columns[name] = pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))
        else:
            columns[name] = pa.array(table.column(name).to_numpy()[order])
    return pa.table(columns).cast(gene_values.schema())


def _key(table: pa.Table, names: tuple[str, ...] = gene_values.KEYS) -> np.ndarray:
    """Return (rows,) one whole number that orders rows as these columns do."""
    key = np.zeros(table.num_rows, dtype=np.int64)
    for name in names:
        code, values = _codes(table, name)
        key = key * len(values) + code
    return key


def over_genes(table: pa.Table) -> OverGenes:
    """Return median and standard deviation over genes of a table of :func:`read`, seeds averaged within gene.

    Genes without a value are left out; evaluator rows too. Seven significant digits, as the values have.
    """
    found: dict[tuple[str, str], dict[tuple[str, Combination], list[np.ndarray]]] = {}
    if not table.num_rows:
        return {}
    ends = np.flatnonzero(np.diff(_key(table, tuple(name for name in gene_values.KEYS if name != "gene")))) + 1
    values = table.column("value").to_numpy().astype(np.float64)
    for low, high in zip([0, *ends], [*ends, len(values)], strict=True):
        row = table.slice(int(low), 1).to_pylist()[0]
        if contract.is_evaluator(row["model"]):
            continue
        of = (row["model"], row["encoder"], row["strategy"])
        of_panel = found.setdefault((row["dataset"], row["split"]), {})
        of_panel.setdefault((row["metric"], of), []).append(values[low:high])
    return {
        panel: {key: _statistics(np.stack(seeds)) for key, seeds in of_panel.items()}
        for panel, of_panel in found.items()
    }


def _statistics(values: np.ndarray) -> tuple[float, float]:
    """Return median and standard deviation over genes of (seeds, genes) values, NaN where nothing is known."""
    known = ~np.isnan(values)
    some = known.any(axis=0)
    mean = np.where(known, values, 0.0).sum(axis=0)[some] / known.sum(axis=0)[some]
    middle = float(np.median(mean)) if len(mean) else np.nan
    spread = float(np.std(mean, ddof=1)) if len(mean) > 1 else np.nan
    return float(f"{middle:.7g}"), float(f"{spread:.7g}")

"""Reading score tables: checked rows, and per dataset and split one array over metrics, models and perturbations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vcbench.core.errors import InputError
from vcbench.core.tables import read_tsv
from vcbench.core.units import Unit
from vcbench.metrics import contract, diagnostics, scoring

if TYPE_CHECKING:
    import pyarrow as pa

#: (metric, gene set).
Pair = tuple[str, str]
#: A model with its encoder and strategy; seeds are replicates of it.
Combination = tuple[str, str, str]
#: (fold, perturbation) of each row of a panel.
Row = tuple[int, str]
#: Status of a value that no row holds.
NOT_SCORED = "not_scored"


def read_scores(paths: Iterable[Path], role: str = "") -> pa.Table:
    """Return all score rows sorted by their keys; raises :class:`InputError` for doubled rows or another layout.

    With a `role` every table must be about perturbations of that role: test and validation scores look alike.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for path in sorted(paths):
        try:
            table = pq.read_table(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise InputError("not a readable score table", where=str(path), found=error) from error
        if tuple(table.column_names) != scoring.COLUMNS:
            raise InputError("not a score table", where=str(path), found=", ".join(table.column_names[:4]),
                             expected=", ".join(scoring.COLUMNS[:4]) + ", ...")  # fmt: skip
        header = json.loads((table.schema.metadata or {}).get(b"vcbench", b"{}"))
        if role and header.get("role") != role:
            raise InputError(f"not scores of {role} perturbations", where=str(path),
                             found=header.get("role", "no role recorded"))  # fmt: skip
        tables.append(table.replace_schema_metadata(None))
    if not tables:
        return scoring.to_table([], {}).replace_schema_metadata(None)
    table = pa.concat_tables(tables)
    table = table.sort_by([(name, "ascending") for name in scoring.KEYS])
    keys = table.select(list(scoring.KEYS))
    counts = keys.group_by(list(scoring.KEYS)).aggregate([([], "count_all")])
    doubled = counts.filter(pa.compute.greater(counts["count_all"], 1))
    if doubled.num_rows:
        first = doubled.sort_by([(name, "ascending") for name in scoring.KEYS]).slice(0, 1).to_pylist()[0]
        raise InputError(
            "score rows given twice", where="--scores", found=" ".join(str(first[k]) for k in scoring.KEYS)
        )
    return table


def read_clusters(paths: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Return by dataset the cluster of each perturbation: gene and residue position, or the perturbed genes.

    A perturbation with several residues or genes is a cluster of its own: chaining clusters over shared parts would
    tie most of a combinatorial screen together.
    """
    found = {}
    for path in sorted(paths, key=lambda path: path.name):
        rows = read_tsv(path, ("perturbation", "gene", "pos"))
        found[path.name.split(".")[0]] = {row["perturbation"]: f"{row['gene']} {row['pos']}".strip() for row in rows}
    return found


def scored_units(table: pa.Table, plan: Sequence[Mapping[str, str]]) -> set[str]:
    """Return the units that have at least one score; raises :class:`InputError` for scores of units not planned."""
    keys = table.select(["dataset", "split", "fold", "model", "encoder", "strategy", "seed"])
    known = {row["unit"] for row in plan}
    found = set()
    for row in keys.group_by(keys.column_names).aggregate([]).to_pylist():
        curve = row["model"].startswith(f"{contract.TRAINED_ON}:")
        if row["fold"] == contract.ALL_FOLDS or (contract.is_evaluator(row["model"]) and not curve):
            continue
        unit = Unit.scored(**row).id
        if unit not in known:
            raise InputError("scores of a unit that is not in the plan", where="--scores", found=unit)
        found.add(unit)
    return found


@dataclass(frozen=True)
class Scores:
    """All scores of one dataset and split.

    P pairs of metric and gene set, C configurations (model, encoder, strategy, seed), K test perturbations: those the
    truth's no-skill rows name, sorted by fold and name. NaN and status -1 mark what no row holds.

    - `values` (P, C, K) float64, `status` (P, C, K) positions in `statuses`;
    - `over_folds` (P, C) the value over all folds, `n_genes` (P, C) its genes, `has_over_folds` (P, C);
    - `gene_counts` (P, 2) median and smallest number of genes behind a value of the no-skill rows, NaN without any;
    - `permuted` (P, C, permutations) values against shuffled labels, at the configuration they belong to.
    """

    pairs: dict[Pair, int]
    configurations: dict[tuple[str, str, str, int], int]
    rows: tuple[Row, ...]
    statuses: tuple[str, ...]
    values: np.ndarray
    status: np.ndarray
    over_folds: np.ndarray
    n_genes: np.ndarray
    has_over_folds: np.ndarray
    permuted: np.ndarray
    gene_counts: np.ndarray

    def at(self, combinations: Sequence[Combination], seeds: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Return (S, M) positions of the configurations, -1 where nothing was scored, and (S, M) whether planned.

        S is the largest number of seeds of a combination.
        """
        size = max((len(found) for found in seeds), default=0)
        where = np.full((size, len(combinations)), -1)
        planned = np.zeros((size, len(combinations)), dtype=bool)
        for m, (of, wanted) in enumerate(zip(combinations, seeds, strict=True)):
            for s, seed in enumerate(wanted):
                where[s, m] = self.configurations.get((*of, seed), -1)
                planned[s, m] = True
        return where, planned

    def of(self, metric: str, gene_set: str, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (..., K) values and positions of statuses of one pair at configurations `where` (...)."""
        pair = self.pairs.get((metric, gene_set))
        if pair is None or not len(self.configurations):
            shape = (*where.shape, len(self.rows))
            return np.full(shape, np.nan), np.full(shape, -1)
        found = where >= 0
        values = np.where(found[..., None], self.values[pair][where], np.nan)
        return values, np.where(found[..., None], self.status[pair][where], -1)


def no_scores() -> Scores:
    """Return the scores of a dataset and split without any."""
    shape = (0, 0, 0)
    return Scores({}, {}, (), (), np.zeros(shape), np.zeros(shape, dtype=int), np.zeros((0, 0)),
                  np.zeros((0, 0), dtype=int), np.zeros((0, 0), dtype=bool), np.zeros(shape),
                  np.zeros((0, 2)))  # fmt: skip


def by_panel(table: pa.Table) -> dict[tuple[str, str], Scores]:
    """Return the scores of each (dataset, split) of a table of :func:`read_scores`; diagnostics are no scores."""
    import pyarrow.compute as pc

    columns = _Columns(table.filter(pc.invert(pc.starts_with(table["metric"], diagnostics.PREFIX))))
    panel, names = columns.combined("dataset", "split")
    order = np.argsort(panel, kind="stable")
    ends = np.searchsorted(panel[order], np.arange(len(names) + 1))
    return {name: _scores(columns, order[ends[i] : ends[i + 1]]) for i, name in enumerate(names)}


class _Columns:
    """Columns of a score table as whole numbers with their names, strings never repeated."""

    def __init__(self, table: pa.Table) -> None:
        import pyarrow as pa

        self.numbers: dict[str, np.ndarray] = {}
        self.names: dict[str, list[str]] = {}
        for name in scoring.COLUMNS[:15]:
            column = table.column(name).combine_chunks()
            if pa.types.is_string(column.type):
                encoded = column.dictionary_encode()
                self.numbers[name] = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
                self.names[name] = encoded.dictionary.to_pylist()
            else:
                self.numbers[name] = column.to_numpy(zero_copy_only=False)

    def combined(self, *names: str, rows: np.ndarray | None = None) -> tuple[np.ndarray, list[tuple]]:
        """Return (rows,) which combination of these columns each row has, and the sorted combinations."""
        parts = [self.numbers[name] if rows is None else self.numbers[name][rows] for name in names]
        code = np.zeros(len(parts[0]), dtype=np.int64)
        for part in parts:
            part = part.astype(np.int64)
            low = int(part.min(initial=0))
            code = code * (int(part.max(initial=0)) - low + 1) + (part - low)
        _, first, number = np.unique(code, return_index=True, return_inverse=True)
        found = [
            tuple(
                self.names[name][part[i]] if name in self.names else int(part[i])
                for name, part in zip(names, parts, strict=True)
            )
            for i in first
        ]
        rank = sorted(range(len(found)), key=found.__getitem__)
        back = np.empty(len(found), dtype=np.int64)
        back[rank] = np.arange(len(found))
        return back[number.ravel()], [found[i] for i in rank]

    def marks(self, name: str, wanted: set[str], rows: np.ndarray) -> np.ndarray:
        """Return (rows,) whether a text column has one of these values."""
        return np.isin(self.numbers[name][rows], [i for i, text in enumerate(self.names[name]) if text in wanted])


def _scores(columns: _Columns, rows: np.ndarray) -> Scores:
    """Return the scores held by these rows of the table, all of one panel."""
    prefix = f"{contract.SHUFFLED_LABELS}:"
    shuffled_names = {name for name in columns.names["model"] if name.startswith(prefix)}
    pair, pairs = columns.combined("metric", "gene_set", rows=rows)
    configuration, named = columns.combined("model", "encoder", "strategy", "seed", rows=rows)
    label, labels = columns.combined("fold", "perturbation", rows=rows)
    value = columns.numbers["value"][rows].astype(np.float64)
    n_genes = columns.numbers["n_genes"][rows]
    status = columns.numbers["status"][rows]
    fold = columns.numbers["fold"][rows]
    whole = columns.marks("perturbation", {""}, rows)
    shuffled = columns.marks("model", shuffled_names, rows)
    # A null belongs to the configuration of its model, which may have no other row.
    owner = [(name[0].removeprefix(prefix), *name[1:]) for name in named]
    configurations = {name: i for i, name in enumerate(sorted(set(owner)))}
    configuration = np.array([configurations[name] for name in owner], dtype=np.int64)[configuration]

    single = ~whole & ~shuffled
    due = single & columns.marks("model", {contract.NO_SKILL}, rows)
    kept = [labels[i] for i in np.unique(label[due])]
    place = np.full(len(labels), -1)
    place[[labels.index(name) for name in kept]] = np.arange(len(kept))
    shape = (len(pairs), len(configurations))
    result = Scores(
        {name: i for i, name in enumerate(pairs)}, configurations, tuple(kept), tuple(columns.names["status"]),
        np.full((*shape, len(kept)), np.nan), np.full((*shape, len(kept)), -1), np.full(shape, np.nan),
        np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool),
        np.full((*shape, len(set(label[~whole & shuffled].tolist()))), np.nan),
        _gene_counts(pair, n_genes, columns.marks("model", {contract.NO_SKILL}, rows) & ~shuffled, len(pairs)),
    )  # fmt: skip
    use = np.flatnonzero(single & (place[label] >= 0))
    where = pair[use], configuration[use], place[label[use]]
    result.values[where], result.status[where] = value[use], status[use]
    use = np.flatnonzero(whole & ~shuffled & (fold == contract.ALL_FOLDS))
    where = pair[use], configuration[use]
    result.over_folds[where], result.n_genes[where], result.has_over_folds[where] = value[use], n_genes[use], True
    use = np.flatnonzero(~whole & shuffled)
    _, permutation = np.unique(label[use], return_inverse=True)
    result.permuted[pair[use], configuration[use], permutation.ravel()] = value[use]
    return result


def _gene_counts(pair: np.ndarray, n_genes: np.ndarray, use: np.ndarray, size: int) -> np.ndarray:
    """Return (P, 2) median and minimum of the numbers of genes in the rows `use`, by pair; rows of none left out."""
    use = use & (n_genes > 0)
    pair, n_genes = pair[use], n_genes[use]
    order = np.argsort(pair, kind="stable")
    ends = np.searchsorted(pair[order], np.arange(size + 1))
    found = [n_genes[order[ends[i] : ends[i + 1]]] for i in range(size)]
    return np.array([(np.median(one), one.min()) if len(one) else (np.nan, np.nan) for one in found]).reshape(-1, 2)

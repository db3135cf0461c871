"""Which cells of a screen enter the dataset."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from vcbench.core import h5ad
from vcbench.core.errors import InputError
from vcbench.data import sampling
from vcbench.data.conditions import Condition
from vcbench.data.request import Request
from vcbench.metrics import contract

log = logging.getLogger(__name__)


def choose(
    request: Request,
    found: Sequence[Condition],
    labels: np.ndarray,
    barcodes: np.ndarray,
    batches: np.ndarray,
    totals: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (rows, perturbation ids, control halves) of the cells kept, sorted by perturbation and barcode.

    Sets `n_cells` and, where there are too few, status and reason of each condition.
    """
    rank = sampling.ranks(barcodes)
    order = np.argsort(labels.astype(str), kind="stable")
    names, starts = np.unique(labels[order].astype(str), return_index=True)
    rows_of = {str(n): rows for n, rows in zip(names, np.split(order, starts[1:]), strict=True)}

    def rows_with(wanted: Sequence[str]) -> np.ndarray:
        rows = np.concatenate([rows_of[label] for label in wanted])
        return rows[totals[rows] > 0]  # a cell without counts cannot be scaled; counted in quality.tsv

    controls = rows_with(request.control_labels)
    controls = controls[np.argsort(rank[controls])]
    smallest = request.min_cells_per_perturbation
    _check_controls(request, len(controls))
    blocks = {h5ad.CONTROL: controls}
    few = []
    for condition in found:
        if not condition.usable:
            continue
        rows = rows_with(condition.labels)
        if len(rows) < max(1, smallest):
            condition.status = "skipped_too_few_cells"
            condition.reason = f"found {len(rows)} cells; expected at least {max(1, smallest)}"
            few.append(f"{condition.id} {len(rows)}")
            continue
        rows = rows[sampling.capped(
            rank[rows], request.max_cells_per_perturbation, request.seed, request.dataset, condition.id
        )]  # fmt: skip
        condition.n_cells = len(rows)
        blocks[condition.id] = rows
    if few:
        _report_few_cells(request, few, usable=len(blocks) - 1)
    if len(blocks) == 1:
        raise InputError("no usable perturbation", where=request.labels_at, found=_reasons(found))
    half_of = dict(
        zip(
            controls,
            sampling.control_halves(rank[controls], batches[controls], request.seed, request.dataset),
            strict=True,
        )
    )
    ordered = sorted(blocks)
    chosen = np.concatenate([blocks[name] for name in ordered])
    ids = np.concatenate([np.full(len(blocks[name]), name, dtype=object) for name in ordered])
    half = np.array([half_of.get(row, "") for row in chosen], dtype=object)
    half[ids != h5ad.CONTROL] = ""
    return chosen, ids, half


def _check_controls(request: Request, n: int) -> None:
    """Raise :class:`InputError` when a half of `n` control cells would be too few to train on or to score with."""
    smallest = request.min_cells_per_perturbation
    half = max(smallest, contract.MIN_CELLS_PROFILE)
    if n < 2 * half:
        of = "--min-cells-per-perturbation" if half == smallest else f"{half}, the fewest a metric accepts"
        raise InputError(
            "too few control cells", where=request.labels_at, found=f"{n} cells",
            expected=f"at least {2 * half}: two halves of {of}",
        )  # fmt: skip
    if n < 2 * contract.MIN_CELLS_DE:
        log.warning("%s: only %d control cells: changes against the control are mostly noise", request.labels_at, n)


def _report_few_cells(request: Request, few: Sequence[str], usable: int) -> None:
    problem = InputError(
        f"{len(few)} perturbation{'s' if len(few) > 1 else ''} with too few cells{'' if usable else ', none is left'}",
        where=request.labels_at,
        found=", ".join(few[:5]) + (f" and {len(few) - 5} more" if len(few) > 5 else ""),
        expected=f"at least {request.min_cells_per_perturbation} cells each",
        hint="left out" if request.on_few_cells == "skip" and usable else "lower --min_cells_per_perturbation",
    )  # fmt: skip
    if request.on_few_cells == "error" or not usable:
        raise problem
    log.warning("%s", problem)


def _reasons(found: Sequence[Condition]) -> str:
    statuses: dict[str, int] = {}
    for condition in found:
        statuses[condition.status] = statuses.get(condition.status, 0) + 1
    return ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))

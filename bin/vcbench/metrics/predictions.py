"""Reading predictions: mean profiles by perturbation on the gene axis of the truth, everything matched by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp

from vcbench.core import h5ad
from vcbench.core.errors import ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.metrics import profiles

if TYPE_CHECKING:
    import anndata as ad

    from vcbench.core.blocks import BlockReader


#: Layer with a model's own variance of a measured mean profile, noise included.
PREDICTIVE = "predictive_variance"


@dataclass(frozen=True)
class PredictedProfiles:
    """Profiles predicted for perturbations `ids`: `mean` (K, G), `n_cells` and, for cells, `variance` of the mean.

    `absent` are perturbations the model declared it cannot predict, with its reason. `cells` (cells, G) CSR and `owner`
    (cells,) positions in `ids` (-1: none) are there when they were to be kept. `predictive` (K, G) is the model's own
    variance of a measured profile, when it gives one.
    """

    ids: tuple[str, ...]
    mean: np.ndarray
    variance: np.ndarray | None
    n_cells: np.ndarray
    absent: dict[str, str] = field(default_factory=dict)
    cells: sp.csr_matrix | None = None
    owner: np.ndarray | None = None
    predictive: np.ndarray | None = None


def summarise(data: ad.AnnData, genes: np.ndarray, where: str, keep_cells: bool = False) -> PredictedProfiles:
    """Return the profiles of a prediction file on the axis `genes`, and with `keep_cells` its cells.

    Rows are grouped by their own label; control rows are left out (predictions carry none). Several rows of a
    perturbation are a finite sample of cells, a single row is a profile. Raises :class:`ModelError` when genes are
    missing or doubled, or a value is not finite.
    """
    if "perturbation" not in data.obs:
        raise ModelError(f"{where}: no column obs['perturbation']")
    found = {name: i for i, name in enumerate(data.var_names)}
    if len(found) < data.n_vars:
        raise ModelError(f"{where}: duplicate gene names")
    missing = [name for name in genes if name not in found]
    if missing:
        raise ModelError(f"{where}: {len(missing)} of {len(genes)} genes are missing, first {', '.join(missing[:3])}")
    values = data.X[:, [found[name] for name in genes]]
    values = sp.csr_matrix(values) if sp.issparse(values) else np.asarray(values)
    stored = values.data if sp.issparse(values) else values
    if not np.isfinite(stored).all():
        raise ModelError(f"{where}: predicted values that are not finite: {int((~np.isfinite(stored)).sum())}")
    labels = data.obs["perturbation"].astype(str).to_numpy()
    ids = tuple(sorted(set(labels.tolist()) - {CONTROL}))
    # Cells of equal label are summed in a fixed order, whatever the order of rows in the file.
    order = np.argsort(np.asarray(data.obs_names, dtype=str), kind="stable")
    values, owner = values[order], profiles.codes(labels[order], ids)
    moments = profiles.moments(values, owner, len(ids))
    several = bool((moments.n > 1).any())
    profiles_ = PredictedProfiles(
        ids, moments.mean, moments.variance_of_mean if several else None, moments.n.astype(int)
    )
    if not several and PREDICTIVE in data.layers:
        own = np.asarray(data.layers[PREDICTIVE][:, [found[name] for name in genes]], dtype=np.float64)[order]
        predictive = np.full(moments.mean.shape, np.nan)
        predictive[owner[owner >= 0]] = own[owner >= 0]
        if not (np.isfinite(predictive) & (predictive >= 0)).all():
            raise ModelError(f"{where}: variances in layer {PREDICTIVE} that are negative or not finite")
        profiles_ = replace(profiles_, predictive=predictive)
    return replace(profiles_, cells=sp.csr_matrix(values), owner=owner) if keep_cells and several else profiles_


def summarise_stored(
    reader: BlockReader, labels: np.ndarray, genes: np.ndarray, keep_cells: bool = False
) -> PredictedProfiles:
    """Return :func:`summarise` of a checked file of any size, read in blocks; `labels` (rows,) of its rows."""
    from vcbench.metrics.stored_cells import StoredCells, in_order_of_names

    ids = tuple(sorted(set(labels.tolist()) - {CONTROL}))
    cells = StoredCells((reader,), genes, in_order_of_names((reader,), ("",)))
    codes = np.empty(len(labels), dtype=np.int64)
    codes[cells.place[0]] = profiles.codes(labels, ids)
    several = bool((np.bincount(codes[codes >= 0]) > 1).any())
    (moments,) = profiles.collect(cells, [profiles.Wanted(codes, len(ids), squares=several)])
    found = PredictedProfiles(ids, moments.mean, moments.variance_of_mean if several else None, moments.n.astype(int))
    if keep_cells and several:
        return replace(found, cells=profiles.take(cells, np.arange(len(codes))), owner=codes)
    return found


def read(path: Path | str, genes: np.ndarray, keep_cells: bool = False) -> PredictedProfiles:
    """Return :func:`summarise` of a file of PREDICT, with the perturbations it declares absent."""
    data = h5ad.read(path)
    facts = h5ad.provenance(data) if "vcbench" in data.uns else {}
    return replace(summarise(data, genes, Path(path).name, keep_cells), absent=facts.get("absent", {}))

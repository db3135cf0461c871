"""The compiled rank-sum test of illico, without the package around it.

Importing illico costs 0.5 s and 90 MB (numba, statsmodels, polars) and its entry point copies cells and names; its
compiled module needs neither. The version is pinned, and tests compare the results with scipy's.
"""

from __future__ import annotations

from collections import namedtuple
from functools import cache
from importlib import machinery, util
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import ModelError

if TYPE_CHECKING:
    import scipy.sparse as sp

#: What the compiled function reads its arguments from.
_Matrix = namedtuple("_Matrix", "data indices indptr shape")
_Groups = namedtuple(
    "_Groups", "n_selected_groups encoded_groups counts indices included_cell_indices indptr encoded_ref_group"
)
#: Tests that are made at once; each call looks at all cells, so many calls are slow, and few need memory.
TESTS_PER_CALL = 500_000


@cache
def _compiled() -> ModuleType:
    """Return illico's compiled module; :class:`ModelError` when it is not where the pinned version has it."""
    package = util.find_spec("illico")
    for folder in (package and package.submodule_search_locations) or ():
        for suffix in machinery.EXTENSION_SUFFIXES:
            path = Path(folder) / f"rust_backend{suffix}"
            if path.exists():
                spec: Any = util.spec_from_file_location("illico.rust_backend", path)
                module = util.module_from_spec(spec)
                spec.loader.exec_module(module)
                return module
    raise ModelError("the compiled rank-sum test of illico is missing: install the pinned version")


def test(matrix: sp.csr_matrix, groups: np.ndarray, n_groups: int, continuity: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return z and two-sided p, both (n_groups, genes), of each group 0.. against group -1; tie-corrected.

    Parameters
    ----------
    matrix
        (cells, genes) with sorted indices, fewer than 2^31 stored values.
    groups
        (cells,) codes; every one of ``range(n_groups)`` and -1 occurs, cells with others are left out.
    """
    at = np.flatnonzero(groups >= -1)
    number = np.where(groups[at] < 0, n_groups, groups[at])
    counts = np.bincount(number, minlength=n_groups + 1)
    encoded = np.zeros(len(groups), dtype=np.uint64)
    encoded[at] = number
    members = _Groups(
        np.uint64(n_groups + 1), encoded, counts.astype(np.uint64),
        at[np.argsort(number, kind="stable")].astype(np.uint64), np.arange(len(groups), dtype=np.uint64),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64), n_groups,
    )  # fmt: skip
    values = _Matrix(matrix.data, matrix.indices.astype(np.int32, copy=False),
                     matrix.indptr.astype(np.int32, copy=False), matrix.shape)  # fmt: skip
    n_genes = matrix.shape[1]
    step = max(256, TESTS_PER_CALL // (n_groups + 1))
    z, p = np.empty((2, n_groups, n_genes))
    for first in range(0, n_genes, step):
        part = slice(first, min(first + step, n_genes))
        # is_log1p, continuity, tie correction, exp_post_agg: first and last only matter for a fold change we do not use
        found = _compiled().csr_ovo_mwu_kernel_over_contiguous_col_chunk_rust(
            values, part.start, part.stop, members, False, continuity, True, False, "two-sided"
        )
        p[:, part], z[:, part] = found[0][:n_groups], found[2][:n_groups]
    if not (np.isfinite(z).all() and np.isfinite(p).all()):
        raise ModelError("the rank-sum engine returned values that are not finite")
    return z, p


test.__test__ = False  # not a test, whatever pytest makes of its name

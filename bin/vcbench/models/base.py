"""What every model implements, and what it is given. Adding a model starts here: see docs/adding_a_model.md."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vcbench.core.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp


@dataclass(frozen=True)
class Perturbation:
    """One perturbation, as far as it is known before any cell is measured.

    `genes` are the perturbed genes (one for a variant, two for a double), `positions` the 1-based mutated residues
    (empty for gene perturbations).
    """

    id: str
    genes: tuple[str, ...]
    positions: tuple[int, ...] = ()


@dataclass(frozen=True)
class Vectors:
    """Encoder output: one vector per perturbation, looked up by id.

    `matrix` is (perturbations, D) float32. :meth:`of` raises :class:`ModelError` for an id without a vector:
    nothing is ever replaced by zeros.
    """

    ids: tuple[str, ...]
    matrix: np.ndarray
    encoder: str
    strategy: str
    _row: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_row", {name: row for row, name in enumerate(self.ids)})

    @property
    def width(self) -> int:
        """Number of dimensions D."""
        return int(self.matrix.shape[1])

    def of(self, ids: list[str] | tuple[str, ...]) -> np.ndarray:
        """Return the (len(ids), D) float32 vectors of these perturbations, in this order."""
        missing = [name for name in ids if name not in self._row]
        if missing:
            raise ModelError(f"encoder {self.encoder}.{self.strategy} has no vector for {', '.join(missing[:5])}")
        return self.matrix[[self._row[name] for name in ids]]


@dataclass(frozen=True)
class TrainingData:
    """All a model may see of one fold: training and validation perturbations and the training half of the controls.

    Attributes
    ----------
    expression
        (cells, genes) CSR float32, log1p of scaled counts, of the training, validation and control cells.
    labels
        (cells,) object array of perturbation ids; control cells are ``"control"``.
    batches
        (cells,) object array of batch labels.
    genes
        Gene symbols, the columns of `expression`.
    train, valid
        Perturbations of the two roles; never a test perturbation.
    vectors
        Encoder vectors of all perturbations and of ``"control"`` (None for models that ignore the encoder).
    counts
        (cells, genes) CSR raw counts, rows as `expression`.
    """

    expression: sp.csr_matrix
    labels: np.ndarray
    batches: np.ndarray
    genes: tuple[str, ...]
    train: tuple[Perturbation, ...]
    valid: tuple[Perturbation, ...]
    vectors: Vectors | None
    counts: sp.csr_matrix


@dataclass(frozen=True)
class PredictionRequest:
    """What to predict: held-out perturbations, how many cells of each, and control cells to start from.

    `controls` is (cells, genes) CSR float32 log1p of the training half of the controls.
    """

    perturbations: tuple[Perturbation, ...]
    n_cells: tuple[int, ...]
    controls: sp.csr_matrix
    genes: tuple[str, ...]
    vectors: Vectors | None


@dataclass(frozen=True)
class Prediction:
    """Predicted expression, log1p on the scale of the training data, float32.

    `values` is (rows, genes) and `labels` (rows,) names each row's perturbation: one row per perturbation when
    `kind` is ``"profile"``, one per predicted cell when it is ``"cells"``.
    """

    values: np.ndarray
    labels: np.ndarray
    kind: str


@runtime_checkable
class Model(Protocol):
    """A virtual cell model. One instance is one fitted unit.

    A module `vcbench/models/<name>.py` exposes its class as ``MODEL``; the class is built as
    ``MODEL(settings)`` with the settings declared for it in `assets/models.yml`.
    """

    settings: dict[str, Any]

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Train; return the training log, one dict per row (written as `log.tsv`), same keys in each."""

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Predict the requested perturbations."""

    def save(self, folder: Path) -> None:
        """Write `weights.safetensors` and `config.json` into an existing empty folder."""

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Return the model that :meth:`save` wrote; loads no code, fails on missing or unexpected tensors."""

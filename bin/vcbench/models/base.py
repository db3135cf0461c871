"""What every model implements, and what it is given. Adding a model starts here: see docs/adding_a_model.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vcbench.core.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import scipy.sparse as sp

    from vcbench.models.profiles import Profiles

#: Kinds of prediction: one mean profile per perturbation, or single cells.
PROFILE = "profile"
CELLS = "cells"


@dataclass(frozen=True)
class Perturbation:
    """One perturbation, as far as it is known before any cell is measured.

    `genes` are the perturbed genes (one for a variant, two for a double), `positions` the 1-based mutated residues
    (empty for gene perturbations). `annotations` are the columns of the user's annotations table (severity, domain,
    AlphaMissense class ...), empty where the table says nothing.
    """

    id: str
    genes: tuple[str, ...]
    positions: tuple[int, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def sites(self) -> frozenset[tuple[str, int]]:
        """Mutated residues as (gene, position); a variant of several residues lists them under its one gene."""
        if len(self.genes) == len(self.positions):
            return frozenset(zip(self.genes, self.positions, strict=True))
        return frozenset((gene, position) for gene in self.genes for position in self.positions)


@dataclass(frozen=True)
class Vectors:
    """Encoder output: one vector per perturbation, looked up by id.

    `matrix` is (perturbations, D) float32. :meth:`of` raises :class:`ModelError` for an id without a vector:
    nothing is ever replaced by zeros. `control` (D,) is the vector of unperturbed cells: zero unless the encoder or
    the scaling of the vectors gives another one, so a model must not assume it. `absent` is {id: reason} of the
    perturbations that have none because the encoder says so; models never see these.
    """

    ids: tuple[str, ...]
    matrix: np.ndarray
    encoder: str
    strategy: str
    control: np.ndarray | None = None
    absent: Mapping[str, str] = field(default_factory=dict, repr=False)
    _row: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import numpy as np

        object.__setattr__(self, "_row", {name: row for row, name in enumerate(self.ids)})
        if self.control is None:
            object.__setattr__(self, "control", np.zeros(self.width, np.float32))

    def __contains__(self, perturbation: str) -> bool:
        return perturbation in self._row

    @property
    def width(self) -> int:
        """Number of dimensions D."""
        return int(self.matrix.shape[1])

    def of(self, ids: list[str] | tuple[str, ...]) -> np.ndarray:
        """Return the (len(ids), D) float32 vectors of these perturbations, in this order."""
        missing = [name for name in ids if name not in self._row]
        if missing:
            shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise ModelError(f"encoder {self.encoder}.{self.strategy} has no vector for {shown}")
        return self.matrix[[self._row[name] for name in ids]]


@dataclass(frozen=True)
class TrainingData:
    """All a model may see of one fold: training and validation perturbations and the training half of the controls.

    Attributes
    ----------
    expression
        (cells, genes) CSR float32, log1p of scaled counts, of the training, validation and control cells,
        rows sorted by cell barcode.
    labels
        (cells,) object array of perturbation ids; control cells are ``"control"``.
    batches
        (cells,) object array of batch labels.
    genes
        Gene symbols, the columns of `expression`.
    train, valid
        Perturbations of the two roles, sorted by id; never a test perturbation.
    vectors
        Encoder vectors of the training and validation perturbations (None for models that ignore the encoder).
    counts
        (cells, genes) CSR raw counts, rows as `expression`.
    cache
        Results that depend on dataset, split and fold only; shared by the units of a task (`dataclasses.replace`
        hands the same object on). Never put anything here that depends on the vectors or on settings.
    """

    expression: sp.csr_matrix
    labels: np.ndarray
    batches: np.ndarray
    genes: tuple[str, ...]
    train: tuple[Perturbation, ...]
    valid: tuple[Perturbation, ...]
    vectors: Vectors | None
    counts: sp.csr_matrix
    cache: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def profiles(self) -> Profiles:
        """Mean profiles of the labels, computed once for all units of a task."""
        if "profiles" not in self.cache:
            from vcbench.models.profiles import Profiles

            self.cache["profiles"] = Profiles(self.expression, self.labels)
        return self.cache["profiles"]

    @property
    def train_ids(self) -> list[str]:
        """Ids of the training perturbations."""
        return [perturbation.id for perturbation in self.train]

    @property
    def valid_ids(self) -> list[str]:
        """Ids of the validation perturbations."""
        return [perturbation.id for perturbation in self.valid]

    def encoded(self) -> Vectors:
        """Return the vectors; raises :class:`ModelError` when the unit came without an encoder."""
        return _encoded(self.vectors)


@dataclass(frozen=True)
class PredictionRequest:
    """What to predict: held-out perturbations, how many cells of each, and control cells to start from.

    `controls` is (cells, genes) CSR float32 log1p of the training half of the controls, sorted by barcode;
    `vectors` holds the requested perturbations. Models that predict profiles ignore `n_cells`.
    """

    perturbations: tuple[Perturbation, ...]
    n_cells: tuple[int, ...]
    controls: sp.csr_matrix
    genes: tuple[str, ...]
    vectors: Vectors | None

    @property
    def ids(self) -> list[str]:
        """Ids of the requested perturbations."""
        return [perturbation.id for perturbation in self.perturbations]

    def encoded(self) -> Vectors:
        """Return the vectors; raises :class:`ModelError` when the unit came without an encoder."""
        return _encoded(self.vectors)


def _encoded(vectors: Vectors | None) -> Vectors:
    if vectors is None:
        raise ModelError("this model needs encoder vectors and the unit names no encoder")
    return vectors


@dataclass(frozen=True)
class Prediction:
    """Predicted expression, log1p on the scale of the training data, float32.

    `values` is (rows, genes) and `labels` (rows,) names each row's perturbation: one row per perturbation when
    `kind` is ``"profile"``, one per predicted cell when it is ``"cells"``. `basis` (rows,) optionally says what a
    row rests on when a rule has several cases (written to `obs["basis"]`). `variance` (rows, genes) optionally is the
    model's own variance of a measured mean profile (written as layer `predictive_variance`).

    `absent` names perturbations the model says it cannot predict, with one line why ({id: reason}); they have no row
    and are scored as `missing_pred`. A perturbation that is simply not there is an error.
    """

    values: np.ndarray
    labels: np.ndarray
    kind: str
    basis: np.ndarray | None = None
    variance: np.ndarray | None = None
    absent: Mapping[str, str] = field(default_factory=dict)


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

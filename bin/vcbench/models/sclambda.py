"""scLAMBDA (Wang et al. 2024): a disentangled variational autoencoder on perturbation vectors.

Independent implementation of models_supervised.md section 5 with the decisions of its section 8.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vcbench.core.errors import ModelError
from vcbench.core.h5ad import CONTROL
from vcbench.core.seeds import derive, stream
from vcbench.models import storage
from vcbench.models.base import CELLS, Prediction, PredictionRequest, TrainingData, Vectors

if TYPE_CHECKING:
    from vcbench.models.sclambda_networks import Net

log = logging.getLogger(__name__)

#: Switch of `bench_compat`: a perturbation without a vector is silently a control, as in VariantCellBench.
MISSING_AS_CONTROL = "sclambda.missing_as_control"
#: Name of the control mean among the stored tensors, beside the network's.
CENTRE = "mu0"


class SCLambda:
    """One fitted scLAMBDA.

    Cells are centred at `mu0`, the mean of the training half of the controls; control cells are training rows with
    the control's vector (zero, unless vectors are scaled). Predicted cells are decoded control cells plus `mu0`; they
    are not clipped, so small negative values occur where genes are near zero.
    """

    name = "sclambda"

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.facts: dict[str, Any] = {}
        self._net: Net | None = None
        self._centre: np.ndarray | None = None

    def fit(self, data: TrainingData, seed: int, device: str) -> list[dict[str, object]]:
        """Train on training and control cells, select on the validation perturbations; see `sclambda_training`."""

        from vcbench.models import sclambda_training as training

        vectors, profiles = data.encoded(), data.profiles
        if not data.train:
            raise ModelError("no training perturbation")
        centre = profiles.control
        # row order: as the cells come (sorted by barcode); kind 0 is the control
        kinds = [CONTROL, *data.train_ids]
        code = {label: number for number, label in enumerate(kinds)}
        rows = np.flatnonzero([label in code for label in data.labels])
        kind = np.array([code[label] for label in data.labels[rows]], dtype=np.int64)
        lookup, replaced = self._vectors(vectors, [*data.train_ids, *data.valid_ids])
        table = np.vstack([vectors.control, lookup[: len(data.train)]])
        self._centre = centre.astype(np.float32)
        task = training.Task(
            cells=training.CentredCells(data.expression[rows], self._centre, device),
            kind=kind,
            controls=np.flatnonzero(kind == 0),
            vectors=training.aligned(table, device),
            valid_vectors=training.aligned(lookup[len(data.train) :], device),
            valid_deltas=profiles.of(data.valid_ids) - centre,
        )
        sizes = {name: self.settings[name] for name in ("hidden", "latent")}
        self._net = training.new_net(len(data.genes), vectors.width, **sizes, seed=seed).to(device)
        rows_of_log, epoch, score = training.train(self._net, task, self.settings, seed)
        self._net.cpu()
        self.facts = {
            "genes": list(data.genes),
            "width": vectors.width,
            "encoder": vectors.encoder,
            "strategy": vectors.strategy,
            "bench_compat": sorted(self.settings["bench_compat"]),
            "treated_as_control": replaced,
            "kept_epoch": epoch,
            "kept_validation_pearson": None if np.isnan(score) else score,
        }
        return rows_of_log

    def predict(self, request: PredictionRequest, seed: int, device: str) -> Prediction:
        """Decode `n_cells` control cells per perturbation.

        The controls are a seeded draw without replacement (all of them again when more cells than controls are
        asked for). Results depend on seed and perturbation only, not on what else is requested.
        """
        import torch

        from vcbench.models.sclambda_networks import sample
        from vcbench.models.sclambda_training import CentredCells, aligned

        storage.check_genes(self.facts["genes"], request.genes)
        vectors = request.encoded()
        if vectors.width != self.facts["width"]:
            raise ModelError(f"vectors have {vectors.width} dimensions, trained on {self.facts['width']}")
        lookup, _ = self._vectors(vectors, request.ids)
        net = self._net.to(device)
        centre = aligned(self._centre, device)
        n_controls = request.controls.shape[0]
        bounds = np.concatenate([[0], np.cumsum(request.n_cells)])
        values = np.empty((bounds[-1], len(request.genes)), np.float32)
        with torch.no_grad():
            cells = CentredCells(request.controls, self._centre, device)
            parts = [net.Encoder_x(x) for _, x in cells.batches(np.arange(n_controls), 512)]
            mean, log_variance = (torch.cat(part) for part in zip(*parts, strict=True))
            table = [aligned(row[None], device) for row in lookup]
            for number, perturbation in enumerate(request.ids):
                n = request.n_cells[number]
                order = stream(seed, "sclambda control cells", perturbation).permutation(n_controls)
                rows = torch.from_numpy(np.resize(order, n)).to(device)
                z = mean[rows]
                if self.settings["z_at_predict"] == "sample":
                    generator = torch.Generator().manual_seed(derive(seed, "sclambda cell noise", perturbation))
                    noise = torch.randn(z.shape, generator=generator).to(device)
                    z = sample(z, log_variance[rows], noise)
                # one vector at a time: in a batch, its rounding would depend on its neighbours
                decoded = net.Decoder_x(z + net.Encoder_p(table[number])) + centre
                values[bounds[number] : bounds[number + 1]] = decoded.cpu().numpy()
        return Prediction(values, np.repeat(np.array(request.ids, dtype=object), request.n_cells), CELLS)

    def save(self, folder: Path) -> None:
        """Write the networks (state-dict keys of upstream's `Net`) and `mu0`."""
        tensors = {name: tensor.numpy() for name, tensor in self._net.state_dict().items()}
        storage.save(folder, self.name, self.settings, self.facts, {**tensors, CENTRE: self._centre})

    @classmethod
    def load(cls, folder: Path) -> SCLambda:
        """Return the fitted model; raises :class:`ModelError` for missing, unexpected or misshapen tensors."""
        import torch

        from vcbench.models.sclambda_networks import Net

        config, tensors = storage.load(folder, cls.name)
        model = cls(config.pop("settings"))
        model.facts = {key: value for key, value in config.items() if key not in ("model", "tensors")}
        genes = len(model.facts["genes"])
        net = Net(genes, model.facts["width"], model.settings["hidden"], model.settings["latent"])
        expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
        storage.check_tensors(str(folder), {**expected, CENTRE: (genes,)}, tensors)
        model._centre = tensors.pop(CENTRE)
        net.load_state_dict({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, strict=True)
        model._net = net
        return model

    def _vectors(self, vectors: Vectors, ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
        """Return the (ids, D) vectors and the ids that got the control's vector (only under the switch)."""
        switches = self.settings["bench_compat"]
        if MISSING_AS_CONTROL not in switches and "all" not in switches:
            return vectors.of(list(ids)), []
        replaced = [name for name in ids if name not in vectors]
        if replaced:
            log.warning("%s: %s get the control's vector", MISSING_AS_CONTROL, ", ".join(replaced))
        result = np.tile(vectors.control, (len(ids), 1))
        known = [row for row, name in enumerate(ids) if name in vectors]
        result[known] = vectors.of([ids[row] for row in known])
        return result, replaced


MODEL = SCLambda

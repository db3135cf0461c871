"""The training loop of scLAMBDA (models_supervised.md 5.3 and 5.4)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from vcbench.core.errors import ModelError
from vcbench.core.seeds import derive, stream
from vcbench.models.flat_adam import FlatAdam
from vcbench.models.sclambda_networks import (
    Net,
    adversarial,
    kl_divergence,
    mutual_information,
    sample,
    squared_error,
)

if TYPE_CHECKING:
    import scipy.sparse as sp

log = logging.getLogger(__name__)

#: A dense copy of all cells is kept below this size; above it, cells are densified block by block.
DENSE_LIMIT = 1 << 30
BLOCK = 4096
#: Learning rate schedule of both optimisers.
STEP_EPOCHS, STEP_FACTOR = 30, 0.2
LOSSES = ("expression_loss", "vector_loss", "kl_divergence", "mutual_information")


def aligned(array: np.ndarray, device: str | torch.device) -> Tensor:
    """Return a copy in torch's own memory, aligned to 64 bytes.

    Rounding of a matrix product depends on the alignment of its operands, and numpy's varies from run to run.
    """
    return torch.from_numpy(array).clone().to(device)


class CentredCells:
    """Cells minus the control mean, dense float32, in any order, without ever holding more than `limit` bytes dense.

    `expression` (cells, genes) CSR float32; `centre` (genes,) float32.
    """

    def __init__(self, expression: sp.csr_matrix, centre: np.ndarray, device: str, limit: int = DENSE_LIMIT) -> None:
        self._expression, self._centre, self._device = expression, centre, device
        fits = expression.shape[0] * expression.shape[1] * 4 <= limit
        self._dense = self._densify(np.arange(expression.shape[0])) if fits else None

    def _densify(self, rows: np.ndarray) -> Tensor:
        dense = self._expression[rows].toarray()
        dense -= self._centre
        return aligned(dense, self._device)

    def batches(self, order: np.ndarray, size: int) -> Iterator[tuple[slice, Tensor]]:
        """Yield (slice of `order`, (cells, genes) tensor) for consecutive batches; the last one may be smaller."""
        step = max(BLOCK // size, 1) * size
        for start in range(0, len(order), step):
            block = order[start : start + step]
            cells = None if self._dense is not None else self._densify(block)
            rows = torch.from_numpy(block).to(self._device)
            for low in range(0, len(block), size):
                part = slice(low, min(low + size, len(block)))
                values = self._dense.index_select(0, rows[part]) if self._dense is not None else cells[part].clone()
                yield slice(start + part.start, start + part.stop), values


@dataclass(frozen=True)
class Task:
    """What the loop trains on and selects by.

    `cells` holds training and control cells, `controls` the row numbers of the latter, `kind` (cells,) the row of
    `vectors` (kinds, D) that belongs to each cell; `valid_vectors` (K, D) and `valid_deltas` (K, genes) float64.
    """

    cells: CentredCells
    kind: np.ndarray
    controls: np.ndarray
    vectors: Tensor
    valid_vectors: Tensor
    valid_deltas: np.ndarray


def new_net(genes: int, width: int, hidden: int, latent: int, seed: int) -> Net:
    """Return freshly initialised networks; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "sclambda initial weights"))
        return Net(genes, width, hidden, latent)


def losses_of_step(
    net: Net, x: Tensor, p: Tensor, p_marginal: Tensor, noise: tuple[Tensor, Tensor], epsilon: float, mine_step: Any
) -> tuple[Tensor, ...]:
    """Return the four terms of the main loss of one batch, after MINE's own update by ``mine_step(negative MI)``.

    `noise` are two (B, L) normal draws: of the adversarial and of the main forward pass. Encoder_x sees the same x and
    weights in both, so it runs once.
    """
    mean, log_variance = net.Encoder_x(x)
    p_adversarial = adversarial(net, x, sample(mean, log_variance, noise[0]), p, epsilon)
    s = net.Encoder_p(p_adversarial)
    with torch.no_grad():
        s_marginal = net.Encoder_p(p_marginal)
    # detached: MINE's update changes MINE only (upstream lets gradients flow on and zeroes them before use)
    mine_step(-mutual_information(net.MINE, mean.detach(), s.detach(), s_marginal))
    x_hat = net.Decoder_x(sample(mean, log_variance, noise[1]) + s)
    return (
        squared_error(x_hat, x),
        squared_error(net.Decoder_p(s), p),
        kl_divergence(mean, log_variance),
        mutual_information(net.MINE, mean, s.detach(), s_marginal),
    )


def train(net: Net, task: Task, settings: dict[str, Any], seed: int) -> tuple[list[dict[str, object]], int, float]:
    """Train in place and leave the best validated weights in `net`.

    Returns the log (one row per epoch), the epoch kept and its validation correlation (NaN without validation
    perturbations: the last epoch is kept).
    """
    device = task.vectors.device
    rate = settings["learning_rate"]
    main = FlatAdam(net.main_parameters(), rate)
    mine = FlatAdam(list(net.MINE.parameters()), rate, settings["mine_weight_decay"])

    def mine_step(loss: Tensor) -> None:
        mine.zero()
        loss.backward()
        mine.step()

    n, size, latent = len(task.kind), settings["batch_size"], settings["latent"]
    rows: list[dict[str, object]] = []
    best, best_epoch, best_weights = -np.inf, 0, None
    for epoch in range(1, settings["epochs"] + 1):
        rng = stream(seed, "sclambda order", epoch)
        order = rng.permutation(n)
        kind = torch.from_numpy(task.kind[order]).to(device)
        marginal = torch.from_numpy(task.kind[rng.integers(n, size=n)]).to(device)
        generator = torch.Generator().manual_seed(derive(seed, "sclambda noise", epoch))
        noise = torch.randn((2, n, latent), generator=generator).to(device)
        totals = torch.zeros(len(LOSSES), dtype=torch.float64, device=device)
        for part, x in task.cells.batches(order, size):
            terms = losses_of_step(
                net,
                x,
                task.vectors.index_select(0, kind[part]),
                task.vectors.index_select(0, marginal[part]),
                (noise[0, part], noise[1, part]),
                settings["adversarial_epsilon"],
                mine_step,
            )
            main.zero()
            (terms[0] + terms[1] + terms[2] + settings["lambda_mi"] * terms[3]).backward()
            if settings["gradient_clip"]:
                # over all parameters: MINE's gradients of its own step and of this loss count, as in the benchmark
                clip(main.gradient, mine.gradient, settings["gradient_clip"])
            main.step()
            totals += torch.stack(terms).detach() * len(x)
        if epoch % STEP_EPOCHS == 0:
            main.rate, mine.rate = main.rate * STEP_FACTOR, mine.rate * STEP_FACTOR
        means = (totals / n).tolist()
        if not np.isfinite(means).all():
            raise ModelError(f"sclambda diverged in epoch {epoch}: {dict(zip(LOSSES, means, strict=True))}")
        score = float("nan")
        if epoch % settings["validate_every"] == 0 or epoch == settings["epochs"]:
            score = validate(net, task, seed, epoch)
            log.info("epoch %d: expression loss %.4g, validation correlation %.4f", epoch, means[0], score)
            if score > best:
                best, best_epoch = score, epoch
                best_weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        rows.append({"epoch": epoch, **dict(zip(LOSSES, means, strict=True)), "validation_pearson": score})
    net.load_state_dict(best_weights or net.state_dict())
    for parameter in net.parameters():  # storage of its own, as after loading from a file
        parameter.data, parameter.grad = parameter.data.clone(), None
    return rows, best_epoch or settings["epochs"], best if best_epoch else float("nan")


def clip(gradient: Tensor, mine_gradient: Tensor, largest: float) -> None:
    """Scale `gradient` so that the norm of both gradients together is at most `largest`.

    MINE's gradient is not scaled: it counts in the norm but is zeroed before it is used.
    """
    norm = torch.hypot(torch.linalg.vector_norm(gradient), torch.linalg.vector_norm(mine_gradient))
    gradient.mul_((largest / (norm + 1e-6)).clamp(max=1.0))


@torch.no_grad()
def validate(net: Net, task: Task, seed: int, epoch: int) -> float:
    """Return the mean Pearson correlation of predicted and true mean deltas of the validation perturbations.

    All control cells are decoded. The output layer is linear, so it is applied to the mean of the last hidden layer.
    NaN without validation perturbations; a constant delta, whose correlation is undefined, is left out.
    """
    if not len(task.valid_deltas):
        return float("nan")
    parts = [net.Encoder_x(x) for _, x in task.cells.batches(task.controls, 512)]
    mean, log_variance = (torch.cat(values) for values in zip(*parts, strict=True))
    generator = torch.Generator().manual_seed(derive(seed, "sclambda validation noise", epoch))
    scores = []
    for s, truth in zip(net.Encoder_p(task.valid_vectors), task.valid_deltas, strict=True):
        noise = torch.randn(mean.shape, generator=generator).to(mean.device)
        hidden = net.Decoder_x.hidden(sample(mean, log_variance, noise) + s)
        predicted = net.Decoder_x.FC_output(hidden.mean(dim=0)).double().cpu().numpy()
        scores.append(pearson(predicted, truth))
    return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("nan")


def pearson(left: np.ndarray, right: np.ndarray) -> float:
    """Return the correlation of two float64 vectors; NaN when one is constant."""
    left, right = left - left.mean(), right - right.mean()
    norms = np.linalg.norm(left) * np.linalg.norm(right)
    return float(left @ right / norms) if norms > 0 else float("nan")

"""The networks of scLAMBDA and their loss terms (models_supervised.md 5.2 and 5.3), with upstream's state-dict keys.

G genes, D vector dimensions, H hidden width, L latent width, B cells of a batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, mse_loss

SLOPE = 0.2
#: Bound of the output of MINE's statistics network.
MINE_BOUND = 50.0


class Encoder(nn.Module):
    """Two hidden layers and linear heads: mean, and log-variance if ``variational``."""

    def __init__(self, inputs: int, hidden: int, latent: int, variational: bool) -> None:
        super().__init__()
        self.FC_input = nn.Linear(inputs, hidden)
        self.FC_input2 = nn.Linear(hidden, hidden)
        self.FC_mean = nn.Linear(hidden, latent)
        if variational:
            self.FC_var = nn.Linear(hidden, latent)

    def hidden(self, x: Tensor) -> Tensor:
        """Return the (B, H) last hidden layer."""
        return leaky_relu(self.FC_input2(leaky_relu(self.FC_input(x), SLOPE)), SLOPE)


class ExpressionEncoder(Encoder):
    """q(z | x): mean and log-variance."""

    def __init__(self, genes: int, hidden: int, latent: int) -> None:
        super().__init__(genes, hidden, latent, variational=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x)
        return self.FC_mean(hidden), self.FC_var(hidden)


class PerturbationEncoder(Encoder):
    """The deterministic salient representation s of a perturbation vector."""

    def __init__(self, width: int, hidden: int, latent: int) -> None:
        super().__init__(width, hidden, latent, variational=False)

    def forward(self, p: Tensor) -> Tensor:
        return self.FC_mean(self.hidden(p))


class Decoder(nn.Module):
    """Two hidden layers and a linear output."""

    def __init__(self, latent: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.FC_hidden = nn.Linear(latent, hidden)
        self.FC_hidden2 = nn.Linear(hidden, hidden)
        self.FC_output = nn.Linear(hidden, outputs)

    def hidden(self, latent: Tensor) -> Tensor:
        """Return the (B, H) last hidden layer."""
        return leaky_relu(self.FC_hidden2(leaky_relu(self.FC_hidden(latent), SLOPE)), SLOPE)

    def forward(self, latent: Tensor) -> Tensor:
        return self.FC_output(self.hidden(latent))


class Mine(Decoder):
    """Statistics network T(z, s) of the mutual-information estimator, one bounded number per row."""

    def __init__(self, latent: int, hidden: int) -> None:
        super().__init__(2 * latent, hidden, 1)

    def forward(self, z: Tensor, s: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(torch.cat([z, s], dim=1)).clamp(-MINE_BOUND, MINE_BOUND)


class Net(nn.Module):
    """The five networks: 1025 G + 1025 D + 1,423,963 parameters at H = 512, L = 30."""

    def __init__(self, genes: int, width: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.Encoder_x = ExpressionEncoder(genes, hidden, latent)
        self.Encoder_p = PerturbationEncoder(width, hidden, latent)
        self.Decoder_x = Decoder(latent, hidden, genes)
        self.Decoder_p = Decoder(latent, hidden, width)
        self.MINE = Mine(latent, hidden)

    def main_parameters(self) -> list[nn.Parameter]:
        """All parameters but MINE's."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("MINE.")]


def sample(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """Return z = mean + exp(log_variance / 2) * noise."""
    return mean + torch.exp(0.5 * log_variance) * noise


def squared_error(estimate: Tensor, target: Tensor) -> Tensor:
    """Return half the squared error, summed over columns and averaged over rows."""
    return (0.5 / len(target)) * mse_loss(estimate, target, reduction="sum")


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, exp(log_variance)) || N(0, I)), summed over dimensions and averaged over rows."""
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(mean)


def mutual_information(mine: Mine, z: Tensor, s: Tensor, s_marginal: Tensor) -> Tensor:
    """Return the Donsker-Varadhan estimate mean T(z, s) - log mean exp T(z, s')."""
    scores = mine(torch.cat([z, z]), torch.cat([s, s_marginal]))
    joint, marginal = scores[: len(z)], scores[len(z) :]
    return joint.mean() - (torch.logsumexp(marginal.flatten(), 0) - math.log(len(z)))


def adversarial(net: Net, x: Tensor, z: Tensor, p: Tensor, epsilon: float) -> Tensor:
    """Return p + epsilon * |p|_2 * sign(dr/dp), r the reconstruction error of x from z + Encoder_p(p).

    Rows with p = 0 (control cells) stay exactly 0. No gradient flows through the result.
    """
    clean = p.detach().requires_grad_(True)
    x_hat = net.Decoder_x(z.detach() + net.Encoder_p(clean))
    # dr/dp = (dx_hat/dp)' (x_hat - x) / B; the sign does not need the division
    (gradient,) = torch.autograd.grad(x_hat, clean, grad_outputs=(x_hat - x).detach())
    return (p + epsilon * p.norm(dim=1, keepdim=True) * gradient.sign()).detach()


def count_parameters(net: Net) -> int:
    """Return the number of trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())

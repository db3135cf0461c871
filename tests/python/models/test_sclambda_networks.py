"""scLAMBDA's networks and loss terms against the tables and formulas of the spec, in plain numpy."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from vcbench.models import sclambda_training as training  # noqa: E402
from vcbench.models.flat_adam import FlatAdam  # noqa: E402
from vcbench.models.sclambda_networks import Net, adversarial, count_parameters, sample  # noqa: E402

GENES, WIDTH, HIDDEN, LATENT, BATCH = 7, 5, 6, 3, 8


def net(seed=0):
    return training.new_net(GENES, WIDTH, HIDDEN, LATENT, seed)


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, p, marginal, *noise = (
        torch.randn((BATCH, n), generator=generator) for n in (GENES, WIDTH, WIDTH, LATENT, LATENT)
    )
    p[:2] = 0  # two control cells
    return x, p, marginal, tuple(noise)


@pytest.mark.parametrize(("genes", "width"), [(2000, 1280), (50, 4352)])
def test_parameter_count_of_the_spec(genes, width):
    with torch.device("meta"):
        count = count_parameters(Net(genes, width, 512, 30))
    assert count == 1025 * genes + 1025 * width + 1_423_963
    assert round((count - 1025 * (genes + width)) / 1e6, 2) == 1.42


def test_parameter_count_of_the_tiny_configuration():
    assert round(count_parameters(Net(40, 16, 16, 4)) / 1000, 1) == 3.8


def test_state_dict_keys_and_shapes():
    h = (HIDDEN, HIDDEN)
    expected = {
        "Encoder_x.FC_input": (HIDDEN, GENES), "Encoder_x.FC_input2": h,
        "Encoder_x.FC_mean": (LATENT, HIDDEN), "Encoder_x.FC_var": (LATENT, HIDDEN),
        "Encoder_p.FC_input": (HIDDEN, WIDTH), "Encoder_p.FC_input2": h, "Encoder_p.FC_mean": (LATENT, HIDDEN),
        "Decoder_x.FC_hidden": (HIDDEN, LATENT), "Decoder_x.FC_hidden2": h, "Decoder_x.FC_output": (GENES, HIDDEN),
        "Decoder_p.FC_hidden": (HIDDEN, LATENT), "Decoder_p.FC_hidden2": h, "Decoder_p.FC_output": (WIDTH, HIDDEN),
        "MINE.FC_hidden": (HIDDEN, 2 * LATENT), "MINE.FC_hidden2": h, "MINE.FC_output": (1, HIDDEN),
    }  # fmt: skip
    found = {name: tuple(tensor.shape) for name, tensor in net().state_dict().items()}
    assert {
        name.removesuffix(".weight"): shape for name, shape in found.items() if name.endswith(".weight")
    } == expected
    assert {name.removesuffix(".bias"): shape[0] for name, shape in found.items() if name.endswith(".bias")} == {
        name: shape[0] for name, shape in expected.items()
    }


# ---------------------------------------------------------------------------------------- an independent forward pass


class Plain:
    """The networks in float64 numpy."""

    def __init__(self, networks):
        self.w = {name: tensor.double().numpy() for name, tensor in networks.state_dict().items()}

    def linear(self, name, x):
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def stack(self, network, names, x):
        for name in names:
            x = self.linear(f"{network}.{name}", x)
            x = np.where(x > 0, x, 0.2 * x)
        return x

    def encode_x(self, x):
        hidden = self.stack("Encoder_x", ("FC_input", "FC_input2"), x)
        return self.linear("Encoder_x.FC_mean", hidden), self.linear("Encoder_x.FC_var", hidden)

    def encode_p(self, p):
        return self.linear("Encoder_p.FC_mean", self.stack("Encoder_p", ("FC_input", "FC_input2"), p))

    def decode(self, network, latent):
        hidden = self.stack(network, ("FC_hidden", "FC_hidden2"), latent)
        return self.linear(f"{network}.FC_output", hidden)

    def mutual_information(self, z, s, marginal):
        t, t_marginal = (np.clip(self.decode("MINE", np.hstack([z, other])), -50, 50)[:, 0] for other in (s, marginal))
        return t.mean() - np.log(np.exp(t_marginal).mean())


def test_every_loss_term_equals_its_formula():
    networks, (x, p, marginal, noise) = net(), batch()
    mine_losses = []
    terms = training.losses_of_step(networks, x, p, marginal, noise, 0.05, mine_losses.append)
    with torch.no_grad():
        mean, log_variance = networks.Encoder_x(x)
    p_adversarial = adversarial(networks, x, sample(mean, log_variance, noise[0]), p, 0.05).double().numpy()
    plain, x, p, marginal = Plain(networks), *(tensor.double().numpy() for tensor in (x, p, marginal))
    m, v = plain.encode_x(x)
    s = plain.encode_p(p_adversarial)
    z = m + np.exp(v / 2) * noise[1].double().numpy()
    information = plain.mutual_information(m, s, plain.encode_p(marginal))
    expected = [
        0.5 * ((plain.decode("Decoder_x", z + s) - x) ** 2).sum() / BATCH,
        0.5 * ((plain.decode("Decoder_p", s) - p) ** 2).sum() / BATCH,  # the target is the clean vector
        np.mean([0.5 * np.sum(np.exp(v[i]) + m[i] ** 2 - 1 - v[i]) for i in range(BATCH)]),
        information,
    ]
    np.testing.assert_allclose([term.item() for term in terms], expected, rtol=2e-5)
    assert mine_losses[0].item() == pytest.approx(-information, rel=1e-4)
    assert not np.allclose(p_adversarial, p)


def test_the_main_mi_is_computed_with_the_updated_mine():
    networks, (x, p, marginal, noise) = net(), batch()

    def update(loss):
        with torch.no_grad():
            networks.MINE.FC_output.weight.mul_(0.0)
            networks.MINE.FC_output.bias.fill_(3.0)

    before = training.losses_of_step(networks, x, p, marginal, noise, 0.05, lambda loss: None)
    after = training.losses_of_step(networks, x, p, marginal, noise, 0.05, update)
    assert after[3].item() == pytest.approx(0.0, abs=1e-6)  # a constant T has no information
    assert abs(before[3].item()) > 1e-4
    assert [a.item() for a in after[:3]] == [b.item() for b in before[:3]]


def test_mine_output_is_clamped():
    networks = net()
    with torch.no_grad():
        networks.MINE.FC_output.weight.mul_(1e6)
    scores = networks.MINE(torch.randn(50, LATENT), torch.randn(50, LATENT))
    assert scores.abs().max() == 50


def test_adversarial_input_is_the_sign_of_the_gradient_scaled_by_the_norm():
    networks, (x, p, _, noise) = net(1), batch(1)
    z = noise[0]
    found = adversarial(networks, x, z, p, 0.05)
    assert torch.equal(found[:2], torch.zeros(2, WIDTH))  # p = 0 stays exactly 0
    assert not found.requires_grad
    plain, x, z, p = Plain(networks), *(tensor.double().numpy() for tensor in (x, z, p))

    def error(vectors):
        return 0.5 * ((plain.decode("Decoder_x", z + plain.encode_p(vectors)) - x) ** 2).sum() / BATCH

    step = np.zeros_like(p)
    for row in range(2, BATCH):
        for column in range(WIDTH):
            h = np.zeros_like(p)
            h[row, column] = 1e-6
            step[row, column] = np.sign(error(p + h) - error(p - h))
    np.testing.assert_allclose(found, p + 0.05 * np.linalg.norm(p, axis=1, keepdims=True) * step, rtol=1e-5)
    assert set(step[2:].ravel()) == {-1.0, 1.0}


def test_adversarial_epsilon_zero_changes_nothing():
    networks, (x, p, _, noise) = net(), batch()
    assert torch.equal(adversarial(networks, x, noise[0], p, 0.0), p)


def test_mi_of_the_main_loss_has_no_gradient_to_the_perturbation_encoder():
    networks, (x, p, marginal, noise) = net(), batch()
    terms = training.losses_of_step(networks, x, p, marginal, noise, 0.05, lambda loss: None)
    terms[3].backward(retain_graph=True)
    assert all(parameter.grad is None for parameter in networks.Encoder_p.parameters())
    assert networks.Encoder_x.FC_mean.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in networks.Encoder_x.FC_var.parameters())  # MI takes the mean
    (terms[0] + terms[1]).backward()
    assert networks.Encoder_p.FC_mean.weight.grad.abs().sum() > 0


def test_mine_step_has_gradients_for_mine_only():
    networks, (x, p, marginal, noise) = net(), batch()
    training.losses_of_step(networks, x, p, marginal, noise, 0.05, lambda loss: loss.backward())
    assert all(parameter.grad is None for parameter in networks.main_parameters())
    assert networks.MINE.FC_hidden.weight.grad.abs().sum() > 0


# ----------------------------------------------------------------------------------------------------- the small tools


def test_flat_adam_is_adam():
    """Kingma and Ba's algorithm 1 by hand, weight decay added to the gradient."""
    networks = net()
    optimiser = FlatAdam(list(networks.MINE.parameters()), 0.01, 0.1)
    parameter = networks.MINE.FC_hidden.weight
    w = parameter.detach().double().numpy().copy()
    m = v = np.zeros_like(w)
    for t in range(1, 6):
        optimiser.zero()
        (networks.MINE.FC_hidden.weight**2 * t).sum().backward()
        g = 2 * t * w + 0.1 * w
        optimiser.step()
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        w = w - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(parameter.detach(), w, rtol=1e-4, atol=1e-6)


def test_clip_counts_both_gradients_and_scales_the_first():
    gradient, other = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    training.clip(gradient, other, 1.0)
    np.testing.assert_allclose(gradient, [0.6, 0.0], rtol=1e-5)
    training.clip(gradient, torch.tensor([0.0]), 5.0)
    np.testing.assert_allclose(gradient, [0.6, 0.0], rtol=1e-5)  # below the bound nothing changes


def test_cells_are_the_same_dense_at_once_or_block_by_block(monkeypatch):
    import scipy.sparse as sp

    matrix = sp.random(50, 7, 0.4, "csr", np.float32, rng=np.random.default_rng(0))
    centre = np.arange(7, dtype=np.float32) / 10
    monkeypatch.setattr(training, "BLOCK", 16)
    order = np.random.default_rng(1).permutation(50)
    expected = matrix.toarray()[order] - centre
    for limit in (0, 1 << 20):
        cells = training.CentredCells(matrix, centre, "cpu", limit)
        parts = list(cells.batches(order, 6))
        np.testing.assert_array_equal(torch.cat([x for _, x in parts]), expected)
        assert [part.indices(50)[:2] for part, _ in parts] == [(i, min(i + 6, 50)) for i in range(0, 50, 6)]


def test_validation_is_the_mean_of_all_decoded_controls():
    networks = net(3)
    rng = np.random.default_rng(2)
    import scipy.sparse as sp

    from vcbench.core.seeds import derive

    cells = rng.random((20, GENES)).astype(np.float32)
    centre = np.zeros(GENES, np.float32)
    vectors = torch.randn((2, WIDTH), generator=torch.Generator().manual_seed(0))
    deltas = rng.normal(size=(2, GENES))
    controls = np.arange(5, 20)
    job = training.Task(
        training.CentredCells(sp.csr_matrix(cells), centre, "cpu"), None, controls, None, vectors, deltas
    )
    plain = Plain(networks)
    mean, log_variance = plain.encode_x(cells[controls].astype(float))
    generator = torch.Generator().manual_seed(derive(9, "sclambda validation noise", 4))
    scores = []
    for p, delta in zip(vectors.double().numpy(), deltas, strict=True):
        noise = torch.randn(mean.shape, generator=generator).double().numpy()
        x_hat = plain.decode("Decoder_x", mean + np.exp(log_variance / 2) * noise + plain.encode_p(p[None]))
        scores.append(np.corrcoef(x_hat.mean(axis=0), delta)[0, 1])
    assert training.validate(networks, job, 9, 4) == pytest.approx(np.mean(scores), rel=1e-4)

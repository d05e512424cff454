"""The adversarial prior: its discriminator, its two losses, and the hands that it draws."""

import numpy as np
import pytest
import torch

from mamba_mm.models.body_models import axis_angle_to_matrix
from mamba_mm.models.losses import AdversarialHandPrior, HandDiscriminator
from mamba_mm.registry import MODELS

TOY = dict(type="mamba_mm.ToyMANOPoses", count=40)


def random_hands(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotations = axis_angle_to_matrix(torch.randn(count, 15, 3, generator=generator))
    return rotations, torch.randn(count, 10, generator=generator)


def build_prior(**settings):
    torch.manual_seed(0)
    return MODELS.build(dict(type="mamba_mm.AdversarialHandPrior", poses=TOY, **settings))


# --- the discriminator -----------------------------------------------------------------------


def test_size():
    """Layer by layer: inputs times outputs, and biases."""
    joints = (9 * 32 + 32) + (32 * 32 + 32) + 15 * (32 + 1)
    shape = (10 * 10 + 10) + (10 * 5 + 5) + (5 + 1)
    pose = (15 * 32 * 1024 + 1024) + (1024 * 1024 + 1024) + (1024 + 1)
    assert sum(p.numel() for p in HandDiscriminator().parameters()) == joints + shape + pose
    assert joints + shape + pose == 1_545_211


def layers(module, x):
    """Linear layers with rectifiers between them, as matrices."""
    linears = [layer for layer in module if hasattr(layer, "weight")]
    for i, layer in enumerate(linears):
        if i:
            x = np.maximum(x, 0)
        x = layer.weight.numpy() @ x + layer.bias.numpy()
    return x


@torch.no_grad()
def test_scores_are_those_of_a_loop():
    torch.manual_seed(0)
    discriminator = HandDiscriminator()
    for parameter in discriminator.parameters():  # the biases start as 0
        parameter += 0.05 * torch.randn_like(parameter)
    rotations, betas = random_hands(3)
    scores = discriminator(rotations, betas)
    assert scores.shape == (3, 17)
    for hand in range(3):
        features = []
        for joint in range(15):
            numbers = [float(rotations[hand, joint, r, c]) for r in range(3) for c in range(3)]
            features.append(np.maximum(layers(discriminator.joint_features, np.array(numbers)), 0))
            of_joint = layers([discriminator.joint_heads[joint]], features[joint])
            assert scores[hand, joint] == pytest.approx(of_joint.item(), abs=1e-5)
        of_shape = layers(discriminator.shape_head, betas[hand].numpy())
        of_pose = layers(discriminator.pose_head, np.concatenate(features))
        assert scores[hand, 15] == pytest.approx(of_shape.item(), abs=1e-5)
        assert scores[hand, 16] == pytest.approx(of_pose.item(), abs=1e-5)


def test_scores_do_not_depend_on_autocast():
    discriminator, hands = HandDiscriminator(), random_hands(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = discriminator(*hands)
    assert torch.equal(scores, discriminator(*hands))


def test_other_shapes_are_refused():
    rotations, betas = random_hands(2)
    with pytest.raises(ValueError, match=r"\(2, 16, 3, 3\)"):
        HandDiscriminator()(torch.cat([rotations[:, :1], rotations], 1), betas)
    with pytest.raises(ValueError, match=r"\(1, 10\)"):
        HandDiscriminator()(rotations, betas[:1])


# --- the losses ------------------------------------------------------------------------------


def test_the_generators_loss_by_hand():
    prior = build_prior(loss_weight=0.5)
    rotations, betas = random_hands(4)
    rotations.requires_grad_()
    betas.requires_grad_()
    loss = prior.generator_loss(rotations, betas)
    scores = prior.discriminator(rotations, betas).detach()
    expected = 0.5 * sum((float(s) - 1) ** 2 for row in scores for s in row) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert rotations.grad.abs().amax(dim=(0, 2, 3)).min() > 0
    assert betas.grad.abs().min() > 0
    assert all(p.grad is None for p in prior.parameters())


def test_the_discriminators_losses_by_hand():
    prior = build_prior(discriminator_loss_weight=0.5, real_per_image=3)
    rotations, betas = random_hands(4)
    rotations.requires_grad_()
    betas.requires_grad_()
    losses = prior(rotations, betas)
    prior.draws.zero_()
    real = prior.discriminator(*prior.draw(12))
    predicted = prior.discriminator(rotations, betas)
    sums = [
        sum(float(s) ** 2 for s in t.flatten()) for t in (predicted.detach(), real.detach() - 1)
    ]
    assert losses["loss_predicted"].item() == pytest.approx(0.5 * sums[0] / 4, rel=1e-5)
    assert losses["loss_real"].item() == pytest.approx(0.5 * sums[1] / 4, rel=1e-5)
    sum(losses.values()).backward()
    assert rotations.grad is None
    assert betas.grad is None
    assert all(p.grad is not None for p in prior.parameters())


def test_weights_by_default():
    """HaMeR's, at its batch of 8, beside losses that are means over the batch."""
    prior = build_prior()
    assert (prior.loss_weight, prior.discriminator_loss_weight) == (6.25e-5, 0.0005)
    assert prior.real_per_image == 2


def test_it_learns_to_tell_hands_apart():
    prior = build_prior(discriminator_loss_weight=1.0)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=3e-3)
    rotations, betas = random_hands(8)
    hands = rotations, betas + 4  # no hand is like that
    for _ in range(60):
        optimizer.zero_grad()
        sum(prior(*hands).values()).backward()
        optimizer.step()
    predicted, real = prior.discriminator(*hands), prior.discriminator(*prior.draw(8))
    assert real.mean() - predicted.mean() > 0.5
    assert (real.mean(dim=0) > predicted.mean(dim=0)).all()


@pytest.mark.parametrize(
    "settings", [dict(real_per_image=0), dict(loss_weight=-1), dict(seed=-1)], ids=str
)
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="AdversarialHandPrior"):
        AdversarialHandPrior(TOY, **settings)


# --- the hands that it draws -----------------------------------------------------------------


def test_hands_are_of_the_set():
    prior = build_prior()
    rotations, betas = prior.draw(5)
    every = axis_angle_to_matrix(torch.from_numpy(prior._poses.hand_pose).unflatten(1, (15, 3)))
    for hand in range(5):
        index = int((torch.from_numpy(prior._poses.betas) - betas[hand]).abs().sum(1).argmin())
        assert torch.equal(betas[hand], torch.from_numpy(prior._poses.betas[index]))
        assert torch.equal(rotations[hand], every[index])


def test_draws_depend_on_seed_process_and_count_alone(monkeypatch):
    def first_two(**settings):
        prior = build_prior(**settings)
        return [prior.draw(6)[1] for _ in range(2)]

    first = first_two()
    assert not torch.equal(*first)
    assert all(map(torch.equal, first, first_two()))
    assert not any(map(torch.equal, first, first_two(seed=1)))
    monkeypatch.setattr("mamba_mm.models.losses.hand_prior.get_rank", lambda: 1)
    assert not any(map(torch.equal, first, first_two()))


def test_a_resumed_training_draws_what_comes_next():
    prior, resumed = build_prior(), build_prior()
    prior.draw(6)
    resumed.load_state_dict(prior.state_dict())
    assert torch.equal(prior.draw(6)[1], resumed.draw(6)[1])


def test_the_set_is_not_opened_before_it_is_needed():
    prior = AdversarialHandPrior(dict(type="mamba_mm.MANOPoses", path="no_such.npz"))
    prior.generator_loss(*random_hands(2))
    with pytest.raises(FileNotFoundError, match=r"no_such\.npz"):
        prior(*random_hands(2))

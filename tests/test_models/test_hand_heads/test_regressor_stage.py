"""Hamba's head in the first of two stages: the joints regressor alone."""

import pytest
import torch
from hand_samples import build_head, count, random_map, random_samples, randomise


def both_stages(**settings):
    """A head with everything, and one of the first stage with the same weights."""
    whole = randomise(build_head(**settings))
    first = build_head(**settings, stage="regressor")
    weights = whole.state_dict()
    first.load_state_dict({key: weights[key] for key in first.state_dict()})
    return whole.eval(), first.eval()


def test_size_for_a_huge_vit():
    with torch.device("meta"):
        head = build_head(small=False, in_channels=1280, stage="regressor")
    assert count(head) == 919_552 + 13_833_837


def test_it_predicts_what_the_regressor_of_the_second_stage_predicts():
    whole, first = both_stages()
    x = random_map()
    predictions = first((x,))
    assert list(predictions) == ["final"]
    for got, expected in zip(predictions["final"], whole((x,))["jr"], strict=True):
        assert torch.equal(got, expected)
    pixels = first.predict((x,), random_samples(2))[0].keypoints[0]
    expected = whole.to_pixels(whole((x,))["jr"].joints_2d)[0].detach()
    torch.testing.assert_close(torch.from_numpy(pixels), expected)


def test_its_losses_are_those_of_the_regressor():
    whole, first = both_stages(jr_loss_weight=0.5)
    feats, samples = (random_map(),), random_samples(2)
    losses, of_both = first.loss(feats, samples), whole.loss(feats, samples)
    assert len(losses) == 5
    for name, value in losses.items():
        halved = of_both[name.replace("loss_", "loss_jr_")]
        assert value.item() == pytest.approx(2 * halved.item(), rel=1e-6)


@pytest.mark.parametrize("settings", [dict(), dict(fusion=("gss",), tokens="learned")], ids=str)
def test_every_parameter_has_a_gradient(settings):
    """As distributed training wants it; what is not trained is not built."""
    head = randomise(build_head(**settings, stage="regressor"))
    assert {name for name, part in head.named_children() if count(part)} == {"reduction", "jr"}
    sum(head.loss((random_map(),), random_samples(2)).values()).backward()
    without = [n for n, p in head.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_an_unknown_stage():
    with pytest.raises(ValueError, match="unknown stage 'jr'; known: all, regressor"):
        build_head(stage="jr")

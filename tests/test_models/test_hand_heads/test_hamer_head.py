"""The transformer of HaMeR's head."""

import pytest
import torch
import torch.nn.functional as F
from hand_samples import CHANNELS, build_head, random_map, random_samples, randomise

from mamba_mm.models.heads.cross_attention import Attention, SingleQueryDecoder


def heads(x, number):
    return x.unflatten(2, (number, -1)).transpose(1, 2)


@pytest.mark.parametrize("cross", [False, True])
def test_attention(cross):
    torch.manual_seed(0)
    attention = Attention(6, 2, 5, context_channels=4 if cross else None)
    x = torch.randn(3, 2, 6)
    normed = attention.norm(x)
    context = torch.randn(3, 7, 4) if cross else normed
    key, value = F.linear(context, attention.key_value.weight).split(10, dim=2)
    found = F.scaled_dot_product_attention(
        heads(attention.query(normed), 2), heads(key, 2), heads(value, 2)
    )
    expected = attention.out(found.transpose(1, 2).flatten(2))
    torch.testing.assert_close(attention(x, context if cross else None), expected)
    assert [attention.query.bias, attention.key_value.bias] == [None, None]


def test_steps_of_the_decoder():
    torch.manual_seed(0)
    decoder = SingleQueryDecoder(4, 6, depth=2, num_heads=2, head_channels=3, mlp_channels=5)
    x = torch.randn(2, 4, 3, 5)
    context = x.reshape(2, 4, 15).transpose(1, 2)
    token = (decoder.token_embed.bias + decoder.pos_embed).expand(2, 1, 6)
    for layer in decoder.layers:
        token = token + layer.self_attention(token)
        token = token + layer.cross_attention(token, context)
        token = token + layer.mlp(token)
    assert len(decoder.layers) == 2
    torch.testing.assert_close(decoder(x), token[:, 0])


def test_only_what_a_single_query_cannot_use_has_no_gradient():
    head = randomise(build_head("HaMeRHead"))
    sum(head.loss((random_map(),), random_samples(2)).values()).backward()
    dead = {name for name, p in head.named_parameters() if not p.grad.abs().max() > 0}
    assert dead == {
        "transformer.token_embed.weight",
        "transformer.layers.0.self_attention.query.weight",
        "transformer.layers.1.self_attention.query.weight",
    }
    for layer in head.transformer.layers:
        key, value = layer.self_attention.key_value.weight.grad.chunk(2)
        assert (key == 0).all()
        assert (value != 0).any()


def test_settings_reach_the_transformer():
    head = build_head("HaMeRHead", depth=3, embed_dims=20, mlp_channels=9, head_hidden_dims=7)
    layers = head.transformer.layers
    assert len(layers) == 3
    assert layers[0].cross_attention.key_value.in_features == CHANNELS
    assert layers[0].mlp[1].weight.shape == (9, 20)
    assert head.read_out.outputs["pose"].in_features == 7

# Which parameters of a VMamba are spared weight decay, to be taken by a config as
# `paramwise_cfg={{_base_.NAME}}`. MMEngine tries `custom_keys` as substrings of the
# parameter's name, longest first.

# What the official detection recipe really does: it kept Swin's keys. `norm` spares the norms
# of the blocks, the mixers and the outputs. It misses those called patch_embed.2,
# patch_embed.7 and downsample.3, all other biases, and A_logs, Ds and dt_projs_bias: these
# decay.
vmamba_dense_official_paramwise = dict(
    custom_keys={
        "absolute_pos_embed": dict(decay_mult=0.0),
        "relative_position_bias_table": dict(decay_mult=0.0),
        "norm": dict(decay_mult=0.0),
    }
)

# What the official classification recipe does: everything one-dimensional is spared, so
# A_logs and dt_projs_bias, which are stored as matrices, decay.
vmamba_classification_official_paramwise = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    flat_decay_mult=0.0,
)

# What the recipes mean: no decay on any norm, any bias, or any parameter of the recurrence.
# Decay would pull A towards -1 and the step sizes towards softplus(0) = 0.69.
vmamba_principled_paramwise = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    flat_decay_mult=0.0,
    custom_keys={
        ".A_logs": dict(decay_mult=0.0),
        ".Ds": dict(decay_mult=0.0),
        ".dt_projs_bias": dict(decay_mult=0.0),
    },
    bypass_duplicate=True,  # the levels of some heads share their convolutions
)

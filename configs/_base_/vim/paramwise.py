# Which parameters of a Vim are spared weight decay, to be taken by a config as
# `paramwise_cfg={{_base_.NAME}}`. MMEngine tries `custom_keys` as substrings of the
# parameter's name, longest first.

# What the official classification recipe does (timm's rule): everything one-dimensional, the
# position embedding and the class token are spared. A_log and A_b_log are matrices and decay.
vim_official_paramwise = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    flat_decay_mult=0.0,
    custom_keys={
        ".pos_embed": dict(decay_mult=0.0),
        ".cls_token": dict(decay_mult=0.0),
    },
)

# What the recipe means: no decay on any parameter of the recurrence either. Decay would pull A
# towards -1.
vim_principled_paramwise = dict(
    norm_decay_mult=0.0,
    bias_decay_mult=0.0,
    flat_decay_mult=0.0,
    custom_keys={
        ".pos_embed": dict(decay_mult=0.0),
        ".cls_token": dict(decay_mult=0.0),
        ".A_log": dict(decay_mult=0.0),
        ".A_b_log": dict(decay_mult=0.0),
    },
)

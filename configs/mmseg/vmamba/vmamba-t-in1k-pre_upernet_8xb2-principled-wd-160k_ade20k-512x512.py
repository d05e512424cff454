_base_ = "./vmamba-t-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py"

# Not the official recipe: no decay on any norm, bias or parameter of the recurrence.
optim_wrapper = dict(paramwise_cfg=dict(weight_decay_rule="principled"))

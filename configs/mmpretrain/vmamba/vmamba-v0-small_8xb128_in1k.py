# Vanilla-VMamba-S.
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="v0_small", drop_path_rate=0.3),
    head=dict(in_channels=768),
)

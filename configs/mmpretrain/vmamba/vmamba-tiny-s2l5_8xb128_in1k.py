# VMamba-T[s2l5].
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="tiny_s2l5", drop_path_rate=0.2),
    head=dict(in_channels=768),
)

# VMamba-T[s1l8], the paper's VMamba-T.
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="tiny_s1l8", drop_path_rate=0.2),
    head=dict(in_channels=768),
)

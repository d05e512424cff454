# VMamba-B[s2l15], the paper's VMamba-B.
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="base_s2l15", drop_path_rate=0.6),
    head=dict(in_channels=1024),
)

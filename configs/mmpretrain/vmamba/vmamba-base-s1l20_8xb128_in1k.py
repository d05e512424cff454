# VMamba-B[s1l20].
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="base_s1l20", drop_path_rate=0.5),
    head=dict(in_channels=1024),
)

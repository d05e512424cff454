# VMamba-S[s1l20].
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="small_s1l20", drop_path_rate=0.3),
    head=dict(in_channels=768),
)

# VMamba-S[s2l15], the paper's VMamba-S.
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="small_s2l15", drop_path_rate=0.3),
    head=dict(in_channels=768),
)

# Vanilla-VMamba-T.
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="v0_tiny", drop_path_rate=0.2),
    head=dict(in_channels=768),
)

# The one released model that was trained without EMA.
custom_hooks = []

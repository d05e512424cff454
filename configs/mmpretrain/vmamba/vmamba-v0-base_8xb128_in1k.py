# Vanilla-VMamba-B. The official YAML file says drop path 0.5; its comment, the model's factory and
# the name of the released weights say 0.6.
_base_ = "../../_base_/vmamba/in1k.py"

model = dict(
    backbone=dict(arch="v0_base", drop_path_rate=0.6),
    head=dict(in_channels=1024),
)

"""The demo's detector with a narrow ResNet-18, of about the parameters of VMamba nano.

Only the backbone differs from the config below: it is what a comparison is about. A width of 24
instead of 64 gives 1.58 M parameters, nano has 1.50 M; its batch norms learn, as nano's do.
"""

_base_ = "../vmamba/rtmdet-ins_vmamba-nano_fpn_shapes.py"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mmdet.ResNet",
        depth=18,
        base_channels=24,
        out_indices=(1, 2, 3),
        norm_eval=False,
    ),
    neck=dict(in_channels=[48, 96, 192]),
)

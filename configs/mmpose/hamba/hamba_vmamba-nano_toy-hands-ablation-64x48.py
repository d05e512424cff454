"""Hamba in a minute on one core: what tools/analysis_tools/ablate_hamba.py trains often."""

_base_ = "./hamba_vmamba-nano_toy-hands-128x96.py"

input_size = (48, 64)
codec = dict(type="mamba_mm.MANOLabel", input_size=input_size)

# Two stages, to stride 8: as many positions, 8 x 6, as the demo's, of a quarter of the pixels.
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, dims=(32, 64), depths=(1, 2), norm="bn"), out_indices=(1,)
    ),
    head=dict(
        in_channels=64,
        embed_dims=64,
        input_size=input_size,
        jr=dict(depth=1),
        decoder=codec,
    ),
)

# No augmentation: no image is seen more than three times.
pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]
train_dataloader = dict(batch_size=8, dataset=dict(pipeline=pipeline))
val_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="mamba_mm.HandMeshMetric", metrics=["PA-MPJPE", "PA-MPVPE", "F@5", "F@15"])
]
test_evaluator = val_evaluator

max_epochs = 3
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=2e-3, fused=True))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# Only the last validation counts. One gone on with after a checkpoint would see other batches than
# an uninterrupted one, which its pair in another variant may be, so it is done again instead.
default_hooks = dict(checkpoint=dict(interval=-1, save_last=False))

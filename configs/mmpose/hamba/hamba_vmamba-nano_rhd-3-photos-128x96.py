"""Learn the hands of three images of RHD by heart: input of others for a small Hamba.

A network that cannot do that has a fault. The hands are those that it was trained on, so the
errors say nothing about other images. RHD has joints and no MANO parameters; the mesh is that of
ToyMANO, whose bones have to stretch to fit.
"""

_base_ = "../../_base_/hamba/nano.py"

data_root = "{{$MAMBA_MM_DATA_DIR:../shared/data}}/rhd/"

model = dict(backbone=dict(arch="nano"))

photos = dict(
    type="mamba_mm.RHDMeshDataset",
    data_root=data_root,
    ann_file="test_rhd.json",
    pipeline={{_base_.test_pipeline}},
)
train_dataloader = dict(
    batch_size=3,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=False),
    dataset=photos,
)
val_dataloader = dict(
    batch_size=3,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(test_mode=True, **photos),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="mamba_mm.HandMeshMetric", metrics=["PA-MPJPE", "MPJPE"]),
    dict(type="EPE"),
]
test_evaluator = val_evaluator

max_iters = 300
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", T_max=max_iters, eta_min=1e-5, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=max_iters),
)
log_processor = dict(by_epoch=False)

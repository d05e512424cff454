# UPerNet on ADE20K as the official repository trains it: 8 x 2 crops of 512, AdamW at 6e-5 with
# decay 0.01, 1500 iterations of warm-up from 1e-6 of that, then a straight line to 0 at 160,000,
# tested on whole images. "vmamba_dense" is the weight decay of the official runs, which kept
# Swin's keys: README.md.
_base_ = [
    "../upernet/model.py",
    "../upernet/ade20k.py",
    "../upernet/runtime.py",
]

model = dict(
    backbone=dict(
        type="mamba_mm.VMamba", arch="tiny_s1l8", out_indices=(0, 1, 2, 3), drop_path_rate=0.2
    ),
)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=160_000, val_interval=8000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="vmamba_dense"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=160_000),
]
auto_scale_lr = dict(enable=False, base_batch_size=16)

# UPerNet on ADE20K by the official repository's recipe: 4 x 8 crops of 512, 60,000 iterations,
# AdamW with layer-wise decay of the learning rate, 1500 iterations of warm-up, then a straight
# line to 0, tested by windows of 512 every 341 pixels. Four blocks are tapped, and each map goes to
# its own level: four times as fine, twice, as it is, half.
#
# Ours, and not the official way: the layer-wise decay reaches the blocks (the official constructor
# looks for `blocks`, which are called `layers`, so only the embeddings were slowed down); the
# position embedding and the parameters of the recurrence are spared weight decay, as meant; the
# position embedding is resized with its class row where it is; and a tap is the residual stream,
# normed, instead of the output of one mixer.
_base_ = [
    "../upernet/model.py",
    "../upernet/ade20k.py",
    "../upernet/runtime.py",
]

model = dict(
    backbone=dict(
        type="mamba_mm.VisionMamba",
        arch="tiny",
        img_size=512,
        out_indices=(5, 11, 17, 23),
        drop_path_rate=0.1,
    ),
    neck=dict(
        type="mamba_mm.SimpleFeaturePyramid",
        in_channels=192,
        out_channels=None,
        stride=16,
        norm="bn",
    ),
    decode_head=dict(in_channels=[192, 192, 192, 192], channels=192),
    auxiliary_head=dict(in_channels=192),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)

train_dataloader = dict(batch_size=8)

train_cfg = dict(type="IterBasedTrainLoop", max_iters=60_000, val_interval=6000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.92, weight_decay_rule="principled"),
)
# What the warm-up starts from is not known to us: VMamba's.
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=60_000),
]
default_hooks = dict(checkpoint=dict(interval=6000))
auto_scale_lr = dict(enable=False, base_batch_size=32)

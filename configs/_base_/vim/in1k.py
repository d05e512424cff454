# The official ImageNet-1K recipe, DeiT's: 300 epochs, AdamW with cosine decay from 1e-3 to 1e-5
# after 5 epochs of warm-up from 1e-6, float32, no clipping, every image three times an epoch
# with its own augmentation, EMA 0.99996. The learning rates that the official scripts name (5e-4
# for Ti at batch 1024, 1e-3 for S at 512) are for a batch of 512, as in DeiT: both are 1e-3.
# MMPretrain's Swin data has DeiT's augmentations (rand-m9-mstd0.5-inc1, random erasing 0.25).
_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "mmpretrain::_base_/default_runtime.py",
]

model = dict(
    type="ImageClassifier",
    backbone=dict(
        type="mamba_mm.VisionMamba", arch="tiny", out_type="cls_token", drop_path_rate=0.0
    ),
    # The class token is the feature: there is nothing to pool.
    neck=None,
    # head.fc is the official `head`.
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=192,
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0),
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        cal_acc=False,
    ),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)

train_dataloader = dict(batch_size=128, sampler=dict(type="RepeatAugSampler", shuffle=True))
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)

# Without _delete_ the keys of the base would stay beside ours.
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.1, eps=1e-8, betas=(0.9, 0.999)),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="vim_classification"),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", eta_min=1e-5, by_epoch=True, begin=5),
]

custom_hooks = [dict(type="EMAHook", momentum=4e-5, priority="ABOVE_NORMAL")]

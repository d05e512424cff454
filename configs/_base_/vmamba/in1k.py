# The official ImageNet-1K recipe: 300 epochs, total batch 1024 = 8 x 128, AdamW at 1e-3 with
# cosine decay to 1e-5, 20 epochs of warm-up from 1e-6, fp16, EMA. MMPretrain's Swin recipe
# has the same schedule and augmentations (rand-m9-mstd0.5-inc1, random erasing 0.25).
_base_ = [
    "mmpretrain::_base_/datasets/imagenet_bs64_swin_224.py",
    "mmpretrain::_base_/schedules/imagenet_bs1024_adamw_swin.py",
    "mmpretrain::_base_/default_runtime.py",
]

model = dict(
    type="ImageClassifier",
    # outnorm3 is the official `classifier.norm`, head.fc the official `classifier.head`.
    backbone=dict(type="mamba_mm.VMamba", arch="tiny_s1l8", out_indices=(3,), drop_path_rate=0.2),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=1000,
        in_channels=768,
        init_cfg=dict(type="TruncNormal", layer="Linear", std=0.02, bias=0.0),
        loss=dict(type="LabelSmoothLoss", label_smooth_val=0.1, mode="original"),
        cal_acc=False,
    ),
    train_cfg=dict(augments=[dict(type="Mixup", alpha=0.8), dict(type="CutMix", alpha=1.0)]),
)

train_dataloader = dict(batch_size=128)
val_dataloader = dict(batch_size=128)
test_dataloader = dict(batch_size=128)

optim_wrapper = dict(
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    clip_grad=dict(max_norm=5.0),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    # Without _delete_ the keys of the base would stay beside ours.
    paramwise_cfg=dict(_delete_=True, weight_decay_rule="vmamba_classification"),
)

custom_hooks = [dict(type="EMAHook", momentum=1e-4, priority="ABOVE_NORMAL")]

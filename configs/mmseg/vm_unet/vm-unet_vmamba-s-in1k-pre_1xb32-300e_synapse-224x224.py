# The official recipe for Synapse: 300 epochs of batch 32 at 224 x 224, AdamW at 1e-3 with decay
# 1e-2, a cosine with a half period of 100 epochs.
_base_ = [
    "../../_base_/vm_unet/model.py",
    "../../_base_/vm_unet/heads.py",
    "../../_base_/vm_unet/runtime.py",
]

# Write the folders with tools/dataset_converters/synapse.py.
data_root = "data/synapse/"
image_size = (224, 224)

model = dict(
    decode_head=dict(
        num_classes=9,
        loss_decode={{_base_.vm_unet_class_losses}},
    )
)

# One half of the images is turned by a quarter and flipped; of the others one half is turned by
# up to 20 degrees. Labels are turned and resized without interpolation.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomChoice",
        prob=[0.5, 0.5],
        transforms=[
            [dict(type="RandomRotFlip", rotate_prob=0.0, flip_prob=1.0)],
            [dict(type="RandomRotate", prob=0.5, degree=20.0, seg_pad_val=0)],
        ],
    ),
    dict(type="Resize", scale=image_size, keep_ratio=False, interpolation="bicubic"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=False, interpolation="bicubic"),
    dict(type="LoadAnnotations"),
    dict(
        type="PackSegInputs",
        meta_keys=(
            "img_path",
            "seg_map_path",
            "ori_shape",
            "img_shape",
            "pad_shape",
            "scale_factor",
            "flip",
            "flip_direction",
            "reduce_zero_label",
            "case",
            "slice_index",
        ),
    ),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mamba_mm.SynapseVolumeDataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/train", seg_map_path="ann_dir/train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mamba_mm.SynapseVolumeDataset",
        data_root=data_root,
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# Whole volumes, by the rule of the published figures, so that ours compare with them. It is a
# flattering rule; `empty="worst"` is an honest one.
val_evaluator = dict(type="mamba_mm.CaseSegMetric", empty="official", hd95_rule="pooled")
test_evaluator = val_evaluator

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=50)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-2),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=100, eta_min=1e-5, begin=0, end=300, by_epoch=True)
]
default_hooks = dict(checkpoint=dict(interval=10))

# The official recipe for the ISIC sets: 300 epochs of batch 32 at 256 x 256, AdamW at 1e-3 with
# decay 1e-2. The cosine has a half period of 50 epochs, so the learning rate falls to 1e-5,
# rises again and so on, three times each.
_base_ = ["./model.py", "./heads.py", "./runtime.py"]

model = dict(decode_head={{_base_.vm_unet_binary_head}})

image_size = (256, 256)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="RandomFlip", prob=0.5, direction="vertical"),
    dict(type="RandomRotate", prob=0.5, degree=(0.0, 360.0), seg_pad_val=0),
    dict(type="Resize", scale=image_size, keep_ratio=False),
    dict(type="PackSegInputs"),
]
# LoadAnnotations comes last: labels keep their size, and predictions are brought to it.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mamba_mm.ISICDataset",
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
        type="mamba_mm.ISICDataset",
        data_prefix=dict(img_path="img_dir/val", seg_map_path="ann_dir/val"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# IoUMetric counts the pixels of all images together, as the published figures do: they are the
# row "lesion" of its table (Acc is the sensitivity; that of the background, the specificity).
# CaseSegMetric takes each image for itself.
val_evaluator = [
    dict(type="IoUMetric", iou_metrics=["mIoU", "mDice"]),
    dict(type="mamba_mm.CaseSegMetric", metrics=["dice", "iou", "hd95"], empty="worst"),
]
test_evaluator = val_evaluator

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=300, val_interval=10)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-2),
)
param_scheduler = [
    dict(type="CosineAnnealingLR", T_max=50, eta_min=1e-5, begin=0, end=300, by_epoch=True)
]
default_hooks = dict(checkpoint=dict(interval=10))

"""Learn the persons of four photographs of COCO by heart: real input for a small VM-UNet.

A segmentor that cannot do that has a fault. The persons are those that it was trained on, so the
IoU says nothing about other photographs.
"""

_base_ = ["../../_base_/vm_unet/nano.py", "../../_base_/vm_unet/heads.py"]

data_root = "{{$MAMBA_MM_DATA_DIR:../shared/data}}/coco/"
image_size = (160, 160)

model = dict(decode_head={{_base_.vm_unet_binary_head}})

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="Resize", scale=image_size, keep_ratio=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
photos = dict(
    type="BaseSegDataset",
    metainfo=dict(classes=("background", "person"), palette=[(0, 0, 0), (220, 20, 60)]),
    data_root=data_root,
    data_prefix=dict(img_path="", seg_map_path="semantic_person"),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(**photos, pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**photos, test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="IoUMetric", iou_metrics=["mIoU"]),
    dict(type="mamba_mm.CaseSegMetric", metrics=["dice", "iou"], empty="worst"),
]
test_evaluator = val_evaluator

max_iters = 200
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=10),
    dict(type="CosineAnnealingLR", T_max=max_iters, eta_min=1e-5, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=max_iters),
)
log_processor = dict(window_size=10, by_epoch=False)

"""Learn four photographs of COCO by heart: real input for the demo's model.

A detector that cannot do that has a fault. The persons that it finds are those that it was
trained on, so the AP says nothing about other photographs.
"""

_base_ = "./rtmdet-ins_vmamba-nano_fpn_shapes.py"

data_root = "{{$MAMBA_MM_DATA_DIR:../shared/data}}/coco/"
image_size = (320, 320)
metainfo = dict(classes=("person",), palette=[(220, 20, 60)])

model = dict(bbox_head=dict(num_classes=1))

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
photos = dict(
    metainfo=metainfo,
    data_root=data_root,
    ann_file="test_coco.json",
    data_prefix=dict(img=""),
)
train_dataloader = dict(
    batch_size=4,
    sampler=dict(type="InfiniteSampler"),
    batch_sampler=None,
    dataset=dict(**photos, pipeline=train_pipeline),
)
val_dataloader = dict(dataset=dict(**photos, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "test_coco.json")
test_evaluator = val_evaluator

max_iters = 120
train_cfg = dict(
    _delete_=True, type="IterBasedTrainLoop", max_iters=max_iters, val_interval=max_iters
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", T_max=max_iters, eta_min=1e-5, by_epoch=False),
]
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=max_iters),
)
log_processor = dict(window_size=10, by_epoch=False)

"""The demo: a small VMamba with a small RTMDet-Ins learns drawn shapes, from scratch.

The maps at stride 4 are not used and the head is a quarter as wide as RTMDet's: that is
where a detector spends its time once the backbone is small.
"""

default_scope = "mmdet"

# Draw the set with tools/dataset_converters/make_shapes_coco.py.
data_root = "{{$MAMBA_MM_DEMO_DATA:data/shapes}}/"
image_size = (128, 128)
metainfo = dict(
    classes=("disc", "square", "triangle", "star", "cross", "ring"),
    palette=[
        (228, 26, 28),
        (55, 126, 184),
        (77, 175, 74),
        (255, 190, 0),
        (200, 60, 220),
        (0, 200, 200),
    ],
)

strides = [8, 16, 32]
channels = 48

model = dict(
    type="RTMDet",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[127.5, 127.5, 127.5],
        std=[60.0, 60.0, 60.0],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    # Batch norms learn faster than nano's layer norms in so short a training.
    backbone=dict(type="mamba_mm.VMamba", arch=dict(base="nano", norm="bn"), out_indices=(1, 2, 3)),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256],
        out_channels=channels,
        num_outs=len(strides),
        norm_cfg=dict(type="BN"),
    ),
    bbox_head=dict(
        type="RTMDetInsSepBNHead",
        num_classes=len(metainfo["classes"]),
        in_channels=channels,
        feat_channels=channels,
        stacked_convs=2,
        share_conv=True,
        pred_kernel_size=1,
        act_cfg=dict(type="SiLU", inplace=True),
        norm_cfg=dict(type="BN"),
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=strides),
        bbox_coder=dict(type="DistancePointBBoxCoder"),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_mask=dict(type="DiceLoss", loss_weight=2.0, eps=5e-6, reduction="mean"),
    ),
    train_cfg=dict(
        assigner=dict(type="DynamicSoftLabelAssigner", topk=13),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=300,
        min_bbox_size=0,
        score_thr=0.05,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=50,
        mask_thr_binary=0.5,
    ),
)

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
# One worker draws level with two cores that train.
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        type="CocoDataset",
        metainfo=metainfo,
        data_root=data_root,
        ann_file="annotations/instances_train.json",
        data_prefix=dict(img="images/train/"),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=1,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CocoDataset",
        metainfo=metainfo,
        data_root=data_root,
        ann_file="annotations/instances_val.json",
        data_prefix=dict(img="images/val/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="CocoMetric",
    ann_file=data_root + "annotations/instances_val.json",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator

max_epochs = 7
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)
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

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=20),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Two, so that a checkpoint is left when saving the next one is interrupted.
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="DetVisualizationHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="gloo"),
)
visualizer = dict(
    type="DetLocalVisualizer", vis_backends=[dict(type="LocalVisBackend")], name="visualizer"
)
log_processor = dict(type="LogProcessor", window_size=20, by_epoch=True)
log_level = "INFO"
randomness = dict(seed=0)
load_from = None
resume = False

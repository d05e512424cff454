# Cascade Mask R-CNN on COCO as ViTDet trains it (arXiv 2203.16527) and the official repository
# of Vim with it: 184375 iterations of 64 images, 100 epochs; AdamW at 1e-4, decay 0.1, 250
# iterations of warm-up, steps at 163889 and 177546, mixed precision, drop path 0.1, layer decay
# 0.837 (that of Vim-Ti and Vim-S), no class token. The images are scaled by 0.1 to 2 and padded
# to squares of 1024 pixels.
#
# Not as there: no rotary embedding, because no released weights have one; the cascade's stages
# weigh 1, 0.5 and 0.25, as everywhere in MMDetection.
_base_ = [
    "mmdet::_base_/models/cascade-mask-rcnn_r50_fpn.py",
    "mmdet::common/lsj-100e_coco-instance.py",
]

# ViTDet's heads: two convolutions before the proposals, four and a linear layer for the boxes,
# layer norms after all but the former, L1 losses.
norm_cfg = dict(type="mamba_mm.LayerNorm2d", eps=1e-6)
l1_loss = dict(type="L1Loss", loss_weight=1.0)
box_heads = [
    dict(
        type="Shared4Conv1FCBBoxHead",
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        norm_cfg=norm_cfg,
        roi_feat_size=7,
        num_classes=80,
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1 / centre, 1 / centre, 1 / size, 1 / size],
        ),
        reg_class_agnostic=True,
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=l1_loss,
    )
    for centre, size in ((10, 5), (20, 10), (30, 15))
]

model = dict(
    # Training and test: what is smaller than 1024 x 1024 is padded with the mean colour.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True,
        type="mamba_mm.VisionMamba",
        img_size=1024,  # the position embedding is interpolated once, when the weights are read
        out_indices=-1,
        with_cls_token=False,
    ),
    neck=dict(
        _delete_=True,
        type="mamba_mm.SimpleFeaturePyramid",
        out_channels=256,
        stride=16,
        num_outs=5,
        norm="ln",
    ),
    rpn_head=dict(num_convs=2, loss_bbox=dict(_delete_=True, **l1_loss)),
    roi_head=dict(bbox_head=box_heads, mask_head=dict(norm_cfg=norm_cfg)),
    # Anchors may reach beyond the image: of one that is scaled by 0.1 few others are left.
    train_cfg=dict(rpn=dict(allowed_border=-1), rpn_proposal=dict(max_per_img=1000)),
)

# Batches of 64 are 8 x 8 here. The set need not be repeated: the sampler never ends.
train_dataloader = dict(
    batch_size=8,
    num_workers=4,
    sampler=dict(_delete_=True, type="InfiniteSampler", shuffle=True),
    dataset=dict(times=1),
)
test_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="Resize", scale={{_base_.image_size}}, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(
    _delete_=True,
    type="AmpOptimWrapper",
    loss_scale="dynamic",
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.837, weight_decay_rule="principled"),
)

max_iters = 184375
train_cfg = dict(_delete_=True, type="IterBasedTrainLoop", max_iters=max_iters, val_interval=5000)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        begin=0,
        end=max_iters,
        by_epoch=False,
        milestones=[163889, 177546],
        gamma=0.1,
    ),
]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=5000, max_keep_ckpts=2))
log_processor = dict(by_epoch=False)

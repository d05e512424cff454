# Mask R-CNN on COCO with Vim-Ti and a simple feature pyramid of its last map, as in ViTDet. The
# schedule is VMamba's, 8 x 2 images for 12 epochs, not the official Vim one: that is a Cascade
# Mask R-CNN at 1024 pixels for 100 epochs, from weights that were not released.
_base_ = [
    "mmdet::_base_/models/mask-rcnn_r50_fpn.py",
    "mmdet::_base_/datasets/coco_instance.py",
    "mmdet::_base_/schedules/schedule_1x.py",
    "mmdet::_base_/default_runtime.py",
]

# The official ImageNet weights, converted or as they are; ../../mmpretrain/vim says where.
pretrained = "checkpoints/vim-tiny_3rdparty_in1k.pth"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mamba_mm.VisionMamba",
        arch="tiny",
        out_indices=-1,
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    neck=dict(
        _delete_=True,
        type="mamba_mm.SimpleFeaturePyramid",
        in_channels=192,
        out_channels=256,
        stride=16,
        num_outs=5,
    ),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(_delete_=True, type="AdamW", lr=0.0001, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)

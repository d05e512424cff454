_base_ = "../../_base_/vmamba/mask-rcnn_fpn_ms-3x_coco.py"

# The official ImageNet weights; README.md says where they come from.
pretrained = "checkpoints/vssm_base_0229_ckpt_epoch_237.pth"

model = dict(
    backbone=dict(
        arch="base_s2l15",
        drop_path_rate=0.6,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    neck=dict(in_channels=[128, 256, 512, 1024]),
)

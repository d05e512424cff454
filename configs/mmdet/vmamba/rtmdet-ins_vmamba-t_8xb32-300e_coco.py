_base_ = "../../_base_/vmamba/rtmdet-ins_coco.py"

# The official ImageNet weights; README.md says where they come from.
pretrained = "checkpoints/vssm1_tiny_0230s_ckpt_epoch_264.pth"

model = dict(
    backbone=dict(
        arch="tiny_s1l8",
        drop_path_rate=0.2,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
)

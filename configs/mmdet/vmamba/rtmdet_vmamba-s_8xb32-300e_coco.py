_base_ = "../../_base_/vmamba/rtmdet_coco.py"

# The official ImageNet weights; README.md says where they come from.
pretrained = "checkpoints/vssm_small_0229_ckpt_epoch_222.pth"

model = dict(
    backbone=dict(
        arch="small_s2l15",
        drop_path_rate=0.3,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
)

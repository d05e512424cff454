_base_ = "../../_base_/vmamba/upernet_ade20k.py"

# The official ImageNet weights; README.md says where they come from.
pretrained = "checkpoints/vssm_base_0229_ckpt_epoch_237.pth"

model = dict(
    backbone=dict(
        arch="base_s2l15",
        drop_path_rate=0.6,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)

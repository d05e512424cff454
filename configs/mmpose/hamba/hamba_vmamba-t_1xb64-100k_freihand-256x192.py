_base_ = "../../_base_/hamba/imagenet.py"

# The official ImageNet weights; configs/mmdet/vmamba/README.md says where they come from.
pretrained = "checkpoints/vssm1_tiny_0230s_ckpt_epoch_264.pth"

model = dict(
    backbone=dict(
        type="mamba_mm.VMamba",
        arch="tiny_s1l8",
        out_indices=(2,),
        drop_path_rate=0.2,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    # Every convolution of stride 2 is centred on its first pixel, and so is the first token.
    head=dict(in_channels=384, ts=dict(token_offset=0.0)),
)

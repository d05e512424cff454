_base_ = "../../_base_/hamba/imagenet.py"

# The official ImageNet weights; configs/mmpretrain/vim/README.md says where they come from.
pretrained = "checkpoints/vim-small_3rdparty_in1k.pth"

model = dict(
    backbone=dict(
        type="mamba_mm.VisionMamba",
        arch="small",
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    head=dict(in_channels=384),
)

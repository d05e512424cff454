_base_ = [
    "../../_base_/pose/udp_freihand2d.py",
    "../../_base_/vim/pose.py",
]

# The official ImageNet weights; ../../mmpretrain/vim/README.md says where they come from.
pretrained = "checkpoints/vim-small_3rdparty_in1k.pth"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mamba_mm.VisionMamba",
        arch="small",
        img_size=224,
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    head=dict(
        in_channels=384,
        deconv_out_channels=(256, 256),
        deconv_kernel_sizes=(4, 4),
    ),
)
optim_wrapper = {{_base_.vim_pose_optim_wrapper}}

_base_ = [
    "mmpose::body_2d_keypoint/topdown_heatmap/coco/td-hm_ViTPose-small_8xb64-210e_coco-256x192.py",
    "../../_base_/vim/pose.py",
]

# The official ImageNet weights; ../../mmpretrain/vim/README.md says where they come from.
pretrained = "checkpoints/vim-tiny_3rdparty_in1k.pth"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mamba_mm.VisionMamba",
        arch="tiny",
        img_size=(256, 192),
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    head=dict(in_channels=192),
)
optim_wrapper = {{_base_.vim_pose_optim_wrapper}}

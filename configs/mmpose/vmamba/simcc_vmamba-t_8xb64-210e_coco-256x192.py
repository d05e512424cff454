_base_ = [
    "mmpose::body_2d_keypoint/simcc/coco/simcc_res50_8xb64-210e_coco-256x192.py",
    "../../_base_/vmamba/pose.py",
]

# The official ImageNet weights; README.md says where they come from.
pretrained = "checkpoints/vssm1_tiny_0230s_ckpt_epoch_264.pth"

model = dict(
    backbone=dict(
        _delete_=True,
        type="mamba_mm.VMamba",
        arch="tiny_s1l8",
        out_indices=(3,),
        drop_path_rate=0.2,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    head=dict(in_channels=768),
)
optim_wrapper = {{_base_.vmamba_pose_optim_wrapper}}

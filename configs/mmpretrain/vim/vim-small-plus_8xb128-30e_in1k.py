# Vim-S+, fine-tuned from Vim-S.
_base_ = "../../_base_/vim/in1k_finetune.py"

# The official ImageNet weights of Vim-S, converted; README.md says how.
pretrained = "checkpoints/vim-small_3rdparty_in1k.pth"

model = dict(
    backbone=dict(
        arch="small_plus",
        drop_path_rate=0.0,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained, across_strides=True),
    ),
    head=dict(
        in_channels=384,
        init_cfg=dict(_delete_=True, type="Pretrained", checkpoint=pretrained, prefix="head."),
    ),
)

_base_ = "../../_base_/vim/upernet_ade20k.py"

# The official ImageNet weights, converted or as they are; ../../mmpretrain/vim says where.
pretrained = "checkpoints/vim-tiny_3rdparty_in1k.pth"

# Vim-Ti segments without its class token, as the official one.
model = dict(
    backbone=dict(
        with_cls_token=False,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
)

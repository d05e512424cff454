_base_ = "../../_base_/vim/cascade-mask-rcnn_simple-fpn_lsj-100e_coco.py"

# The official ImageNet weights, converted or as they are; ../../mmpretrain/vim says where.
pretrained = "checkpoints/vim-tiny_3rdparty_in1k.pth"

model = dict(
    backbone=dict(
        arch="tiny",
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    neck=dict(in_channels=192),
)

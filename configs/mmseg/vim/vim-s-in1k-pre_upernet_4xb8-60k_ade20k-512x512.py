_base_ = "../../_base_/vim/upernet_ade20k.py"

# The official ImageNet weights, converted or as they are; ../../mmpretrain/vim says where.
pretrained = "checkpoints/vim-small_3rdparty_in1k.pth"

# The official Vim-S has rotary position embeddings here, which no released weight has: not ours.
model = dict(
    backbone=dict(arch="small", init_cfg=dict(type="Pretrained", checkpoint=pretrained)),
    neck=dict(in_channels=384),
    decode_head=dict(in_channels=[384, 384, 384, 384], channels=384),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.95)
)

_base_ = "../../_base_/hamba/imagenet.py"

pretrained = (
    "https://download.openmmlab.com/mmpose/v1/pretrained_models/mae_pretrain_vit_base_20230913.pth"
)

model = dict(
    backbone=dict(
        type="mmpretrain.VisionTransformer",
        arch="base",
        img_size=(256, 192),
        patch_size=16,
        qkv_bias=True,
        drop_path_rate=0.3,
        with_cls_token=False,
        out_type="featmap",
        patch_cfg=dict(padding=2),
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    head=dict(in_channels=768, ts=dict(token_offset=6.0)),
)

"""Hamba on HaMeR's mix of ten sets: ViT-H in HaMeR's arrangement, from HaMeR's weights."""

_base_ = "../../_base_/hamba/mix.py"

# HaMeR's checkpoint, converted; README.md says how.
pretrained = "checkpoints/hamer_vit-h.pth"

model = dict(
    backbone=dict(
        type="mmpretrain.VisionTransformer",
        arch="huge",
        img_size=(256, 192),
        patch_size=16,
        qkv_bias=True,
        drop_path_rate=0.55,
        with_cls_token=False,
        out_type="featmap",
        patch_cfg=dict(padding=2),
        init_cfg=dict(type="Pretrained", checkpoint=pretrained, prefix="backbone."),
    ),
    # The patches are padded by 2 pixels, so the first is centred at 6, not at 8.
    head=dict(in_channels=1280, ts=dict(token_offset=6.0)),
)

_base_ = "../../_base_/hamba/imagenet.py"

model = dict(
    backbone=dict(
        type="ResNet",
        depth=50,
        out_indices=(2,),
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    # Every convolution of stride 2 is centred on its first pixel, and so is the first token.
    head=dict(in_channels=1024, ts=dict(token_offset=0.0)),
)

_base_ = "../../_base_/hamba/imagenet.py"

pretrained = "https://download.openmmlab.com/mmpose/pretrain_models/hrnet_w32-36af842e.pth"

model = dict(
    backbone=dict(
        type="HRNet",
        in_channels=3,
        extra=dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block="BOTTLENECK",
                num_blocks=(4,),
                num_channels=(64,),
            ),
            stage2=dict(
                num_modules=1,
                num_branches=2,
                block="BASIC",
                num_blocks=(4, 4),
                num_channels=(32, 64),
            ),
            stage3=dict(
                num_modules=4,
                num_branches=3,
                block="BASIC",
                num_blocks=(4, 4, 4),
                num_channels=(32, 64, 128),
            ),
            stage4=dict(
                num_modules=3,
                num_branches=4,
                block="BASIC",
                num_blocks=(4, 4, 4, 4),
                num_channels=(32, 64, 128, 256),
                multiscale_output=True,
            ),
        ),
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    # The branch at stride 16: its last module fuses all four into it. Every convolution of stride 2
    # is centred on its first pixel, and so is the first token.
    head=dict(in_channels=128, input_index=2, ts=dict(token_offset=0.0)),
)

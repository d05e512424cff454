# VM-UNet as its authors train it: stochastic depth 0.2 in both halves, which start from the
# official ImageNet weights of Vanilla-VMamba-S. configs/mmseg/vm_unet/README.md says where they
# come from. The channels are normed as for ImageNet.
pretrained = "checkpoints/vssmsmall_dp03_ckpt_epoch_238.pth"

model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size_divisor=32,
    ),
    backbone=dict(
        type="mamba_mm.VMUNetEncoder",
        arch="vm_unet",
        drop_path_rate=0.2,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    decode_head=dict(
        type="mamba_mm.VMUNetHead",
        arch="vm_unet",
        drop_path_rate=0.2,
        init_cfg=dict(type="Pretrained", checkpoint=pretrained),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="whole"),
)

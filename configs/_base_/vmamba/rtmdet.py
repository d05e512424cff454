# What RTMDet-l becomes with a VMamba-T or -S, to be taken by a config as
# `model={{_base_.vmamba_rtmdet_model}}`. No recipe was published: this follows what MMDetection
# does for Swin-B and ConvNeXt-B (`rtmdet_l_swin_b_4xb32-100e_coco.py`): the image statistics of
# ImageNet, maps at strides 8, 16 and 32, RTMDet-l's width of neck and head, group norm in them.
vmamba_rtmdet_model = dict(
    data_preprocessor=dict(
        _delete_=True,
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        batch_augments=None,
    ),
    backbone=dict(_delete_=True, type="mamba_mm.VMamba", out_indices=(1, 2, 3)),
    neck=dict(in_channels=[192, 384, 768], norm_cfg=dict(_delete_=True, type="GN", num_groups=32)),
    bbox_head=dict(norm_cfg=dict(_delete_=True, type="GN", num_groups=32)),
)

# Our choice: the 1e-3 of Swin-B and ConvNeXt-B for 4 x 32 images, although these are 8 x 32: the
# 4e-3 of RTMDet are for a backbone of convolutions and batch norms. Half of the 300 epochs are at
# that rate, half a cosine to a twentieth of it, as there.
vmamba_rtmdet_lr = 0.001
vmamba_rtmdet_optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=vmamba_rtmdet_lr, weight_decay=0.05),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)
vmamba_rtmdet_param_scheduler = [
    dict(type="LinearLR", start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type="CosineAnnealingLR",
        eta_min=vmamba_rtmdet_lr * 0.05,
        begin=150,
        end=300,
        T_max=150,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
# RTMDet's own says 16, which `--auto-scale-lr` would take for the batch of the rate above.
vmamba_rtmdet_auto_scale_lr = dict(base_batch_size=256)

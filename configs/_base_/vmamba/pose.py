# How VMamba is trained on keypoints, to be taken by a config as `{{_base_.NAME}}`. Ours, nobody has
# published one: the learning rate of MMPose's ResNet and Swin, the optimiser and the decay of
# VMamba's detectors. Like Swin there, no layer decay and no clipping.
vmamba_pose_optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)

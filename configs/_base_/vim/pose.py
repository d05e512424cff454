# How Vim is trained on keypoints, to be taken by a config as `{{_base_.NAME}}`. Ours, nobody has
# published one: MMPose's recipe of ViTPose-S. Its layer decay is 0.8 for 12 blocks; Vim has 24, and
# 0.9 a block leaves the first of them the same share of the learning rate (0.9^24 = 0.08, 0.8^12 =
# 0.07).
vim_pose_optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=5e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.9, weight_decay_rule="principled"),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)

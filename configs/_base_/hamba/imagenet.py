# Backbones that start from ImageNet, where HaMeR's weights do not fit. The recipe is ours.
_base_ = "./freihand.py"

max_iters = 100000
train_dataloader = dict(batch_size=64)
train_cfg = dict(max_iters=max_iters, val_interval=5000)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="CosineAnnealingLR", T_max=max_iters, eta_min=2e-6, by_epoch=False),
]
auto_scale_lr = dict(base_batch_size=64)
default_hooks = dict(checkpoint=dict(interval=5000))

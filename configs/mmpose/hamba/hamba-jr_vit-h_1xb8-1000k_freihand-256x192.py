"""The first of two stages: Hamba's joints regressor alone, on HaMeR's backbone."""

_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

model = dict(head=dict(stage="regressor"))

max_iters = 1000000
train_dataloader = dict(batch_size=8)
train_cfg = dict(max_iters=max_iters)
auto_scale_lr = dict(base_batch_size=8)

# Vim-S: half the batch and half the decay of Vim-Ti, and drop path.
_base_ = "../../_base_/vim/in1k.py"

model = dict(backbone=dict(arch="small", drop_path_rate=0.05), head=dict(in_channels=384))

train_dataloader = dict(batch_size=64)
optim_wrapper = dict(optimizer=dict(weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=512)

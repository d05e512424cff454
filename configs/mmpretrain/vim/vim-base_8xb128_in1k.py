# Vim-B. Its training recipe is not among the published scripts that we know of: this is that of
# Vim-S with the batch of Vim-Ti, a starting point of ours.
_base_ = "../../_base_/vim/in1k.py"

model = dict(backbone=dict(arch="base", drop_path_rate=0.05), head=dict(in_channels=768))

optim_wrapper = dict(optimizer=dict(weight_decay=0.05))

# The official fine-tuning of the "+" models, whose patches overlap by half, from the plain ones:
# 30 epochs at a constant 1e-5 (the scripts name 5e-6 for a batch of 512, which is 1e-5 for their
# 1024, and 1e-5 for warm-up and end), decay 1e-8. The rest as in training.
_base_ = "./in1k.py"

optim_wrapper = dict(optimizer=dict(lr=1e-5, weight_decay=1e-8))
param_scheduler = [dict(type="ConstantLR", factor=1.0, by_epoch=True)]
train_cfg = dict(max_epochs=30)

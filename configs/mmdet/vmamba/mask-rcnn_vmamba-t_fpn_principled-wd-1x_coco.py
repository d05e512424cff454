_base_ = "./mask-rcnn_vmamba-t_fpn_1x_coco.py"

# Not the official recipe: no decay on any norm, bias or parameter of the recurrence.
optim_wrapper = dict(paramwise_cfg=dict(weight_decay_rule="principled"))

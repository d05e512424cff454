# RTMDet with VMamba on COCO: data, augmentation, EMA and epochs are RTMDet-l's.
_base_ = ["mmdet::rtmdet/rtmdet_l_8xb32-300e_coco.py", "./rtmdet.py"]

model = {{_base_.vmamba_rtmdet_model}}
optim_wrapper = {{_base_.vmamba_rtmdet_optim_wrapper}}
param_scheduler = {{_base_.vmamba_rtmdet_param_scheduler}}
auto_scale_lr = {{_base_.vmamba_rtmdet_auto_scale_lr}}

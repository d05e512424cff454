# RHD by classifying x and y. The backbone and the optimiser are missing.
_base_ = ["./rhd2d.py", "./hand_simcc_256x256.py"]

codec = {{_base_.hand_codec}}
train_pipeline = {{_base_.hand_train_pipeline}}
val_pipeline = {{_base_.hand_test_pipeline}}

model = dict(head={{_base_.hand_head}}, test_cfg={{_base_.hand_test_cfg}})

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=val_pipeline))
test_dataloader = dict(dataset=dict(pipeline=val_pipeline))

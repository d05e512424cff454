"""The hand demo with depth as a fourth channel: what is gained by it, compare_training.py tells."""

_base_ = "./hamba_vmamba-nano_toy-hands-128x96.py"

input_size = {{_base_.input_size}}
codec = {{_base_.codec}}
hand_meta_keys = {{_base_.hand_meta_keys}}

model = dict(
    data_preprocessor=dict(type="mamba_mm.RGBDPoseDataPreprocessor"),
    backbone=dict(in_channels=4),
)

train_pipeline = [
    dict(type="LoadImage"),
    dict(type="mamba_mm.LoadDepth"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(
        type="RandomBBoxTransform",
        shift_factor=0.05,
        shift_prob=1.0,
        scale_factor=(0.85, 1.15),
        scale_prob=1.0,
        rotate_factor=20.0,
        rotate_prob=0.5,
    ),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="mamba_mm.MeshRotate"),
    dict(type="mamba_mm.ChannelGain", gain_range=(0.8, 1.2)),
    dict(type="mamba_mm.AppendDepth"),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys=hand_meta_keys),
]
test_pipeline = [
    dict(type="LoadImage"),
    # Photos without a depth map are shown too; their fourth channel is 0.
    dict(type="mamba_mm.LoadDepth", missing="unknown"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="mamba_mm.AppendDepth"),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys=hand_meta_keys),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

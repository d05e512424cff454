"""Hamba with depth as a fourth channel, from the same weights as without.

The set has no depth. tools/dataset_converters/estimate_depth.py writes what a network for single
images estimates to training/depth/00000000.png and so on, beside training/rgb.
"""

_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

input_size = {{_base_.input_size}}
codec = {{_base_.codec}}
hand_meta_keys = {{_base_.hand_meta_keys}}
load_depth = dict(type="mamba_mm.LoadDepth", folders=("rgb", "depth"), kind="inverse_depth")

model = dict(
    data_preprocessor=dict(type="mamba_mm.RGBDPoseDataPreprocessor"),
    # The weights of the new channel start at 0, so the first step's function is HaMeR's.
    backbone=dict(
        _delete_=True,
        type="mamba_mm.ExtendedInputBackbone",
        in_channels=4,
        backbone={{_base_.model.backbone}},
    ),
)

train_pipeline = [
    dict(type="LoadImage"),
    load_depth,
    dict(type="GetBBoxCenterScale", padding=1.0),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(
        type="RandomBBoxTransform",
        shift_factor=0.02,
        shift_prob=1.0,
        scale_factor=(0.7, 1.3),
        scale_prob=1.0,
        rotate_factor=60.0,
        rotate_prob=0.6,
    ),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="mamba_mm.MeshRotate"),
    dict(type="mamba_mm.ChannelGain", gain_range=(0.8, 1.2)),
    dict(type="mamba_mm.AppendDepth"),
    # So that it works on photos without depth too.
    dict(type="mamba_mm.DepthPerturbation", drop_prob=0.1),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys=hand_meta_keys),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(load_depth, missing="unknown"),
    dict(type="GetBBoxCenterScale", padding=1.0),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="mamba_mm.AppendDepth"),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys=hand_meta_keys),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

"""Learn four hands of OneHand10K and eight of FreiHAND by heart: real input for a small Vim.

A network that cannot do that has a fault. The hands are those that it was trained on, so the
figures say nothing about other photographs.
"""

_base_ = "../../_base_/pose/photos.py"

data_root = "{{$MAMBA_MM_DATA_DIR:../shared/data}}/"
codec = dict(type="SimCCLabel", input_size=(128, 128), sigma=3.0, simcc_split_ratio=2.0)

model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor={{_base_.preprocessor}},
    backbone=dict(type="mamba_mm.VisionMamba", arch="nano", img_size=128),
    head=dict(
        type="SimCCHead",
        in_channels=64,
        out_channels=21,
        input_size=codec["input_size"],
        in_featuremap_size=(8, 8),
        simcc_split_ratio=codec["simcc_split_ratio"],
        deconv_out_channels=(64,),
        deconv_kernel_sizes=(4,),
        loss=dict(type="KLDiscretLoss", use_target_weight=True),
        decoder=codec,
    ),
    # The flipped crops were not learnt.
    test_cfg=dict(flip_test=False),
)

# The two sets name the same joints in the same order. FreiHAND's boxes are whole images.
sets = [
    dict(
        type="OneHand10KDataset",
        data_root=data_root + "onehand10k",
        ann_file="test_onehand10k.json",
        data_prefix=dict(img=""),
        pipeline=[dict(type="LoadImage"), dict(type="GetBBoxCenterScale")],
    ),
    dict(
        type="FreiHandDataset",
        data_root=data_root + "freihand",
        ann_file="test_freihand.json",
        data_prefix=dict(img=""),
        pipeline=[dict(type="LoadImage"), dict(type="GetBBoxCenterScale", padding=0.8)],
    ),
]
hands = dict(
    type="CombinedDataset",
    metainfo=dict(from_file="configs/_base_/datasets/onehand10k.py"),  # MMPose's, wherever it is
    datasets=sets,
)
crop = dict(type="TopdownAffine", input_size=codec["input_size"])
train_pipeline = [crop, dict(type="GenerateTarget", encoder=codec), dict(type="PackPoseInputs")]
test_pipeline = [crop, dict(type="PackPoseInputs")]

train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline, **hands),
)
val_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(pipeline=test_pipeline, test_mode=True, **hands),
)
test_dataloader = val_dataloader
val_evaluator = [dict(type="PCKAccuracy", thr=0.05), dict(type="AUC"), dict(type="EPE")]
test_evaluator = val_evaluator

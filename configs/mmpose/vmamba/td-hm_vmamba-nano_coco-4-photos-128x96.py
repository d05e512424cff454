"""Learn the persons of four photographs of COCO by heart: real input for a small VMamba.

A network that cannot do that has a fault. The persons are those that it was trained on, so the AP
says nothing about other photographs.
"""

_base_ = "../../_base_/pose/photos.py"

data_root = "{{$MAMBA_MM_DATA_DIR:../shared/data}}/coco/"
codec = dict(type="UDPHeatmap", input_size=(96, 128), heatmap_size=(24, 32), sigma=1.5)

model = dict(
    type="TopdownPoseEstimator",
    data_preprocessor={{_base_.preprocessor}},
    backbone=dict(type="mamba_mm.VMamba", arch="nano", out_indices=(2,)),
    head=dict(
        type="HeatmapHead",
        in_channels=128,
        out_channels=17,
        deconv_out_channels=(128, 128),
        deconv_kernel_sizes=(4, 4),
        loss=dict(type="KeypointMSELoss", use_target_weight=True),
        decoder=codec,
    ),
    # The flipped crops were not learnt.
    test_cfg=dict(flip_test=False),
)

load = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale"),
    dict(type="TopdownAffine", input_size=codec["input_size"], use_udp=True),
]
train_pipeline = [*load, dict(type="GenerateTarget", encoder=codec), dict(type="PackPoseInputs")]
test_pipeline = [*load, dict(type="PackPoseInputs")]

persons = dict(
    type="CocoDataset",
    data_root=data_root,
    data_mode="topdown",
    ann_file="test_coco.json",
    data_prefix=dict(img=""),
)
train_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(pipeline=train_pipeline, **persons),
)
val_dataloader = dict(
    batch_size=12,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(pipeline=test_pipeline, test_mode=True, **persons),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="CocoMetric", ann_file=data_root + "test_coco.json"),
    dict(type="PCKAccuracy", thr=0.05),
]
test_evaluator = val_evaluator

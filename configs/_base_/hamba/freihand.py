# Hamba on FreiHAND as released, with HaMeR's augmentation; the backbone is missing. MAMBA_MM_MANO
# says where the MANO file is.
_base_ = ["./runtime.py"]

data_root = "{{$MAMBA_MM_FREIHAND:data/freihand}}/"
input_size = (192, 256)
codec = dict(type="mamba_mm.MANOLabel", input_size=input_size)

model = dict(
    type="mamba_mm.TopdownHandMeshEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    head=dict(type="mamba_mm.HambaHead", input_size=input_size, decoder=codec),
)

train_pipeline = [
    dict(type="LoadImage"),
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
    # Not UDP: the estimator's way from the crop back to the image is the inverse of this one.
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="mamba_mm.MeshRotate"),
    dict(type="mamba_mm.ChannelGain", gain_range=(0.8, 1.2)),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.0),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]

train_dataloader = dict(
    batch_size=28,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mamba_mm.FreiHANDMeshDataset",
        data_root=data_root,
        split="training",
        cache=True,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="mamba_mm.FreiHANDMeshDataset",
        data_root=data_root,
        split="evaluation",
        with_vertices=True,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
# A list, because MMEngine takes a dict with `metrics` for a whole evaluator.
val_evaluator = [dict(type="mamba_mm.HandMeshMetric")]
test_evaluator = val_evaluator

# HaMeR's and Hamba's optimiser. No norm, bias, position embedding or parameter of the scan decays.
max_iters = 170000
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=10000)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-5, weight_decay=1e-4),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)
param_scheduler = []
auto_scale_lr = dict(base_batch_size=56)

default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=10000, save_best="mesh/PA-MPJPE", rule="less"),
)
log_processor = dict(by_epoch=False)

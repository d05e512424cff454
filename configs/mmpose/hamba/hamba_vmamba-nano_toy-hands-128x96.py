"""The hand demo: a small Hamba learns the mesh of drawn hands, left and right, from scratch."""

_base_ = "../../_base_/hamba/nano.py"

# Draw the set with tools/dataset_converters/make_toy_hands.py, as tools/run_hands_demo.sh does.
data_root = "{{$MAMBA_MM_HANDS_DATA:data/toy_hands}}/"
input_size = {{_base_.input_size}}
codec = {{_base_.codec}}

# HaMeR's weights for the parameters suit a start from its own weights, and long trainings.
model = dict(
    head=dict(
        head_hidden_dims=256,
        jr=dict(depth=4),
        losses=dict(hand_pose=dict(loss_weight=0.01), global_orient=dict(loss_weight=0.01)),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

train_pipeline = [
    dict(type="LoadImage"),
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
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]
# A worker would compete with the training for two cores, and lose.
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mamba_mm.HandMeshCocoDataset",
        data_root=data_root,
        ann_file="annotations/toy_hands_train.json",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="mamba_mm.HandMeshCocoDataset",
        data_root=data_root,
        ann_file="annotations/toy_hands_val.json",
        test_mode=True,
        pipeline={{_base_.test_pipeline}},
    ),
)
test_dataloader = val_dataloader
# A list, because MMEngine takes a dict with `metrics` for a whole evaluator.
val_evaluator = [
    dict(
        type="mamba_mm.HandMeshMetric",
        metrics=["PA-MPJPE", "PA-MPVPE", "MPJPE", "MPVPE", "F@5", "F@15", "AUC_J", "AUC_V"],
    )
]
test_evaluator = val_evaluator

max_epochs = 9
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(logger=dict(interval=50))

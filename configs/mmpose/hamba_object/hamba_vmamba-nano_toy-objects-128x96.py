"""A small Hamba learns the poses of drawn objects, four classes by one network, from scratch."""

_base_ = "../../_base_/hamba/nano.py"

# Draw the set with tools/dataset_converters/make_toy_hand_objects.py.
data_root = "{{$MAMBA_MM_SCENES_DATA:data/toy_scenes}}/"
input_size = {{_base_.input_size}}
codec = dict(type="mamba_mm.ObjectKeypointLabel", input_size=input_size)
# Brick, can, mug, bracket; metres.
diameters = [0.12748, 0.12402, 0.11643, 0.14612]

model = dict(
    type="mamba_mm.TopdownObjectPoseEstimator",
    head=dict(
        _delete_=True,
        type="mamba_mm.HambaObjectHead",
        in_channels=128,
        embed_dims=128,
        input_size=input_size,
        head_hidden_dims=256,
        jr=dict(depth=4),
        # Every convolution of stride 2 is centred on its first pixel, and so is the first token.
        ts=dict(token_offset=0.0),
        output_model=dict(diameters=diameters),
        decoder=codec,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))

# No mirroring: the mirror image of an object is another object.
train_transforms = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
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
]
test_transforms = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="GenerateTarget", encoder=codec),
]
pack = dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}})
# A worker would compete with the training for two cores, and lose.
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="mamba_mm.BOPObjectDataset",
        data_root=data_root,
        split="train",
        pipeline=[*train_transforms, pack],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
    dataset=dict(
        type="mamba_mm.BOPObjectDataset",
        data_root=data_root,
        split="val",
        test_mode=True,
        pipeline=[*test_transforms, pack],
    ),
)
test_dataloader = val_dataloader
# Poses by PnP from the keypoints in the picture, and by a fit to those in space.
val_evaluator = [
    dict(type="mamba_mm.ObjectPoseMetric", models=data_root + "models"),
    dict(
        type="mamba_mm.ObjectPoseMetric",
        models=data_root + "models",
        pose="fit",
        prefix="object_fit",
    ),
]
test_evaluator = val_evaluator
visualizer = dict(type="mamba_mm.ObjectPoseLocalVisualizer", models=data_root + "models")

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

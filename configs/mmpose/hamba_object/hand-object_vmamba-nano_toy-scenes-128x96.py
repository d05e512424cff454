"""Two small Hambas side by side, one for hands and one for objects, on drawn scenes of both."""

_base_ = "./hamba_vmamba-nano_toy-objects-128x96.py"

data_root = {{_base_.data_root}}
input_size = {{_base_.input_size}}
hand_codec = dict(type="mamba_mm.MANOLabel", input_size=input_size)

model = dict(
    _delete_=True,
    type="mamba_mm.HandObjectEstimator",
    data_preprocessor={{_base_.model.data_preprocessor}},
    hand=dict(
        type="mamba_mm.TopdownHandMeshEstimator",
        backbone={{_base_.model.backbone}},
        # As for drawn hands alone.
        head=dict(
            type="mamba_mm.HambaHead",
            in_channels=128,
            embed_dims=128,
            input_size=input_size,
            head_hidden_dims=256,
            jr=dict(depth=4),
            ts=dict(token_offset=0.0),
            losses=dict(hand_pose=dict(loss_weight=0.01), global_orient=dict(loss_weight=0.01)),
            output_model=dict(mano=dict(mano_path="toy")),
            decoder=hand_codec,
        ),
    ),
    object=dict(
        type="mamba_mm.TopdownObjectPoseEstimator",
        backbone={{_base_.model.backbone}},
        head={{_base_.model.head}},
    ),
)

hand_train_transforms = [
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
    dict(type="GenerateTarget", encoder=hand_codec),
]
hand_test_transforms = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="GenerateTarget", encoder=hand_codec),
]
# Of the two sets together MMPose wants a metainfo; each has its own, by which samples are told
# apart.
metainfo = dict(from_file="configs/_base_/datasets/coco_wholebody_hand.py")

train_dataloader = dict(
    batch_size=32,
    # As many hands as objects in every batch.
    sampler=dict(
        _delete_=True, type="MultiSourceSampler", batch_size=32, source_ratio=[1, 1], shuffle=True
    ),
    dataset=dict(
        _delete_=True,
        type="CombinedDataset",
        metainfo=metainfo,
        datasets=[
            dict(
                type="mamba_mm.HandMeshCocoDataset",
                data_root=data_root,
                ann_file="annotations/hands_train.json",
                pipeline=hand_train_transforms,
            ),
            dict(
                type="mamba_mm.BOPObjectDataset",
                data_root=data_root,
                split="train",
                pipeline={{_base_.train_transforms}},
            ),
        ],
        pipeline=[{{_base_.pack}}],
    ),
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="CombinedDataset",
        metainfo=metainfo,
        datasets=[
            dict(
                type="mamba_mm.HandMeshCocoDataset",
                data_root=data_root,
                ann_file="annotations/hands_val.json",
                test_mode=True,
                pipeline=hand_test_transforms,
            ),
            dict(
                type="mamba_mm.BOPObjectDataset",
                data_root=data_root,
                split="val",
                test_mode=True,
                pipeline={{_base_.test_transforms}},
            ),
        ],
        pipeline=[{{_base_.pack}}],
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
val_evaluator = [
    dict(type="mamba_mm.SceneHandMeshMetric"),
    dict(type="mamba_mm.ObjectPoseMetric", models={{_base_.visualizer.models}}),
]
test_evaluator = val_evaluator

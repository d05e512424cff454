_base_ = [
    "./hamba_vit-b_1xb64-100k_freihand-256x192.py",
    "../../_base_/hamba/strong_augmentation.py",
]

# To paste pictures over hands too, a picture_folder in strong_after_crop[0].
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
    *_base_.strong_before_crop,
    dict(type="TopdownAffine", input_size=_base_.input_size, use_udp=False),
    dict(type="mamba_mm.MeshRotate"),
    *_base_.strong_after_crop,
    dict(type="mamba_mm.ChannelGain", gain_range=(0.8, 1.2)),
    dict(type="GenerateTarget", encoder=_base_.codec),
    dict(type="PackPoseInputs", meta_keys=_base_.hand_meta_keys),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# Crops of hands for heatmaps, to be taken as `{{_base_.NAME}}`. The augmentation is
# MMPose's for these data sets, the targets are others.
input_size = (256, 256)
# As ViTPose on COCO.
hand_codec = dict(type="UDPHeatmap", input_size=input_size, heatmap_size=(64, 64), sigma=2)

load_hand = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale")]
crop_hand = dict(type="TopdownAffine", input_size=input_size, use_udp=True)
hand_train_pipeline = [
    *load_hand,
    dict(type="RandomFlip", direction="horizontal"),
    dict(type="RandomBBoxTransform", rotate_factor=180, scale_factor=(0.7, 1.3)),
    crop_hand,
    dict(type="GenerateTarget", encoder=hand_codec),
    dict(type="PackPoseInputs"),
]
hand_test_pipeline = [*load_hand, crop_hand, dict(type="PackPoseInputs")]

# The width of the map and how it is enlarged are the backbone's affair.
hand_head = dict(
    type="HeatmapHead",
    out_channels=21,
    loss=dict(type="KeypointMSELoss", use_target_weight=True),
    decoder=hand_codec,
)
hand_test_cfg = dict(flip_test=True, flip_mode="heatmap", shift_heatmap=False)

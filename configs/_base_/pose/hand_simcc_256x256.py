# Crops of hands for SimCC, to be taken as `{{_base_.NAME}}`. The augmentation is
# MMPose's for these data sets, the targets are others.
input_size = (256, 256)
# As MMPose's SimCC on MPII, whose crops are 256 x 256.
hand_codec = dict(type="SimCCLabel", input_size=input_size, sigma=6.0, simcc_split_ratio=2.0)

load_hand = [dict(type="LoadImage"), dict(type="GetBBoxCenterScale")]
crop_hand = dict(type="TopdownAffine", input_size=input_size)
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
    type="SimCCHead",
    out_channels=21,
    input_size=input_size,
    simcc_split_ratio=hand_codec["simcc_split_ratio"],
    loss=dict(type="KLDiscretLoss", use_target_weight=True),
    decoder=hand_codec,
)
hand_test_cfg = dict(flip_test=True)

# Hands that are hidden, cut off, blurred and coloured beyond HaMeR's augmentation. A config has it
# beside that of its data, and puts the lists around the crop; see
# ../../mmpose/hamba/hamba_vit-b_1xb64-100k_freihand-strong-aug-256x192.py. The shares are ours.

# Between RandomBBoxTransform and TopdownAffine.
strong_before_crop = [
    dict(type="mamba_mm.HandTruncation", input_size=(192, 256), prob=0.2, keep=(0.4, 0.9)),
]
# Behind MeshRotate, in the order of a camera: things in front of the hand, then the lens, then
# colours. MMPretrain's colours: MMPose's PhotometricDistortion also swaps the channels of every
# second image and turns the hue of skin to green.
strong_after_crop = [
    dict(type="mamba_mm.HandOcclusion", prob=0.4, coverage=(0.1, 0.5)),
    dict(type="mamba_mm.HandBlur", prob=0.3),
    dict(
        type="RandomApply",
        prob=0.8,
        transforms=[
            dict(
                type="mmpretrain.ColorJitter",
                brightness=0.3,
                contrast=0.3,
                saturation=0.3,
                hue=0.03,
                backend="cv2",
            )
        ],
    ),
]

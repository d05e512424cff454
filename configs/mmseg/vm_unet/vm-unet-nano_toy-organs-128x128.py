"""A small VM-UNet learns the organs of drawn slices, from scratch, in minutes on a CPU."""

_base_ = ["../../_base_/vm_unet/toy_medical.py", "../../_base_/vm_unet/heads.py"]

data_root = "{{$MAMBA_MM_TOY_ORGANS:data/toy_organs}}/"
metainfo = dict(
    classes=(
        "background",
        "liver",
        "spleen",
        "left_kidney",
        "right_kidney",
        "aorta",
        "lesion",
    ),
    palette=[
        (0, 0, 0),
        (220, 60, 60),
        (60, 200, 60),
        (40, 120, 220),
        (220, 200, 40),
        (200, 60, 200),
        (240, 240, 240),
    ],
)

model = dict(
    decode_head=dict(
        num_classes=len(metainfo["classes"]),
        loss_decode={{_base_.vm_unet_class_losses}},
    )
)

train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader

# The lesions of the liver are learnt last: twice as long as for those of skin.
max_epochs = 8
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

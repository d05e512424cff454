# What a decode head learns from, to be taken by a config as `{{_base_.NAME}}`: cross entropy and
# Dice in equal parts, as in the official recipes.

# One channel of logits for two classes. (MMSegmentation's log line `acc_seg` takes the largest of
# the channels, of which there is one: it means nothing here.)
vm_unet_binary_head = dict(
    num_classes=2,
    out_channels=1,
    threshold=0.5,
    loss_decode=[
        dict(type="CrossEntropyLoss", use_sigmoid=True, avg_non_ignore=True, loss_name="loss_bce"),
        dict(type="mamba_mm.BinaryDiceLoss"),
    ],
)

# As many channels as classes.
vm_unet_class_losses = [
    dict(type="CrossEntropyLoss", avg_non_ignore=True),
    dict(type="mamba_mm.ClassDiceLoss"),
]

"""A small VMamba on a folder of images, with a subfolder a class, from random weights.

Ours, to try the main job on a handful of images. It is evaluated on those that it is trained on,
so the accuracy says nothing about others. Two classes; with more, set ``model.head.num_classes``.
"""

_base_ = "mmpretrain::_base_/default_runtime.py"

data_root = "{{$MAMBA_MM_IMAGE_FOLDER:data/images}}"
image_size = (96, 96)

model = dict(
    type="ImageClassifier",
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[60.0, 60.0, 60.0], to_rgb=False),
    # Batch norms learn faster than nano's layer norms in so short a training.
    backbone=dict(
        type="mamba_mm.VMamba",
        arch=dict(base="nano", norm="bn"),
        out_indices=(3,),
        drop_path_rate=0.0,
    ),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(
        type="LinearClsHead",
        num_classes=2,
        in_channels=256,
        loss=dict(type="CrossEntropyLoss", loss_weight=1.0),
    ),
)

# MMPretrain loads BGR, but draws what the network is given as RGB: so it is given that.
load_rgb = [
    dict(type="LoadImageFromFile"),
    dict(type="NumpyToPIL", to_rgb=True),
    dict(type="PILToNumpy", to_bgr=False),
    dict(type="Resize", scale=image_size),
]

train_dataloader = dict(
    batch_size=9,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CustomDataset",
        data_root=data_root,
        pipeline=[
            *load_rgb,
            dict(type="RandomFlip", prob=0.5, direction="horizontal"),
            dict(type="PackInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=9,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="CustomDataset",
        data_root=data_root,
        pipeline=[*load_rgb, dict(type="PackInputs")],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="Accuracy", topk=(1,))
test_evaluator = val_evaluator

max_epochs = 20
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(
        type="CosineAnnealingLR",
        T_max=max_epochs,
        eta_min=1e-5,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
default_hooks = dict(
    logger=dict(interval=3),
    checkpoint=dict(interval=max_epochs, max_keep_ckpts=1),
    visualization=dict(rescale_factor=4),
)
randomness = dict(seed=0)

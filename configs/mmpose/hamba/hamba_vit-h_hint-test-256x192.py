"""A trained Hamba on HInt: PCK of 2-D joints in photographs of daily life.

New Days of all joints; the others with test_dataloader.dataset.subset=visor or ego4d, and
test_dataloader.dataset.joints=visible or occluded. HaMeR's own evaluation files make figures
comparable with its: test_dataloader.dataset.evaluation_data=FOLDER.
"""

_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

test_pipeline = [
    dict(type="LoadImage"),
    # Made 3:4, a square box then gives a crop twice as high, as HaMeR's is.
    dict(type="GetBBoxCenterScale", padding=1.5),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size={{_base_.input_size}}, use_udp=False),
    dict(type="GenerateTarget", encoder={{_base_.codec}}),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="mamba_mm.HIntDataset",
        data_root="{{$MAMBA_MM_HINT:data/HInt_annotation_partial}}/",
        subset="newdays",
        joints="all",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = [dict(type="mamba_mm.HandKeypointPCK")]

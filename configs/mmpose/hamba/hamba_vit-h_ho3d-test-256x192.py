"""A trained Hamba on HO-3D's evaluation split, version 2 or 3: writes the server's prediction file.

The server has the labels. Whoever has evaluation_xyz.json and evaluation_verts.json measures with
test_evaluator.0.format_only=False test_dataloader.dataset.with_vertices=True.
"""

_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

test_pipeline = [
    dict(type="LoadImage"),
    # The given boxes are tight; HaMeR's demo doubles such boxes too.
    dict(type="GetBBoxCenterScale", padding=2.0),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size={{_base_.input_size}}, use_udp=False),
    dict(type="GenerateTarget", encoder={{_base_.codec}}),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="mamba_mm.HO3DMeshDataset",
        data_root="{{$MAMBA_MM_HO3D:data/ho3d}}/",
        split="evaluation",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = [
    dict(
        type="mamba_mm.HandMeshMetric",
        format_only=True,
        submission="ho3d",
        outfile_prefix="work_dirs/ho3d/pred",
    )
]

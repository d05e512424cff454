# Small, from random weights, on a CPU: VMamba nano down to stride 16, and a narrow Hamba.
_base_ = ["./runtime.py"]

input_size = (96, 128)
codec = dict(type="mamba_mm.MANOLabel", input_size=input_size)

test_pipeline = [
    dict(type="LoadImage"),
    dict(type="GetBBoxCenterScale", padding=1.25),
    dict(type="mamba_mm.HandMeshRandomFlip", mode="to_right"),
    dict(type="TopdownAffine", input_size=input_size, use_udp=False),
    dict(type="GenerateTarget", encoder=codec),
    dict(type="PackPoseInputs", meta_keys={{_base_.hand_meta_keys}}),
]

model = dict(
    type="mamba_mm.TopdownHandMeshEstimator",
    data_preprocessor=dict(
        type="PoseDataPreprocessor",
        mean=[127.5, 127.5, 127.5],
        std=[60.0, 60.0, 60.0],
        bgr_to_rgb=True,
    ),
    # Batch norms learn faster than nano's layer norms in so short a training.
    backbone=dict(type="mamba_mm.VMamba", arch=dict(base="nano", norm="bn"), out_indices=(2,)),
    head=dict(
        type="mamba_mm.HambaHead",
        in_channels=128,
        embed_dims=128,
        input_size=input_size,
        jr=dict(depth=2),
        # Every convolution of stride 2 is centred on its first pixel, and so is the first token.
        ts=dict(token_offset=0.0),
        output_model=dict(mano=dict(mano_path="toy")),
        decoder=codec,
    ),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=2e-3, weight_decay=0.05),
    clip_grad=dict(max_norm=1.0),
    constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
    paramwise_cfg=dict(weight_decay_rule="principled"),
)
visualizer = dict(mano_path="toy")
env_cfg = dict(dist_cfg=dict(backend="gloo"))
randomness = dict(seed=0)

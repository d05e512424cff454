"""The second of two stages on HaMeR's mix of ten sets: all of Hamba, and an adversarial prior."""

_base_ = "./hamba_vit-h_2xb28-170k_mix-256x192.py"

load_from = "work_dirs/hamba-jr_vit-h_1xb8-1000k_mix-256x192/iter_1000000.pth"

model = dict(
    type="mamba_mm.AdversarialHandMeshEstimator",
    backbone=dict(init_cfg=None),
    # Poses and shapes without images. The file comes with HaMeR's training data; for another one
    # there is tools/dataset_converters/freihand_poses.py.
    prior=dict(
        poses=dict(
            type="mamba_mm.MANOPoses",
            path="{{$MAMBA_MM_HAMER_DATA:data/hamer_training_data}}/freihand_mocap.npz",
        )
    ),
)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    dtype="float16",
    loss_scale="dynamic",
    constructor="mamba_mm.AdversarialOptimWrapperConstructor",
)
# With --launcher; alone, batch norms stay what they are.
model_wrapper_cfg = dict(type="mamba_mm.AdversarialDistributedDataParallel")
sync_bn = "torch"

custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="EMAHook", momentum=0.0002),
    dict(
        type="mamba_mm.StrictLoadHook",
        new=("head.ts.*", "head.gss.*", "head.gss_norm.*", "head.read_out.*", "prior.*"),
    ),
]

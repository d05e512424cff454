"""The second of two stages on drawn hands: all of Hamba, and an adversarial prior."""

_base_ = "./hamba_vmamba-nano_toy-hands-128x96.py"

load_from = "work_dirs/hamba-jr_vmamba-nano_toy-hands-128x96/epoch_9.pth"

model = dict(
    type="mamba_mm.AdversarialHandMeshEstimator",
    prior=dict(poses=dict(type="mamba_mm.ToyMANOPoses")),
)
optim_wrapper = dict(constructor="mamba_mm.AdversarialOptimWrapperConstructor")
# With --launcher; on CPUs there is no device to name.
model_wrapper_cfg = dict(type="mamba_mm.AdversarialDistributedDataParallel", device_ids=None)

custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="EMAHook", momentum=0.01),
    dict(
        type="mamba_mm.StrictLoadHook",
        new=("head.ts.*", "head.gss.*", "head.gss_norm.*", "head.read_out.*", "prior.*"),
    ),
]

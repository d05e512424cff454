"""The second of two stages: all of Hamba, from the backbone and regressor of the first one."""

_base_ = "./hamba_vit-h_2xb28-170k_freihand-256x192.py"

load_from = "work_dirs/hamba-jr_vit-h_1xb8-1000k_freihand-256x192/iter_1000000.pth"

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(type="AmpOptimWrapper", dtype="float16", loss_scale="dynamic")
# With --launcher; alone, batch norms stay what they are.
sync_bn = "torch"

custom_hooks = [
    dict(type="SyncBuffersHook"),
    dict(type="EMAHook", momentum=0.0002),
    dict(
        type="mamba_mm.StrictLoadHook",
        new=("head.ts.*", "head.gss.*", "head.gss_norm.*", "head.read_out.*"),
    ),
]

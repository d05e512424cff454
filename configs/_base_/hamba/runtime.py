default_scope = "mmpose"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # Two, so that a checkpoint is left when saving the next one is interrupted.
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="mamba_mm.MeshVisualizationHook", enable=False),
)
custom_hooks = [dict(type="SyncBuffersHook")]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)
visualizer = dict(
    type="mamba_mm.HandMeshLocalVisualizer",
    vis_backends=[dict(type="LocalVisBackend")],
    name="visualizer",
)
log_processor = dict(type="LogProcessor", window_size=50, by_epoch=True, num_digits=6)
log_level = "INFO"
load_from = None
resume = False

# What the estimator needs to bring a hand back into its photograph, beside MMPose's own.
hand_meta_keys = (
    "id",
    "img_id",
    "img_path",
    "ori_shape",
    "img_shape",
    "input_size",
    "input_center",
    "input_scale",
    "flipped",
    "bbox_rotation",
    "dataset_name",
)

val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

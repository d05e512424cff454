# Iterations, not epochs, which is how UPerNet's schedules are given.
_base_ = "../vm_unet/runtime.py"

default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=8000),
)
log_processor = dict(window_size=50, by_epoch=False)
# Every batch norm becomes a synchronous one as soon as training is distributed.
sync_bn = "torch"

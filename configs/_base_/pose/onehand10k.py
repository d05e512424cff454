# OneHand10K with MMPose's loaders, metrics and schedule. Codec, model and optimiser are missing,
# and MMPose's pipelines are to be replaced.
_base_ = (
    "mmpose::hand_2d_keypoint/topdown_heatmap/onehand10k/"
    "td-hm_res50_8xb32-210e_onehand10k-256x256.py"
)

codec = dict(_delete_=True)
model = dict(backbone=dict(_delete_=True), head=dict(_delete_=True), test_cfg=dict(_delete_=True))
optim_wrapper = dict(_delete_=True)

# 8 x 64 images, as `base_batch_size` says and MMPose has elsewhere on OneHand10K; it has 32 here.
train_dataloader = dict(batch_size=64)

# FreiHAND with MMPose's loaders, metrics and schedule. Codec, model and optimiser are missing,
# and MMPose's pipelines are to be replaced.
_base_ = (
    "mmpose::hand_2d_keypoint/topdown_heatmap/freihand2d/"
    "td-hm_res50_8xb64-100e_freihand2d-224x224.py"
)

codec = dict(_delete_=True)
model = dict(backbone=dict(_delete_=True), head=dict(_delete_=True), test_cfg=dict(_delete_=True))
optim_wrapper = dict(_delete_=True)

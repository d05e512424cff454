# COCO-WholeBody-Hand with MMPose's loaders, metrics and schedule. Codec, model and optimiser are
# missing, and MMPose's pipelines are to be replaced.
_base_ = (
    "mmpose::hand_2d_keypoint/topdown_heatmap/coco_wholebody_hand/"
    "td-hm_res50_8xb32-210e_coco-wholebody-hand-256x256.py"
)

codec = dict(_delete_=True)
model = dict(backbone=dict(_delete_=True), head=dict(_delete_=True), test_cfg=dict(_delete_=True))
optim_wrapper = dict(_delete_=True)

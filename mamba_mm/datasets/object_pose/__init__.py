"""Rigid objects with 6-D poses, and the keypoints on their surfaces that stand for a pose.

=====================  ===============================================================
models.py              meshes of objects, in BOP's layout or single files
symmetries.py          the rotations that leave an object as it is
keypoint_selection.py  which points represent a surface best
keypoint_file.py       the chosen points as JSON
record.py              the one record that an object of an image becomes
class_models.py        the meshes in the order of the labels
metainfo.py            what MMPose wants to know about the keypoints
bop.py                 images with poses in BOP's layout
=====================  ===============================================================
"""

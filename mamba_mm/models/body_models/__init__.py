"""The MANO hand model: reading it, posing it, seeing it in a camera."""

from .camera import (
    CROP_SIDE,
    FOCAL_LENGTH,
    crop_camera,
    crop_translation,
    default_focal_length,
    full_image_translation,
    project_crop,
    project_pinhole,
)
from .joint_orders import (
    HAND_BONES,
    MANO_PARENTS,
    MANO_TO_OPENPOSE,
    OPENPOSE_NAMES,
    OPENPOSE_TO_MANO,
    TIP_VERTICES,
)
from .mano_file import MANO_VARIABLE, load_mano, resolve_mano, save_mano_npz
from .mano_layer import MANOLayer, MANOOutput
from .mano_model import MANOModel
from .pose import (
    absolute_pose,
    axis_angle_to_pca,
    mirror_axis_angle,
    mirror_rotations,
    pca_to_axis_angle,
)
from .released_pickle import MANOFileError
from .rotations import (
    axis_angle_to_matrix,
    interleaved_to_columns,
    matrix_to_axis_angle,
    matrix_to_rotation_6d,
    rotation_6d_to_matrix,
    rotation_about_z,
)
from .toy_mano import build_toy_mano, save_released_pickle
from .wrist_cap import close_wrist

__all__ = [
    "CROP_SIDE",
    "FOCAL_LENGTH",
    "HAND_BONES",
    "MANO_PARENTS",
    "MANO_TO_OPENPOSE",
    "MANO_VARIABLE",
    "OPENPOSE_NAMES",
    "OPENPOSE_TO_MANO",
    "TIP_VERTICES",
    "MANOFileError",
    "MANOLayer",
    "MANOModel",
    "MANOOutput",
    "absolute_pose",
    "axis_angle_to_matrix",
    "axis_angle_to_pca",
    "build_toy_mano",
    "close_wrist",
    "crop_camera",
    "crop_translation",
    "default_focal_length",
    "full_image_translation",
    "interleaved_to_columns",
    "load_mano",
    "matrix_to_axis_angle",
    "matrix_to_rotation_6d",
    "mirror_axis_angle",
    "mirror_rotations",
    "pca_to_axis_angle",
    "project_crop",
    "project_pinhole",
    "resolve_mano",
    "rotation_6d_to_matrix",
    "rotation_about_z",
    "save_mano_npz",
    "save_released_pickle",
]

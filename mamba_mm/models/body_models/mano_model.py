"""The arrays of a MANO hand model, checked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

NUM_VERTICES = 778
NUM_FACES = 1538
NUM_JOINTS = 16
NUM_BETAS = 10
NUM_POSE = 3 * (NUM_JOINTS - 1)

SIDES = ("right", "left")

_FLOAT_SHAPES = {
    "v_template": (NUM_VERTICES, 3),
    "shapedirs": (NUM_VERTICES, 3, NUM_BETAS),
    "posedirs": (NUM_VERTICES, 3, 9 * (NUM_JOINTS - 1)),
    "weights": (NUM_VERTICES, NUM_JOINTS),
    "joint_regressor": (NUM_JOINTS, NUM_VERTICES),
    "hands_components": (NUM_POSE, NUM_POSE),
    "hands_mean": (NUM_POSE,),
}
_INTEGER_SHAPES = {"parents": (NUM_JOINTS,), "faces": (NUM_FACES, 3)}
_SUM_TOLERANCE = 1e-5


@dataclass(frozen=True, eq=False)
class MANOModel:
    """A hand of Romero et al., "Embodied Hands" (SIGGRAPH Asia 2017), metres and radians.

    Frame of the right hand's template: fingers along -x, back of the hand +y, thumb side +z;
    flexion is a positive rotation about +z. Arrays are kept as float64 and int64, read-only.

    Attributes:
        v_template: Mesh at rest, (778, 3).
        shapedirs: Shape blend shapes, (778, 3, 10).
        posedirs: Pose blend shapes, (778, 3, 135); the last dimension counts the entries of
            R - I of joints 1 to 15, row by row.
        weights: Skinning weights, (778, 16).
        joint_regressor: Joints from vertices, (16, 778).
        parents: Parent of each joint, (16,), -1 for the wrist.
        faces: Triangles, (1538, 3), counter-clockwise seen from outside.
        hands_components: PCA basis of the pose, rows are components, (45, 45).
        hands_mean: Mean pose of joints 1 to 15, axis-angle, (45,).
        side: ``"right"`` or ``"left"``.
        synthetic: Whether this is a model made by us, which nobody has rights in.

    Raises:
        ValueError: When an array is not as described; the message names it.
    """

    v_template: np.ndarray
    shapedirs: np.ndarray
    posedirs: np.ndarray
    weights: np.ndarray
    joint_regressor: np.ndarray
    parents: np.ndarray
    faces: np.ndarray
    hands_components: np.ndarray
    hands_mean: np.ndarray
    side: str = "right"
    synthetic: bool = False

    def __post_init__(self) -> None:
        for name, shape in _FLOAT_SHAPES.items():
            self._freeze(name, shape, np.float64)
            if not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"MANOModel: {name} has values that are not finite")
        for name, shape in _INTEGER_SHAPES.items():
            self._freeze(name, shape, np.int64)
        if self.side not in SIDES:
            raise ValueError(f"MANOModel: side must be 'right' or 'left', got {self.side!r}")
        self._check_sums()
        self._check_indices()

    def _freeze(self, name: str, shape: tuple[int, ...], dtype: type) -> None:
        """Replace a field by a read-only copy of the wanted type."""
        array = np.asarray(getattr(self, name))
        if array.shape != shape:
            raise ValueError(f"MANOModel: {name} must have the shape {shape}, got {array.shape}")
        if array.dtype.kind not in ("iu" if dtype is np.int64 else "fiu"):
            raise ValueError(f"MANOModel: {name} has the unexpected type {array.dtype}")
        array = array.astype(dtype, order="C")
        array.setflags(write=False)
        object.__setattr__(self, name, array)

    def _check_sums(self) -> None:
        if self.weights.min() < 0:
            raise ValueError("MANOModel: weights must not be negative")
        for name in ("weights", "joint_regressor"):
            error = np.abs(getattr(self, name).sum(1) - 1).max()
            if error > _SUM_TOLERANCE:
                raise ValueError(
                    f"MANOModel: rows of {name} must sum to 1, one is off by {error:.3g}"
                )

    def _check_indices(self) -> None:
        if self.faces.min() < 0 or self.faces.max() >= NUM_VERTICES:
            raise ValueError(
                f"MANOModel: faces must have indices in [0, {NUM_VERTICES}), got "
                f"[{self.faces.min()}, {self.faces.max()}]"
            )
        before = (self.parents[1:] >= 0) & (self.parents[1:] < np.arange(1, NUM_JOINTS))
        if self.parents[0] != -1 or not before.all():
            raise ValueError(
                "MANOModel: parents must start with -1 and precede their children, got "
                f"{self.parents.tolist()}"
            )

    def mirrored(self) -> MANOModel:
        """Return the hand of the other side, reflected at the plane x = 0.

        A pose whose axis-angle y and z are negated
        (:func:`~mamba_mm.models.body_models.mirror_axis_angle`) gives the mirrored vertices.
        """
        flip = np.array([-1.0, 1.0, 1.0])
        # The entry (a, b) of M (R - I) M is that of R - I times m_a m_b.
        entries = np.tile(np.outer(flip, flip).ravel(), NUM_JOINTS - 1)
        turn = np.tile([1.0, -1.0, -1.0], NUM_JOINTS - 1)
        return replace(
            self,
            v_template=self.v_template * flip,
            shapedirs=self.shapedirs * flip[:, None],
            posedirs=self.posedirs * flip[:, None] * entries,
            faces=self.faces[:, [0, 2, 1]],
            hands_components=self.hands_components * turn,
            hands_mean=self.hands_mean * turn,
            side="left" if self.side == "right" else "right",
        )

"""Loading a checkpoint into a model that has more, completely or not at all."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, Runner

from mamba_mm.models.utils.checkpoint.assignment import plan_assignment
from mamba_mm.registry import HOOKS


@HOOKS.register_module()
class StrictLoadHook(Hook):
    """Refuses a checkpoint of which MMEngine would load a part and go on with a warning.

    For ``load_from`` where one training goes on with the weights of another, such as the second
    stage of two::

        load_from = "work_dirs/stage1/iter_1000000.pth"
        custom_hooks = [
            dict(type="mamba_mm.StrictLoadHook", new=("head.ts.*", "head.gss.*", "prior.*")),
        ]

    Every tensor of the file must be one of the model, of the same shape, and every tensor of the
    model must be in the file or be ``new``; the log counts the new ones. Where a training is
    resumed, and in a test, nothing is new. A training that loaded nothing at all does not start:
    ``--resume`` makes MMPose forget ``load_from``, also where there is nothing to resume.

    Args:
        new: Shell-style patterns of the model's parameters and buffers that the file need not have.
    """

    # Before the EMAHook, which fills its copy of the model.
    priority = "VERY_HIGH"

    def __init__(self, new: Sequence[str] = ()) -> None:
        if isinstance(new, str):
            raise TypeError(f"StrictLoadHook: new must be a list of patterns, got {new!r}")
        self.new = tuple(new)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare a checkpoint with the model before anything of it is copied.

        Args:
            runner: Whose model it is for.
            checkpoint: As it was read.

        Raises:
            StateMismatchError: Something is missing, unexpected or of another shape.
            NonFiniteWeightsError: Weights are NaN or infinite.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        wanted = model.state_dict()
        starts = isinstance(runner._train_loop, BaseLoop) and not runner._resume
        patterns = self.new if starts else ()
        may_be_new = [key for key in wanted if _first_match(key, patterns)]
        assignment = plan_assignment(
            checkpoint.get("state_dict", checkpoint),
            wanted,
            where="the checkpoint" if runner._load_from is None else str(runner._load_from),
            may_stay_initial=may_be_new,
        )
        counts = Counter(_first_match(key, patterns) for key in assignment.left_initial)
        new = ", ".join(f"{pattern} ({count})" for pattern, count in counts.items()) or "none"
        print_log(
            f"All {len(assignment.copied)} tensors of the checkpoint are in the model. Tensors of "
            f"the model that are new and keep their initial values: {new}",
            logger="current",
            level=logging.INFO,
        )

    def before_train(self, runner: Runner) -> None:
        """Stop a training whose model was filled from nothing.

        Args:
            runner: The runner.

        Raises:
            ValueError: No checkpoint was loaded.
        """
        if not runner._has_loaded:
            raise ValueError(
                "StrictLoadHook: this training goes on with the weights of another one, and none "
                "were loaded. Say which with load_from; there is nothing here to --resume yet"
            )


def _first_match(key: str, patterns: Sequence[str]) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(key, pattern)), None)

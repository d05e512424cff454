"""What tests of data sets share."""

import numpy as np
import pytest


@pytest.fixture
def mmpose_scope():
    """Find classes as MMPose's configs do, and start NumPy's chance anew."""
    from mmengine.registry import DefaultScope, init_default_scope

    init_default_scope("mmpose")
    np.random.seed(0)
    with DefaultScope.overwrite_default_scope("mmpose"):
        yield

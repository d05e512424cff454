"""What all tests share."""

import functools
import importlib.util

import pytest


@pytest.fixture(autouse=True, scope="session")
def metafiles_of_toolboxes_are_read_once():
    """For each base such as ``mmdet::...`` MMEngine parses all metafiles of the toolbox."""
    if importlib.util.find_spec("mmengine") is None:  # the ops are tested without it, too
        yield
        return
    import mmengine.config.utils as utils

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "load", functools.cache(utils.load))
        yield

"""A window on the screen, where there is one."""

from __future__ import annotations

import cv2
import numpy as np

_QUIT_KEYS = (27, ord("q"))


def show_picture(title: str, picture: np.ndarray, seconds: float) -> bool:
    """Show a picture.

    Args:
        title: Of the window.
        picture: ``(H, W, 3)``, uint8, red green blue.
        seconds: How long to wait for a key; 0: until one is pressed.

    Returns:
        Whether to go on: false after Escape or q.

    Raises:
        OSError: There is no screen, or this OpenCV has no windows.
    """
    try:
        cv2.imshow(title, np.ascontiguousarray(picture[..., ::-1]))
        # waitKey(0) waits for ever, so a short wait is at least a millisecond.
        key = cv2.waitKey(max(1, round(1000 * seconds)) if seconds else 0)
    except cv2.error as error:
        raise OSError(
            f"no window can be opened here ({error.err}); leave out show, and look at the files"
        ) from None
    return key & 0xFF not in _QUIT_KEYS

"""What cannot be asked of a set of drawn hands, with objects or without."""

from __future__ import annotations

from ..drawn_set import refuse_negative, refuse_small_images


def refuse_impossible_hands(config: object, share: str) -> None:
    """Refuse a config of drawn hands that no set can follow.

    Args:
        config: With ``train_images``, ``val_images``, ``image_size``, ``orientation_spread`` and
            ``seed``.
        share: Name of its field that is a share of the images.

    Raises:
        ValueError: A count or the seed is negative, the share or the angle is out of its range, or
            images are too small.
    """
    refuse_negative(config)
    refuse_small_images(
        config.image_size, config.image_size, "a finger would be less than four pixels wide"
    )
    if not 0 <= getattr(config, share) <= 1:
        raise ValueError(f"{share} is a share of the images, 0..1, got {getattr(config, share)}")
    if not 0 < config.orientation_spread <= 180:
        raise ValueError(
            f"orientation_spread is an angle of 0..180 degrees, got {config.orientation_spread}"
        )

"""``init_cfg`` whose ``Pretrained`` cannot fail silently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from mmengine.model.weight_init import PretrainedInit


class StrictInit(ABC):
    """Mixin of a :class:`mmengine.model.BaseModule` that loads its own pretrained weights.

    MMEngine's ``Pretrained`` loads what fits and leaves the rest random. Here it goes to
    :meth:`load_pretrained`, which raises instead, and comes last, after all other initialisers.

    Attributes:
        pretrained_fields: Fields that ``Pretrained`` may have beside ``checkpoint``; all are
            passed to :meth:`load_pretrained`.
    """

    pretrained_fields: tuple[str, ...] = ("prefix",)

    @abstractmethod
    def load_pretrained(self, checkpoint: str, prefix: str | None = None) -> None:
        """Fill this module from a checkpoint, completely or not at all.

        Args:
            checkpoint: Path or URL.
            prefix: Where in the file the weights lie; ``None`` finds it.
        """

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; ``Pretrained`` comes last and is strict.

        Without ``init_cfg`` the initialisation of the constructor stays.

        Raises:
            ValueError: When ``Pretrained`` has no ``checkpoint``, or fields beyond those in
                ``pretrained_fields``.
        """
        configs = self.init_cfg or []
        configs = [configs] if isinstance(configs, Mapping) else list(configs)
        pretrained = [config for config in configs if _is_pretrained(config)]
        if self._is_init or not pretrained:
            super().init_weights()
            return
        whole = self.init_cfg
        self.init_cfg = [config for config in configs if not _is_pretrained(config)]
        try:
            super().init_weights()
        finally:
            self.init_cfg = whole
        for config in pretrained:
            self.load_pretrained(**self._pretrained_arguments(config))

    def _pretrained_arguments(self, config: Mapping) -> dict[str, Any]:
        arguments = {key: value for key, value in config.items() if key != "type"}
        known = {"checkpoint", *self.pretrained_fields}
        if "checkpoint" not in arguments or arguments.keys() - known:
            raise ValueError(
                f"{type(self).__name__}: init_cfg of type Pretrained takes checkpoint and, "
                f"optionally, {', '.join(self.pretrained_fields)}; got {sorted(arguments)}"
            )
        return arguments


def _is_pretrained(config: Mapping) -> bool:
    return config["type"] in ("Pretrained", "mmengine.Pretrained", PretrainedInit)

"""Learning rates and weight decay parameter by parameter, for the models of every toolbox."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Real
from typing import NamedTuple

from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import Tensor, nn

from mamba_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .weight_decay_rules import WEIGHT_DECAY_RULES

DEFAULTS = {"layer_decay_rate": 1.0, "weight_decay_rule": "principled", "custom_keys": {}}
MULTIPLIERS = ("lr_mult", "decay_mult")


class NamedParameter(NamedTuple):
    """A parameter of a model, with its full name and the module that holds it."""

    name: str
    parameter: Tensor
    owner: nn.Module


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Builds an optimizer with layer-wise learning rates and selective weight decay.

    ::

        optim_wrapper = dict(
            type="OptimWrapper",
            optimizer=dict(type="AdamW", lr=1e-4, weight_decay=0.05),
            constructor="mamba_mm.LayerDecayOptimWrapperConstructor",
            paramwise_cfg=dict(layer_decay_rate=0.9),
        )

    The learning rate of a parameter of the backbone is ``lr * rate ** (last - depth)``: depth 0 is
    the stem, ``last`` is everything after the last block. The backbone tells the depths
    (``get_layer_depth``, MMPretrain's convention). All else, necks and heads, trains at ``lr``.

    There is one parameter group for each pair of rate and decay, with ``group_name``,
    ``param_names`` and ``lr_scale``. Schedulers of MMEngine that multiply keep the ratios of the
    rates. One that approaches a fixed ``eta_min`` does not: give ``eta_min_ratio``.

    Frozen parameters are left out, as MMEngine does. A parameter that several modules share is
    optimised once, under the first of its names.

    Args:
        optim_wrapper_cfg: As in MMEngine; its optimizer must say ``lr`` and ``weight_decay``.
        paramwise_cfg: A dict, all of it optional.

            - ``layer_decay_rate``: Ratio of the rates of neighbouring depths, in (0, 1]. 1, the
              default, means no layer decay, and works with any model.
            - ``weight_decay_rule``: Which parameters do not decay. ``"principled"``, the default:
              norms, biases, position embeddings, class tokens and the recurrence's ``A_log``,
              ``D`` and step-size bias. The official recipes, as they really are:
              ``"vmamba_classification"``, ``"vmamba_dense"``, ``"vim_classification"``,
              ``"vim_dense"`` (:data:`mamba_mm.engine.weight_decay_rules.WEIGHT_DECAY_RULES`).
            - ``custom_keys``: Exceptions, as in MMEngine: the longest key that is a part of a
              parameter's name holds. ``lr_mult`` multiplies the learning rate that the parameter
              has anyway. ``decay_mult`` times ``weight_decay`` is its decay, whatever the rule
              says; without it the rule holds, where MMEngine forgets its rules.

    Raises:
        TypeError: ``paramwise_cfg`` or ``custom_keys`` is no dict.
        ValueError: A setting is unknown or out of range, ``lr`` or ``weight_decay`` is missing, or,
            when called, nothing trains.
        AttributeError: When called with a rate below 1 on a model without ``backbone``, or whose
            backbone has no ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None) -> None:
        # MMEngine ignores an empty paramwise_cfg, so ours always has the defaults.
        super().__init__(optim_wrapper_cfg, _complete(paramwise_cfg))
        missing = [name for name in ("lr", "weight_decay") if self.optimizer_cfg.get(name) is None]
        if missing:
            raise ValueError(
                f"{type(self).__name__}: the optimizer's {' and '.join(missing)} must be given, "
                f"got {dict(self.optimizer_cfg)}; write weight_decay=0 for none"
            )
        self.rule = WEIGHT_DECAY_RULES[self.paramwise_cfg["weight_decay_rule"]]

    def add_params(self, params: list[dict], module: nn.Module) -> None:
        """Append the parameter groups of a model.

        Args:
            params: The list of groups that the optimizer is built from.
            module: The model.
        """
        layer_scale = _layer_scales(module, self.paramwise_cfg["layer_decay_rate"])
        groups: dict[tuple[float, float], dict] = {}
        for item in trained_parameters(module):
            custom = self._custom(item.name)
            scale = layer_scale(item.name) * custom.get("lr_mult", 1.0)
            spared = self.rule.spares(*item)
            decay = self.base_wd * custom.get("decay_mult", 0.0 if spared else 1.0)
            group = groups.setdefault((scale, decay), self._new_group(scale, decay))
            group["params"].append(item.parameter)
            group["param_names"].append(item.name)
        if not groups:
            raise ValueError(
                f"{type(self).__name__}: no parameter of {type(module).__name__} requires a "
                "gradient, there is nothing to train; check frozen_stages"
            )
        self._warn_of_useless_keys(module)
        print_log(_table(groups.values()), logger="current", level=logging.INFO)
        params.extend(groups.values())

    def _new_group(self, scale: float, decay: float) -> dict:
        return {
            "params": [],
            "param_names": [],
            "group_name": f"lr_scale_{scale:.6g}_decay_{decay:.6g}",
            "lr_scale": scale,
            "lr": self.base_lr * scale,
            "weight_decay": decay,
        }

    def _custom(self, name: str) -> Mapping[str, float]:
        """Return the multipliers that ``custom_keys`` has for a parameter."""
        keys = [key for key in self.paramwise_cfg["custom_keys"] if _matches(key, name)]
        if not keys:
            return {}
        return self.paramwise_cfg["custom_keys"][min(keys, key=lambda key: (-len(key), key))]

    def _warn_of_useless_keys(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_parameters()]
        keys = self.paramwise_cfg["custom_keys"]
        useless = [key for key in keys if not any(_matches(key, name) for name in names)]
        if useless:
            print_log(
                f"{type(self).__name__}: no parameter's name contains these custom_keys: "
                f"{', '.join(map(repr, useless))}",
                logger="current",
                level=logging.WARNING,
            )


def trained_parameters(model: nn.Module) -> Iterator[NamedParameter]:
    """Iterate over the parameters of a model that require a gradient, each once.

    Args:
        model: The model.
    """
    seen: set[Tensor] = set()
    for prefix, owner in model.named_modules():
        for own_name, parameter in owner.named_parameters(prefix, recurse=False):
            if parameter.requires_grad and parameter not in seen:
                seen.add(parameter)
                yield NamedParameter(own_name, parameter, owner)


def find_backbones(model: nn.Module) -> dict[str, nn.Module]:
    """Find the modules called ``backbone`` in a model, by the prefix of their parameters' names.

    A detector has one; one that learns from another holds several, such as ``student.backbone``.
    A backbone within a backbone belongs to the outer one.

    Args:
        model: The model.
    """
    backbones: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        inside_another = name.startswith(tuple(backbones))
        if name.rpartition(".")[2] == "backbone" and not inside_another:
            prefix, backbone = _unwrap(f"{name}.", module)
            backbones[prefix] = backbone
    return backbones


def _unwrap(prefix: str, module: nn.Module) -> tuple[str, nn.Module]:
    """Look into wrappers: MMEngine can distribute the parts of a model, PyTorch compile them."""
    while True:
        if is_model_wrapper(module):
            inner = "module"
        elif "_orig_mod" in module._modules:
            inner = "_orig_mod"
        else:
            return prefix, module
        prefix, module = f"{prefix}{inner}.", getattr(module, inner)


def _layer_scales(model: nn.Module, rate: float) -> Callable[[str], float]:
    """Return the function from a parameter's name to the scale of its learning rate."""
    if rate == 1:
        return lambda name: 1.0
    backbones = find_backbones(model)
    if not backbones:
        raise AttributeError(
            f"layer_decay_rate={rate}: {type(model).__name__} has no `backbone` whose layers could "
            "learn at different rates; set it to 1"
        )
    for prefix, backbone in backbones.items():
        if not hasattr(backbone, "get_layer_depth"):
            raise AttributeError(
                f"layer_decay_rate={rate}: {type(backbone).__name__}, the model's "
                f"`{prefix.rstrip('.')}`, has no `get_layer_depth(param_name, prefix)`, which "
                "tells how deep a parameter lies; set layer_decay_rate to 1, or give it one"
            )

    def scale(name: str) -> float:
        for prefix, backbone in backbones.items():
            if name.startswith(prefix):
                depth, num_layers = backbone.get_layer_depth(name, prefix)
                return float(rate ** (num_layers - 1 - depth))
        return 1.0

    return scale


def _matches(key: str, name: str) -> bool:
    """Tell whether a custom key is a part of a name, as MMEngine does.

    A leading dot also matches where the model itself holds the parameter.
    """
    return key in (name if "." in name else f".{name}")


def _complete(paramwise_cfg: Mapping | None) -> dict:
    """Return the settings with defaults, checked."""
    given = {} if paramwise_cfg is None else paramwise_cfg
    if not isinstance(given, Mapping):
        raise TypeError(f"paramwise_cfg must be a dict or None, got {given!r}")
    if unknown := sorted(set(given) - set(DEFAULTS)):
        raise ValueError(
            f"paramwise_cfg: mamba_mm.LayerDecayOptimWrapperConstructor does not know "
            f"{', '.join(map(repr, unknown))}; it knows {', '.join(DEFAULTS)}. Where a base config "
            "has them, write paramwise_cfg=dict(_delete_=True, ...); for learning rates of single "
            "layers, such as the offsets of deformable convolutions, use custom_keys"
        )
    settings = DEFAULTS | dict(given)
    rate, rule = settings["layer_decay_rate"], settings["weight_decay_rule"]
    if not _is_number(rate) or not 0 < rate <= 1:
        raise ValueError(f"paramwise_cfg: layer_decay_rate must lie in (0, 1], got {rate!r}")
    if not isinstance(rule, str) or rule not in WEIGHT_DECAY_RULES:
        raise ValueError(
            f"paramwise_cfg: unknown weight_decay_rule {rule!r}; known: "
            f"{', '.join(WEIGHT_DECAY_RULES)}"
        )
    _check_custom_keys(settings["custom_keys"])
    return settings


def _check_custom_keys(custom_keys: Mapping) -> None:
    if not isinstance(custom_keys, Mapping):
        raise TypeError(f"paramwise_cfg: custom_keys must be a dict, got {custom_keys!r}")
    for key, multipliers in custom_keys.items():
        well_formed = isinstance(multipliers, Mapping) and all(
            name in MULTIPLIERS and _is_number(value) and value >= 0
            for name, value in multipliers.items()
        )
        if not well_formed:
            raise ValueError(
                f"paramwise_cfg: custom_keys[{key!r}] must be a dict of "
                f"{' and '.join(MULTIPLIERS)} with numbers that are not negative, "
                f"got {multipliers!r}"
            )


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _table(groups: Iterable[dict]) -> str:
    """Lay out the groups, one a line, for the log."""
    titles = f"{'lr scale':>10} {'lr':>10} {'decay':>10} {'tensors':>8} first parameter"
    lines = ["Parameter groups:", titles]
    for group in sorted(groups, key=lambda group: (group["lr_scale"], group["weight_decay"])):
        numbers = [f"{group[name]:10.4g}" for name in ("lr_scale", "lr", "weight_decay")]
        names = group["param_names"]
        lines.append(f"{' '.join(numbers)} {len(names):8d} {names[0]}")
    return "\n".join(lines)

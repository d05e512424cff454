"""Arguments for the route scan, and the scan itself step by step in float64."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import route_definitions as walks_of
import torch
import torch.nn.functional as F
from route_definitions import back, local_layer, moves, system, table
from scan_cases import SUMS, leaves, relative_error

from mamba_mm.ops import route_scan
from mamba_mm.ops.routes import ROUTE_SETS, RouteSet, dynamic_index, multi_head

NAMES = ("x", "params", "A", "D", "delta_bias", "delta_weight", "delta", "codes")
FLOAT32 = 3e-6  # of the largest value: a few roundings of float32
ROUTE_SUMS = (*SUMS, "ddelta_weight", "dcodes")
# The fast exponential errs to one side, which the gradient of a slow decay adds up over time.
SLACK = {"dA": 4}


@dataclass(frozen=True)
class Walked:
    """A route set, and its walks over H x W as :mod:`route_definitions` writes them."""

    routes: RouteSet | Callable[[int], RouteSet]  # or a function of the number of channels
    walks: Callable[[int, int], list[list]]


def preset(name, branch=0):
    routes = ROUTE_SETS[name]
    return Walked(routes.on_branch(branch), lambda h, w: system(name, h, w)[branch])


def layer(name, index, signs, middle=False):
    return Walked(ROUTE_SETS[name][index], lambda h, w: local_layer(signs, h, w, middle))


def own(walks, routes, **fields):
    return Walked(RouteSet(routes, **fields), walks)


def heads(*names):
    def walks(height, width):
        return [walk for name in names for walk in system(name, height, width)[0]]

    return Walked(lambda dim: multi_head(names, dim), walks)


def crossing(height, width):
    return system("cross", height, width)[0]


def there_and_back_joined(height, width):
    window, column = walks_of.window(height, width, 2), walks_of.col(height, width)
    return [window + back(column), walks_of.row(height, width)]


ONE_MAP = [
    "cross",
    "hamba",
    "vim",
    "atrous2",
    "serpentine",
    "fer",
    "lightm_unet",
    "mambatrack",
    "hydra",
    "bidirectional",
    "unidirectional",
]
# What the fused op runs.
FUSED = {name: preset(name) for name in ONE_MAP} | {
    "msvmamba_v1, full map": preset("msvmamba_v1", 0),
    "msvmamba_v1, half map": preset("msvmamba_v1", 1),
    "msvmamba_v2, full map": preset("msvmamba_v2", 0),
    "msvmamba_v2, half map": preset("msvmamba_v2", 1),
    "one group": own(
        lambda h, w: [walks_of.row(h, w), back(walks_of.col(h, w))],
        ["row", "~col"],
        param_group=(0, 0),
    ),
    "two groups, twice each": own(
        crossing, ["row", "col", "~row", "~col"], param_group=(1, 0, 1, 0)
    ),
    "mean": own(crossing, ["row", "col", "~row", "~col"], merge="mean"),
    "shifted, with pads": own(
        lambda h, w: [walks_of.snake_row(h, w), back(walks_of.window(h, w, 2))],
        ["snake_row", "~window(2)"],
        shift=1,
    ),
    "joined, of unequal lengths, with pads": own(
        there_and_back_joined, ["window(2)", "~col", "row"], join=((0, 1), (2,))
    ),
    "some tokens": own(
        lambda h, w: [walks_of.phase(h, w, 3, 1, 0, "col")], ["phase(3,1,0,col)"], merge="mean"
    ),
    "input only": own(
        lambda h, w: [walks_of.snake_row(h, w), back(walks_of.col(h, w))],
        ["snake_row", "~col"],
        permute="input_only",
    ),
    "input only, shifted": own(
        lambda h, w: [walks_of.zigzag(h, w)], ["zigzag"], permute="input_only", shift=1
    ),
    "two heads": heads("cross", "atrous2"),
}
UNFUSED = {name: preset(name) for name in ("mhsvm_c", "mhsvm_x", "mhsvm_s", "mhsvm_z")} | {
    "local_vim_small": preset("local_vim_small"),
    "local_vim_tiny": layer("local_vim_tiny", 1, "h' 2' 7 7'"),
    "local_vim_tiny_middle": layer("local_vim_tiny_middle", 0, "h v' 7 7'", middle=True),
    "local_vmamba_tiny": layer("local_vmamba_tiny", 4, "h h' v' 2'"),
    "local_vmamba_small": layer("local_vmamba_small", 0, "h v v' 7'"),
    "codes that walk": own(
        lambda h, w: [walks_of.spiral(h, w), back(walks_of.spiral(h, w))],
        ["spiral", "~spiral"],
        codes="step",
    ),
    "two gated heads": heads("mhsvm_x", "mhsvm_s"),
}
SETS = FUSED | UNFUSED
# Presets that are other names of the same routes are left out.
DISTINCT = list({case.routes: name for name, case in reversed(FUSED.items())}.values())[::-1]


@dataclass(frozen=True)
class RouteCase:
    name: str = "cross"
    size: tuple[int, int] = (5, 7)
    batch: int = 2
    dim: int = 20
    states: int = 2
    rank: int | None = 3  # without one, delta is given whole
    options: tuple[str, ...] = ("D", "delta_bias")
    softplus: bool = True
    dtype: torch.dtype = torch.float32
    seed: int = 0
    delta_shift: float = -2.0
    routes: RouteSet = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        routes = SETS[self.name].routes
        chosen = routes if isinstance(routes, RouteSet) else routes(self.dim)
        object.__setattr__(self, "routes", chosen)

    @property
    def tokens(self):
        return self.size[0] * self.size[1] + self.routes.extra_tokens

    def steps(self):
        return SETS[self.name].walks(*self.size)

    def arguments(self):
        """New tensors, the same ones in every call; maps as (B, D, H, W) where it can be."""
        return random_arguments(self, self.tokens, *self.shape_of_tokens())

    def shape_of_tokens(self):
        return (self.tokens,) if self.routes.extra_tokens else self.size

    def keywords(self):
        """What else ``route_scan`` takes."""
        keywords = {"routes": self.routes, "delta_softplus": self.softplus}
        if self.routes.extra_tokens:
            keywords["size"] = self.size
        if self.routes.merge == "per_route_gated":
            keywords["gates"] = gates_of(self)
        return keywords


def gates_of(case):
    generator = torch.Generator().manual_seed(case.seed + 7)
    shape = (case.batch, case.routes.num_sequences, case.dim, 1)
    return torch.rand(shape, generator=generator, dtype=torch.float64).float()


def random_arguments(case, tokens, *shape):
    generator = torch.Generator().manual_seed(case.seed)

    def randn(*sizes):
        return torch.randn(*sizes, dtype=torch.float64, generator=generator)

    groups = case.routes.num_groups
    slices = set(case.routes.channel_slices or [(0, case.dim)])
    width = case.dim // len(slices)
    rank = case.rank or 0
    values = {
        "x": randn(case.batch, case.dim, tokens),
        "params": randn(case.batch, groups, rank + 2 * case.states, tokens),
        "A": -0.1 - 4 * randn(groups, width, case.states).abs(),
        "D": randn(groups, width),
        "delta_bias": randn(groups, width) / 2 + case.delta_shift,
        "delta_weight": randn(groups, width, rank) / max(rank, 1) ** 0.5,
        "delta": randn(case.batch, groups, width, tokens),
        "codes": randn(5, case.states),
    }
    if not case.softplus:
        # Negative step sizes would make the states grow.
        values["params"][:, :, :rank].abs_()
        values["delta_weight"] = values["delta_weight"].abs() / 4
        values["delta"] = F.softplus(values["delta"] - 1)
        values["delta_bias"] = values["delta_bias"].abs() / 4
    left_out = {"delta" if case.rank else "delta_weight"}
    left_out |= {"D", "delta_bias"} - set(case.options)
    if case.routes.codes is None:
        left_out.add("codes")
    for name in ("x", "params", "delta"):
        values[name] = values[name].to(case.dtype).unflatten(-1, shape)
    # Parameters stay in float32 as in the models.
    wide = torch.promote_types(case.dtype, torch.float32)
    return {
        name: None
        if name in left_out
        else values[name]
        if name in ("x", "params", "delta")
        else values[name].to(wide)
        for name in NAMES
    }


def call(arguments, function=route_scan, **keywords):
    given = dict(arguments)
    positional = [given.pop(name) for name in NAMES[:5]]
    return function(*positional, **given, **keywords)


def slow_route_scan(arguments, walks, routes, codes_of=None, softplus=True, gates=None):
    """The definition: one step after the other, in the dtype of the arguments.

    ``walks`` has, for every sequence, the token that each step reads, -1 where it is padded;
    ``codes_of`` the move that led to it.
    """
    values = {name: t for name, t in arguments.items()}
    x = values["x"].flatten(2)
    tokens = x.shape[2]
    slices = routes.channel_slices or [(0, x.shape[1])] * len(walks)
    outputs = []
    for k, walk in enumerate(walks):
        first, last = slices[k]
        group = routes.param_group[k]
        own = {name: t if t is None else t[group] for name, t in values.items() if name in ROWS}
        for name in ("params", "delta"):
            own[name] = None if values[name] is None else values[name][:, group].flatten(2)
        own["x"] = x[:, first:last]
        codes = None if codes_of is None else values["codes"][codes_of[k]]
        outputs.append(_restored(own, walk, codes, tokens, routes, softplus))
    if gates is not None:
        outputs = [y * gates[:, k] for k, y in enumerate(outputs)]
    merged = []
    for channels in sorted(set(slices)):
        mine = [y for y, c in zip(outputs, slices, strict=True) if c == channels]
        merged.append(_merged(mine, routes))
    return torch.cat(merged, dim=1).reshape(arguments["x"].shape)


ROWS = ("A", "D", "delta_bias", "delta_weight")


def _restored(own, walk, codes, tokens, routes, softplus):
    """Scan one sequence and put its outputs where they belong."""
    A = own["A"]
    states = A.shape[1]
    rank = own["params"].shape[1] - 2 * states
    # Behind the last token, where Python finds index -1, there are zeros to read.
    x, params = _with_zeros(own["x"]), _with_zeros(own["params"])
    delta = None if own["delta"] is None else _with_zeros(own["delta"])
    h = torch.zeros(*x[0].shape, states, dtype=x[0].dtype)
    none = torch.zeros_like(x[0])
    late = none
    at = [none] * tokens
    for t, token in enumerate(walk):
        u, place = x[token], t if routes.permute == "input_only" else token
        rho, B, C = params[place].split((rank, states, states), dim=1)
        dt = rho @ own["delta_weight"].T if delta is None else delta[place]
        if own["delta_bias"] is not None:
            dt = dt + own["delta_bias"]
        if softplus:
            dt = F.softplus(dt)
        if codes is not None:
            B = B + codes[t]
        h = torch.exp(dt[:, :, None] * A) * h + (dt * u)[:, :, None] * B[:, None]
        y = (h * C[:, None]).sum(2)
        if own["D"] is not None:
            y = y + own["D"] * u
        if routes.shift:
            y, late = late, y
        if token >= 0:
            at[token] = y if at[token] is none else at[token] + y
    return torch.stack(at, dim=2)


def _with_zeros(t):
    return [*t.unbind(-1), torch.zeros_like(t[..., 0])]


def _merged(outputs, routes):
    total = outputs[0]
    for y in outputs[1:]:
        total = total + y
    if routes.merge == "mean":
        return total / len(outputs)
    if routes.merge == "gated":
        each = torch.stack(outputs)
        above = (each - each.amin(0)).mean(0)
        return total * F.relu(each.std(0) / (above + 1e-5) - routes.threshold)
    return total


def gradients_of(y, arguments, seed=1):
    """The output and the gradients of a random weighting of it."""
    generator = torch.Generator().manual_seed(seed)
    # Rounded to what bfloat16 holds, so that no dtype changes the weights.
    weight = torch.randn(y.shape, generator=generator, dtype=torch.float64).bfloat16().to(y.dtype)
    given = {name: t for name, t in arguments.items() if t is not None and t.requires_grad}
    if not y.requires_grad:  # a definition in which no step reaches an output
        return {"y": y, **{f"d{name}": torch.zeros_like(t) for name, t in given.items()}}
    gradients = torch.autograd.grad(
        (y * weight).sum(), list(given.values()), allow_unused=True, materialize_grads=True
    )
    results = {f"d{name}": g for name, g in zip(given, gradients, strict=True)}
    return {"y": y.detach(), **results}


def run(case, arguments=None, function=route_scan, **keywords):
    """Output and gradients of ``route_scan``."""
    arguments = leaves(arguments or case.arguments())
    y = call(arguments, function, **case.keywords() | keywords)
    assert y.shape == arguments["x"].shape
    return gradients_of(y, arguments)


@functools.cache
@functools.lru_cache(maxsize=256)  # one instruction set after the other asks for it
def expected(case):
    """Output and gradients of the definition, in float64."""
    arguments = leaves(case.arguments(), torch.float64)
    steps = case.steps()
    walks = [table(walk, *case.size) for walk in steps]
    codes_of = [moves(walk) for walk in steps] if case.routes.codes else None
    gates = case.keywords().get("gates")
    y = slow_route_scan(
        arguments,
        walks,
        case.routes,
        codes_of,
        case.softplus,
        None if gates is None else gates.double(),
    )
    return gradients_of(y, arguments)


def errors(actual, reference):
    """The relative error of the output and of every gradient."""
    assert actual.keys() == reference.keys()
    return {
        name: relative_error(actual[name], reference[name], 1.0 if name in ROUTE_SUMS else 1e-30)
        for name in reference
    }


def assert_close(actual, reference, tolerance, what):
    found = errors(actual, reference)
    wrong = {n: error for n, error in found.items() if not error <= tolerance * SLACK.get(n, 1)}
    assert not wrong, f"{wrong} over {tolerance} for {what}"


def assert_same_bits(actual, reference, what=""):
    assert actual.keys() == reference.keys()
    for name, t in reference.items():
        assert torch.equal(actual[name], t), f"{name} {what}"


def assert_route_exact(case, tolerance=FLOAT32, **keywords):
    assert_close(run(case, **keywords), expected(case), tolerance, case)


@dataclass(frozen=True)
class DynamicCase:
    """Orders of the tokens, of one length for all samples, for a dynamic set."""

    orders: tuple[tuple[int, ...], ...]  # one for all samples, or one for each
    tokens: int
    extra: bool = False
    like: RouteCase = RouteCase()

    @property
    def routes(self):
        suffix = ":middle_then_reverse" if self.extra else ""
        return RouteSet([f"row{suffix}", f"~row{suffix}"], merge="mean", dynamic=True)

    def arguments(self):
        case = replace(self.like, name="bidirectional")
        tokens = self.tokens + self.extra
        return random_arguments(case, tokens, tokens)

    def keywords(self):
        order = torch.tensor(self.orders, dtype=torch.int64)
        order = order[0] if len(self.orders) == 1 else order
        return {"routes": self.routes, "index": dynamic_index(self.routes, order, self.tokens)}

    def reference(self):
        arguments = leaves(self.arguments(), torch.float64)
        samples = []
        for b in range(self.like.batch):
            one = {
                name: t[b : b + 1] if name in ("x", "params", "delta") and t is not None else t
                for name, t in arguments.items()
            }
            order = list(self.orders[b % len(self.orders)])
            if self.extra:
                order.insert(len(order) // 2, self.tokens)
            walks = [order, back(order)]
            samples.append(slow_route_scan(one, walks, self.routes))
        return gradients_of(torch.cat(samples), arguments)

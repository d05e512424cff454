"""Repeat the ablations of Hamba over seeds, and print them beside the published ones.

Each variant is the recipe without a part of the network, or with more or less of it (--list says
which there are). Each is trained with each seed by tools/train.py on hands that this project draws,
and compared with the full model seed by seed. Finished trainings are kept: an interrupted call can
simply be repeated, and one with more seeds or variants adds to it. The work directory gets
ablation.md, ablation.csv and ablation.json after every training anew, and ablation.png at the end.

The published figures are those of another network on photographs. They have columns of their own.

Examples:
    python tools/analysis_tools/ablate_hamba.py --jobs 2
    python tools/analysis_tools/ablate_hamba.py --variants no-gcn no-mamba --seeds 0 1 2 3 4
    python tools/analysis_tools/ablate_hamba.py --variants --add deep model.head.gss.ssm_depth=2
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stdout
from pathlib import Path

import torch
from mean_pose_errors import build_dataset, errors_of, mean_hand
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mamba_mm.ablation.ablation_plot import write_plot
from mamba_mm.ablation.measured import PREFIX, Measured, last_metrics
from mamba_mm.ablation.report import Ablation, markdown, write_csv, write_json
from mamba_mm.ablation.variants import FULL, METRICS, VARIANTS, Variant, own_variant, select
from mamba_mm.datasets.toy_hands import ToyHandsConfig, write_toy_hands
from mamba_mm.datasets.toy_hands.folder import STAMP
from mamba_mm.measuring.recipes import (
    as_cfg_options,
    differences,
    options_for_epochs,
    read_config,
    recipe_of,
    with_options,
)
from mamba_mm.measuring.repeated_training import (
    DATA_KEY,
    Launch,
    Training,
    end_of,
    one_call_at_a_time,
    refuse_a_changed_config,
    refuse_another_recipe,
    refuse_repeated,
)
from mamba_mm.measuring.side_by_side import Processes, threads_of_each, train_side_by_side
from mamba_mm.measuring.training_command import (
    add_training_arguments,
    drawn_data,
    exit_status_of,
    say,
)
from mamba_mm.models.body_models import MANOLayer

ROOT = Path(__file__).resolve().parents[2]
TRAIN_SCRIPT = ROOT / "tools" / "train.py"
RECIPE = ROOT / "configs/mmpose/hamba/hamba_vmamba-nano_toy-hands-ablation-64x48.py"
DATA_VARIABLE = "MAMBA_MM_HANDS_DATA"  # which the configs of drawn hands read
# Small images nearly from the front: in a minute a network learns how fingers bend, or nothing.
DRAWN = dict(train_images=1600, val_images=200, image_size=64, orientation_spread=15.0)


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--variants",
        nargs="*",
        default=[variant.name for variant in VARIANTS],
        metavar="NAME",
        help="which to train beside the full model (default: all)",
    )
    parser.add_argument(
        "--add",
        nargs="+",
        action="append",
        default=[],
        metavar=("NAME", "OPTION=VALUE"),
        help="a variant of your own: a name, and how it differs, as for --cfg-options",
    )
    parser.add_argument("--list", action="store_true", help="print the variants, train nothing")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="trainings at a time, which share the cores (default: %(default)s)",
    )
    parser.add_argument(
        "--metric",
        choices=METRICS,
        default="PA-MPJPE",
        help="of the first table and the picture (default: %(default)s)",
    )
    parser.add_argument(
        "--recipe",
        type=Path,
        default=RECIPE,
        metavar="CONFIG",
        help="what the full model is and how it is trained (default: a minute on a core)",
    )
    add_training_arguments(parser, "variants", "hands", Path("data/toy_hands_ablation"))
    for name, default in DRAWN.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(default),
            metavar="N",
            help=f"of the drawn hands (default: {default:g})",
        )
    parser.add_argument(
        "--work-dir",
        type=Path,
        default=Path("work_dirs/ablation"),
        metavar="FOLDER",
        help="(default: %(default)s)",
    )
    return parser.parse_args(arguments)


def listing() -> str:
    """Return a line for each variant."""
    return "\n".join(
        f"{v.name:24} {v.meaning}{f'; paper: {v.paper_name}' if v.paper_name else ''}"
        for v in VARIANTS
    )


def chosen_variants(args: argparse.Namespace) -> list[Variant]:
    """Return the variants to train, the full one first.

    Raises:
        ValueError: A name is unknown, taken or given twice, or one's own variant has no options.
    """
    own = [own_variant(name, options) for name, *options in args.add]
    refuse_repeated("variant", [variant.name for variant in own])
    return [*select(args.variants), *own]


def common_options(config: Config, args: argparse.Namespace) -> list[str]:
    """Return the ``--cfg-options`` of all trainings; the user's own come last and hold."""
    options = {}
    if args.epochs is not None:
        options = options_for_epochs(config, args.epochs)
        options["train_cfg.val_interval"] = args.epochs
    return [*as_cfg_options(options), *args.cfg_options]


def check_recipe(config: Config, path: Path) -> None:
    """Refuse a recipe whose head has none of the parts.

    Raises:
        ValueError: It trains another head.
    """
    head = config.get("model", {}).get("head", {}).get("type", "none")
    if head.split(".")[-1] != "HambaHead":
        raise ValueError(f"{path} trains the head {head}; --recipe needs a mamba_mm.HambaHead")


def refuse_without_effect(recipes: Mapping[str, Mapping[str, str]]) -> None:
    """Refuse a variant that is the full model.

    Args:
        recipes: By name of the variant, the full one first.

    Raises:
        ValueError: Its options change nothing in the recipe.
    """
    for name, recipe in recipes.items():
        if name != FULL.name and not differences(recipes[FULL.name], recipe):
            raise ValueError(
                f"{name} changes nothing in this recipe, which is so already; leave it out with "
                "--variants"
            )


def drawn_hands(args: argparse.Namespace, recipe: Mapping[str, str]) -> str:
    """Draw the hands if the recipe reads them; see :func:`drawn_data`."""
    return drawn_data(
        args.data / STAMP,
        [recipe],
        {name: getattr(args, name) for name in DRAWN},
        lambda asked: write_toy_hands(args.data, ToyHandsConfig(**(DRAWN | asked)), report=say),
        "name another folder with --data",
    )


def parameters_of(config: Config) -> int:
    """Build a config's model and count its parameters."""
    init_default_scope(config.default_scope)
    return sum(parameter.numel() for parameter in MODELS.build(config.model).parameters())


@torch.no_grad()
def mean_hand_errors(config: Config) -> dict[str, float]:
    """Return what the mean hand of the training set would score for every image, by metric."""
    init_default_scope(config.default_scope)
    layer = MANOLayer(**config.model.head.output_model.get("mano", {})).double()
    with redirect_stdout(None):  # COCO's reader prints five lines a set
        train = build_dataset(config.train_dataloader.dataset)
        held_out = build_dataset(config.val_dataloader.dataset)
    errors = errors_of(layer, *mean_hand(train), held_out)
    return {name.removeprefix(PREFIX): value for name, value in errors.items()}


class Report:
    """What the trainings gave so far, and the files that say it."""

    def __init__(
        self,
        variants: Sequence[Variant],
        parameters: Mapping[str, int],
        args: argparse.Namespace,
        data: str,
        mean_hand: Mapping[str, float],
    ) -> None:
        self.variants, self.parameters, self.args = variants, parameters, args
        self.data, self.mean_hand = data, mean_hand
        self.runs: dict[str, dict[int, dict[str, float]]] = {v.name: {} for v in variants}
        self.failed: list[str] = []

    def add(self, training: Training, *, done: bool) -> str:
        """Take a training in; return what is to be said of it."""
        name = training.folder.parent.name
        title = f"{name}, seed {training.seed}"
        if not done:
            self.failed.append(title)
            return f"failed. The end of {training.log}:\n{end_of(training.log)}\n"
        metrics = last_metrics(training.folder)
        value = f"{self.args.metric} {metrics[self.args.metric]:.3f}"
        if not all(map(math.isfinite, metrics.values())):
            self.failed.append(title)
            return f"failed, a metric is not finite: {value}"
        self.runs[name][training.seed] = metrics
        return value

    def write(self, *, picture: bool) -> str | None:
        """Write the files unless the full model has no run yet; return the tables."""
        if not self.runs[FULL.name]:
            return None
        args = self.args
        failures = [f"{title}: the training failed, see its train.log." for title in self.failed]
        measured = [
            Measured(v, self.parameters[v.name], dict(sorted(self.runs[v.name].items())))
            for v in self.variants
            if self.runs[v.name]
        ]
        ablation = Ablation(measured, self.data, args.metric, self.mean_hand, failures)
        text = markdown(ablation) + "\n"
        (args.work_dir / "ablation.md").write_text(text, encoding="utf-8")
        write_csv(args.work_dir / "ablation.csv", ablation)
        circumstances = {
            "recipe": str(args.recipe),
            "seeds": args.seeds,
            "epochs": args.epochs,
            "cfg_options": args.cfg_options,
            "data": str(args.data),
            "failed": self.failed,
        }
        write_json(args.work_dir / "ablation.json", ablation, circumstances)
        if picture:
            write_plot(args.work_dir / "ablation.png", ablation)
        return text


def plan(
    variants: Sequence[Variant], args: argparse.Namespace
) -> tuple[list[Training], dict[str, Config]]:
    """Check all variants and draw the data.

    Returns:
        The trainings, the first seed of all variants, then the second of all, and so on; and the
        config of each variant.

    Raises:
        ValueError: A recipe or an option is not usable.
        OtherRecipeError: A folder holds a training of another recipe.
    """
    base = read_config(args.recipe)
    check_recipe(base, args.recipe)
    common = common_options(base, args)
    # The variant's own come last: what it takes away must not come back.
    options = {v.name: (*common, *v.cfg_options) for v in variants}
    configs = {
        name: with_options(read_config(args.recipe), given) for name, given in options.items()
    }
    recipes = {name: recipe_of(config) for name, config in configs.items()}
    refuse_without_effect(recipes)
    data = drawn_hands(args, recipes[FULL.name])
    trainings = [
        Training(
            config=args.recipe,
            seed=seed,
            folder=args.work_dir / v.name / f"seed-{seed}",
            recipe={**recipes[v.name], DATA_KEY: data},
            options=options[v.name],
        )
        for seed in args.seeds
        for v in variants
    ]
    for training in trainings:
        refuse_another_recipe(training)
    return trainings, configs


def ablate(args: argparse.Namespace, launch: Launch | None = None) -> bool:
    """Check, draw the data, train and report.

    Args:
        args: Of the command line.
        launch: How to run a command, if not as a process.

    Returns:
        Whether all trainings have been done to their ends.
    """
    processes = Processes(threads_of_each(args.jobs))
    refuse_repeated("seed", args.seeds)
    if not args.recipe.is_file():
        raise FileNotFoundError(f"there is no config {args.recipe} (looked from {Path.cwd()})")
    variants = chosen_variants(args)
    os.environ[DATA_VARIABLE] = str(args.data.resolve())
    trainings, configs = plan(variants, args)
    full = configs[FULL.name]
    drawn = bool(trainings[0].recipe[DATA_KEY])
    report = Report(
        variants,
        {name: parameters_of(config) for name, config in configs.items()},
        args,
        "drawn hands" if drawn else full.train_dataloader.dataset.type,
        mean_hand_errors(full) if drawn else {},
    )
    finished = [training for training in trainings if training.finished]
    for training in finished:
        report.add(training, done=True)
    waiting = [training for training in trainings if not training.finished]
    say(f"{len(trainings)} trainings, {len(finished)} of them done before")
    ended = train_side_by_side(
        *(waiting, TRAIN_SCRIPT, args.jobs, launch or processes),
        check=refuse_a_changed_config,
        stop=processes.stop,
    )
    start = time.monotonic()
    with one_call_at_a_time(args.work_dir), closing(ended):
        for number, (training, done) in enumerate(ended, start=1):
            title = f"{training.folder.parent.name}, seed {training.seed}"
            line = report.add(training, done=done)
            minutes = (time.monotonic() - start) / 60
            say(f"[{number}/{len(waiting)}, {minutes:.1f} min] {title}: {line}")
            report.write(picture=False)
    if text := report.write(picture=True):
        say(f"\n{text}\n{args.work_dir}: ablation.md, ablation.csv, ablation.json, ablation.png")
    return not report.failed


def main(arguments: Sequence[str] | None = None, launch: Launch | None = None) -> int:
    """Ablate; return the exit status."""
    args = parse_args(arguments)
    if args.list:
        print(listing())
        return 0
    return exit_status_of(lambda: ablate(args, launch))


if __name__ == "__main__":
    # Ended from outside, it must not leave a training behind that nobody waits for.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())

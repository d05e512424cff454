"""Train configs with the same recipe, data and seeds, and draw their curves with the spread.

Without a config, the small VMamba of the demo and a narrow ResNet-18 of about its parameters learn
images that this project draws. Each config is trained with each seed by tools/train.py, in turns,
and validated after every epoch; an interrupted call can simply be repeated. The configs may differ
in their backbone alone, which is checked first. OUT gets curves.png, curves.csv, curves.json and
summary.md, after every training anew, and the trainings' work directories.

Example:
    python tools/analysis_tools/compare_training.py --seeds 0 1 2
    python tools/analysis_tools/compare_training.py OURS.py THEIRS.py --metric coco/segm_mAP
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mamba_mm.datasets.shapes import ShapesConfig, write_shapes_coco
from mamba_mm.datasets.shapes.coco import STAMP
from mamba_mm.measuring.recipes import (
    as_cfg_options,
    differences_beside_the_backbone,
    listed,
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
    in_turns,
    one_call_at_a_time,
    refuse_a_changed_config,
    refuse_another_recipe,
    refuse_repeated,
    train,
)
from mamba_mm.measuring.training_command import (
    add_training_arguments,
    drawn_data,
    exit_status_of,
    say,
)
from mamba_mm.measuring.training_curves import read_run, running_mean
from mamba_mm.measuring.training_plot import write_plot
from mamba_mm.measuring.training_report import (
    Compared,
    short_names,
    summary,
    write_csv,
    write_json,
)

ROOT = Path(__file__).resolve().parents[2]
TRAIN_SCRIPT = ROOT / "tools" / "train.py"
READY_MADE = (
    ROOT / "configs/mmdet/vmamba/rtmdet-ins_vmamba-nano_fpn_shapes.py",
    ROOT / "configs/mmdet/baselines/rtmdet-ins_resnet18-w24_fpn_shapes.py",
)
DATA_VARIABLE = "MAMBA_MM_DEMO_DATA"  # which the configs of drawn shapes read
NOT_A_METRIC = {"step", "time", "data_time"}


def parse_args(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "configs",
        nargs="*",
        type=Path,
        default=list(READY_MADE),
        metavar="CONFIG",
        help="the first is what the others are compared with (default: the ready-made pair)",
    )
    add_training_arguments(parser, "configs", "shapes", Path("data/shapes"))
    parser.add_argument(
        "--metric", default="coco/bbox_mAP", help="of the validation (default: %(default)s)"
    )
    parser.add_argument(
        "--rule",
        choices=("greater", "less"),
        default="greater",
        help="which value of the metric is better (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-differences",
        action="store_true",
        help="compare recipes that differ, and say in summary.md in what",
    )
    parser.add_argument(
        "--smoothing",
        type=int,
        default=5,
        metavar="N",
        help="the picture's loss is a running mean of so many logged values (default: %(default)s)",
    )
    shapes = ShapesConfig()
    for split in ("train", "val"):
        parser.add_argument(
            f"--{split}-images",
            type=int,
            metavar="N",
            help=f"to draw (default: {getattr(shapes, f'{split}_images')})",
        )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("work_dirs/compare_training"),
        metavar="FOLDER",
        help="(default: %(default)s)",
    )
    return parser.parse_args(arguments)


def options_of(config: Config, args: argparse.Namespace) -> tuple[str, ...]:
    """Return the ``--cfg-options`` of a config's trainings; the user's own come last and hold."""
    options = {}
    if "max_epochs" in config.train_cfg:  # one that counts iterations keeps its own interval
        options["train_cfg.val_interval"] = 1
    if args.epochs is not None:
        options |= options_for_epochs(config, args.epochs)
    return (*as_cfg_options(options), *args.cfg_options)


def refuse_unequal_recipes(
    recipes: Mapping[Path, Mapping[str, str]], *, allowed: bool
) -> list[str]:
    """Compare all recipes with the first.

    Returns:
        Lines for the summary: that they are equal, or what differs.

    Raises:
        ValueError: They differ beside the backbone, and that is not allowed.
    """
    (first, recipe), *others = recipes.items()
    notes = []
    for config, other in others:
        if found := differences_beside_the_backbone(recipe, other):
            notes.append(
                f"The recipes of {first.stem} and {config.stem} differ beside the backbone:"
                f"\n\n```\n{listed(found)}\n```\n"
            )
    if notes and not allowed:
        raise ValueError(
            "\n".join(notes) + "Make them equal, as by --cfg-options, which change all configs, "
            "or pass --allow-differences"
        )
    return notes or [
        "Optimiser, schedule, data, seeds, head and all else but the backbone, and the in_channels "
        "of what reads it, were the same."
    ]


def parameters_of(config: Config) -> tuple[int, int, bool]:
    """Build a config's model; count its parameters, its backbone's, and tell if that is ours."""
    init_default_scope(config.default_scope)
    model = MODELS.build(config.model)
    is_ours = type(model.backbone).__module__.startswith("mamba_mm.")
    return _count(model), _count(model.backbone), is_ours


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def drawn_shapes(args: argparse.Namespace, recipes: Sequence[Mapping[str, str]]) -> str:
    """Draw the shapes if a config reads them; see :func:`drawn_data`."""
    return drawn_data(
        args.data / STAMP,
        recipes,
        {"train_images": args.train_images, "val_images": args.val_images},
        lambda asked: write_shapes_coco(args.data, ShapesConfig(**asked), report=say),
        "--data FOLDER, or leave --train-images and --val-images out",
    )


class Comparison:
    """The models that are compared, and the report on their trainings."""

    def __init__(
        self, configs: Mapping[Path, Config], args: argparse.Namespace, notes: Sequence[str]
    ):
        self.args, self.notes = args, list(notes)
        self.names = dict(zip(configs, short_names([c.stem for c in configs]), strict=True))
        self.parameters = {path: parameters_of(config) for path, config in configs.items()}
        first: ConfigDict = next(iter(configs.values()))
        self.unit = "epoch" if "max_epochs" in first.train_cfg else "iteration"
        self.window = first.get("log_processor", {}).get("window_size", 10)
        self.finished: list[Training] = []
        self.failed: list[Training] = []

    def train_all(self, trainings: Sequence[Training], launch: Launch | None) -> None:
        """Do the trainings one after the other; write the report after each."""
        for number, training in enumerate(trainings, start=1):
            refuse_a_changed_config(training)
            title = f"{self.names[training.config]}, seed {training.seed}"
            print(f"[{number}/{len(trainings)}] {title}: ", end="", flush=True)
            start, done_before = time.monotonic(), training.finished
            if train(training, TRAIN_SCRIPT, launch):
                self.finished.append(training)
                spent = "done before" if done_before else f"{time.monotonic() - start:.0f} s"
                say(f"{self.last_value(training)}, {spent}")
                if not done_before:
                    self.write()
            else:
                self.failed.append(training)
                say(f"failed. The end of {training.log}:\n{end_of(training.log)}\n")

    def last_value(self, training: Training) -> str:
        """Say what the last validation of a training gave.

        Raises:
            ValueError: Validations gave metrics, but not the one asked for.
        """
        run = read_run(training.folder, self.args.metric)
        others = [name for name in run.metrics_found if name not in NOT_A_METRIC]
        if not run.metric and others:
            raise ValueError(
                f"no validation logged {self.args.metric}; --metric may be one of "
                f"{', '.join(others)}"
            )
        if not run.metric:
            return f"no {self.args.metric}"
        step, value = max(run.metric.items())
        return f"{self.args.metric} {value:.3f} at {self.unit} {step}"

    def write(self) -> None:
        """Write the report on what has finished so far."""
        out, metric = self.args.out, self.args.metric
        compared = [model for model in map(self.compared, self.names) if model.runs]
        notes = self.notes + [
            f"{self.names[t.config]}, seed {t.seed}: the training failed, see {t.log}."
            for t in self.failed
        ]
        circumstances = {
            "unit": self.unit,
            "seeds": self.args.seeds,
            "epochs": self.args.epochs,
            "cfg_options": self.args.cfg_options,
            "data": str(self.args.data),
            "failed": [str(t.folder) for t in self.failed],
            "notes": self.notes,
        }
        write_csv(out / "curves.csv", compared, metric)
        write_json(out / "curves.json", compared, metric, circumstances)
        (out / "summary.md").write_text(
            summary(compared, metric, self.args.rule, notes), encoding="utf-8"
        )
        write_plot(
            *(out / "curves.png", compared, metric, self.args.smoothing, self.window, self.unit)
        )

    def compared(self, path: Path) -> Compared:
        """Gather the finished trainings of a config."""
        parameters, backbone_parameters, ours = self.parameters[path]
        runs = {
            t.seed: read_run(t.folder, self.args.metric) for t in self.finished if t.config == path
        }
        name = self.names[path]
        return Compared(name, str(path), ours, parameters, backbone_parameters, runs)


def compare(args: argparse.Namespace, launch: Launch | None = None) -> bool:
    """Check, draw the data, train and report.

    Args:
        args: Of the command line.
        launch: How to run a command, if not as a process.

    Returns:
        Whether all trainings have been done to their ends.
    """
    running_mean({}, args.smoothing)  # refuses one that is even
    refuse_repeated("config name", [path.stem for path in args.configs])
    refuse_repeated("seed", args.seeds)
    os.environ[DATA_VARIABLE] = str(args.data.resolve())
    if missing := [path for path in args.configs if not path.is_file()]:
        raise FileNotFoundError(f"there is no config {missing[0]} (looked from {Path.cwd()})")
    configs = {path: read_config(path) for path in args.configs}
    options = {path: options_of(config, args) for path, config in configs.items()}
    recipes = {path: recipe_of(with_options(c, options[path])) for path, c in configs.items()}
    notes = refuse_unequal_recipes(recipes, allowed=args.allow_differences)
    comparison = Comparison(configs, args, notes)
    data = drawn_shapes(args, list(recipes.values()))
    recipes = {path: {**recipe, DATA_KEY: data} for path, recipe in recipes.items()}
    trainings = in_turns(recipes, args.seeds, args.out, options)
    for training in trainings:
        refuse_another_recipe(training)
    with one_call_at_a_time(args.out):
        comparison.train_all(trainings, launch)
    if comparison.finished:
        comparison.write()  # once more: it names what failed since
        say("\n" + (args.out / "summary.md").read_text(encoding="utf-8"))
        say(f"{args.out}: curves.png, curves.csv, curves.json, summary.md")
    return not comparison.failed


def main(arguments: Sequence[str] | None = None, launch: Launch | None = None) -> int:
    """Compare; return the exit status."""
    args = parse_args(arguments)
    return exit_status_of(lambda: compare(args, launch))


if __name__ == "__main__":
    # Ended from outside, it must not leave a training behind that nobody waits for.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())

#!/usr/bin/env python
r"""Compare whole models of configs, ours and a toolbox's, side by side on this machine.

Parameters, operations with the scans counted, latency and throughput with their spread, peak
memory, at several sizes of images and batches; and the accuracy that is known, from metafiles
(published) or from work directories (measured here). All models run in one process, in turns, in
eval mode with random weights, as forward(mode="tensor"): backbone, neck and head, without pre- and
post-processing. A model that runs out of memory or cannot take a shape is listed with the reason.

A config is a path, or package::path for one that came with an installed package: mmdet::,
mmpose::, mmpretrain::, mmseg:: or mamba_mm::. All must be of one toolbox. Writes compare.csv,
compare.json, compare.md and compare.png after every shape, so that nothing is lost. Run it on an
idle machine.

    python tools/analysis_tools/compare.py --set detection
    python tools/analysis_tools/compare.py configs/mmpretrain/vim/vim-tiny_8xb128_in1k.py \
        mmpretrain::deit/deit-tiny_4xb256_in1k.py --shapes 224@8 224 512 800x1280
    python tools/analysis_tools/compare.py --set pose \
        --work-dir VMamba-T=work_dirs/pose --highest coco/AP
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from mamba_mm.comparison.accuracy import Accuracy
from mamba_mm.comparison.configs import ModelConfig, read_configs
from mamba_mm.comparison.errors import ComparisonError
from mamba_mm.comparison.measurement import (
    DTYPES,
    MEMORY_FORMATS,
    Contender,
    Measurement,
    Setting,
    measure,
    prepare,
)
from mamba_mm.comparison.metafiles import accuracy_of_metafile
from mamba_mm.comparison.plot import write_plot
from mamba_mm.comparison.records import Comparison, ModelRecord, write_csv, write_json
from mamba_mm.comparison.sets import SETS, Entry
from mamba_mm.comparison.tables import print_measurements, write_markdown
from mamba_mm.comparison.work_dirs import Choice, accuracy_of_work_dir
from mamba_mm.measuring.image_shape import ImageShape, shape_argument
from mamba_mm.measuring.interleaved import keep_freed_memory
from mamba_mm.measuring.machine import Machine

SHAPES = ("224@8", "224", "512", "800x1280")


def main() -> None:
    """Parse the command line and run."""
    parser = _make_parser()
    options = parser.parse_args()
    try:
        _check(options)
        keep_freed_memory()
        configs = read_configs(_entries(options))
        baseline = _baseline(configs, options)
        accuracies = _accuracies(configs, options)
    except ComparisonError as error:
        parser.error(str(error))
    torch.set_num_threads(options.threads)
    compare(configs, baseline, accuracies, options)


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="*", metavar="CONFIG", help="a path, or package::path")
    parser.add_argument("--set", choices=SETS, help="ready-made configs; CONFIGs come behind them")
    parser.add_argument(
        "--shapes",
        nargs="+",
        type=shape_argument,
        metavar="SHAPE",
        help="SIZE or HEIGHTxWIDTH, with @BATCH if not 1 (default: those of the set, or "
        f"{' '.join(SHAPES)})",
    )
    parser.add_argument(
        "--baseline",
        metavar="NAME",
        help="what ratios are against (default: the set's, or the first CONFIG of an installed "
        "toolbox, or the first)",
    )
    parser.add_argument(
        "--work-dir",
        nargs="+",
        default=[],
        metavar="NAME=DIR",
        help="where a config, given as it is or by its name, was trained or tested",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--highest",
        metavar="METRIC",
        help="of a work directory take the validation in which METRIC is highest (default: the "
        "newest test, or else the last validation)",
    )
    choice.add_argument("--lowest", metavar="METRIC", help="likewise, for errors")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="bfloat16: autocast")
    parser.add_argument(
        "--format",
        choices=MEMORY_FORMATS,
        default="as_built",
        help="memory format of weights and images (default: as_built, as the toolbox runs them)",
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=21, help="turns of each model at most")
    parser.add_argument(
        "--budget", type=float, default=10, help="seconds per model and shape, after two turns"
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/compare"), metavar="FOLDER")
    return parser


def _check(options: argparse.Namespace) -> None:
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ComparisonError("--device cuda: PyTorch finds no CUDA device; use --device cpu")
    if options.rounds < 2:
        raise ComparisonError(f"--rounds must be at least 2, for quartiles; got {options.rounds}")
    if options.threads < 1:
        raise ComparisonError(f"--threads must be at least 1; got {options.threads}")


def _entries(options: argparse.Namespace) -> list[Entry]:
    ready = SETS[options.set].entries if options.set else ()
    return [*ready, *map(Entry, options.configs)]


def _shapes(options: argparse.Namespace) -> list[ImageShape]:
    if options.shapes:
        return list(dict.fromkeys(options.shapes))
    texts = SETS[options.set].shapes if options.set else SHAPES
    return [ImageShape.parse(text) for text in texts]


def _baseline(configs: Sequence[ModelConfig], options: argparse.Namespace) -> str:
    if options.baseline:
        return _find(configs, options.baseline, "--baseline").name
    if options.set:
        return SETS[options.set].baseline
    return next((config for config in configs if config.is_installed), configs[0]).name


def _accuracies(
    configs: Sequence[ModelConfig], options: argparse.Namespace
) -> dict[str, list[Accuracy]]:
    """Return by name what is known of each model: measured here, then published."""
    found: dict[str, list[Accuracy]] = {config.name: [] for config in configs}
    choice = Choice(options.highest or options.lowest or "", highest=not options.lowest)
    for argument in options.work_dir:
        given, separator, folder = argument.rpartition("=")
        if not separator:
            raise ComparisonError(f"--work-dir {argument}: expected NAME=DIR")
        name = _find(configs, given, "--work-dir").name
        found[name] += accuracy_of_work_dir(Path(folder), choice)
    for config in configs:
        found[config.name] += accuracy_of_metafile(config.path)
    return found


def _find(configs: Sequence[ModelConfig], given: str, option: str) -> ModelConfig:
    for config in configs:
        if given in (config.name, config.given):
            return config
    names = ", ".join(config.name for config in configs)
    raise ComparisonError(f"{option} {given}: no config is called so; there are {names}")


def compare(
    configs: Sequence[ModelConfig],
    baseline: str,
    accuracies: dict[str, list[Accuracy]],
    options: argparse.Namespace,
) -> None:
    """Measure at every shape, and write the report after each."""
    setting = Setting(options.device, options.dtype, options.format, options.rounds, options.budget)
    shapes, machine = _shapes(options), Machine.here(options.device)
    print(f"{machine}, baseline: {baseline}", flush=True)
    contenders: list[Contender] = []
    for config in configs:
        print(f"building and counting {config.name}", flush=True)
        contenders.append(prepare(config, shapes, setting, accuracies[config.name]))
    records = tuple(map(ModelRecord.of, contenders))
    options.out.mkdir(parents=True, exist_ok=True)
    measurements: list[Measurement] = []
    for shape in shapes:
        measured = measure(contenders, baseline, shape, setting)
        print_measurements(shape, measured)
        measurements += measured
        _write(options.out, Comparison(machine, baseline, records, tuple(measurements)))
    print(f"\nwrote compare.csv, compare.json, compare.md and compare.png to {options.out}")


def _write(folder: Path, comparison: Comparison) -> None:
    write_csv(folder / "compare.csv", comparison)
    write_json(folder / "compare.json", comparison)
    write_markdown(folder / "compare.md", comparison)
    if any(not m.failure for m in comparison.measurements):
        write_plot(folder / "compare.png", comparison)


if __name__ == "__main__":
    main()

"""`hvae-codec evaluate`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from hvae_codec.cli.common import (
    Commands,
    add_command,
    path,
    positive_int,
    print_json,
    require_suffix,
    seed,
)
from hvae_codec.utils.cores import available_cores

_METRICS = ("psnr_modes_db", "inception_score", "information_nats", "accuracy.paper.z2.rbf_svm")


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "evaluate",
        _evaluate,
        _evaluate_arguments,
        summary="measure rates, PSNR, samples and latents of a checkpoint or a sweep; run again, "
        "it goes on where it was",
        example="hvae-codec evaluate runs/grid",
    )


def _evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=path, help="checkpoint (.safetensors) or folder of a sweep")
    parser.add_argument("--data", help="data set; default: the one the models were trained on")
    parser.add_argument("--root", type=path, help="directory of the data")
    parser.add_argument("--classifier", type=path, help="image classifier, for Inception Scores")
    parser.add_argument("--images", type=positive_int, help="use so many test images")
    parser.add_argument(
        "--probes",
        choices=("all", "fast", "none"),
        default="all",
        help="classifiers on latents: all four, logistic regression and RBF SVM only, or none",
    )
    parser.add_argument(
        "--probe-images", type=positive_int, help="fit and score these on so many test images"
    )
    parser.add_argument(
        "--workers", type=positive_int, help="processes, of one thread each; default: one a core"
    )
    parser.add_argument(
        "-o",
        "--output",
        dest="out",
        type=path,
        help="file of the rows; default: PATH/evaluation.jsonl of a sweep, and of a checkpoint "
        "its name with .evaluation.jsonl for .safetensors",
    )
    parser.add_argument("--seed", type=seed, default=0)


def _evaluate(arguments: argparse.Namespace) -> int:
    from hvae_codec.cli.common import print_warning
    from hvae_codec.errors import EvaluationError
    from hvae_codec.evaluation.evaluate import PICTURES, evaluate, find_models
    from hvae_codec.evaluation.metrics.convex_hull import optima
    from hvae_codec.evaluation.rows import Settings
    from hvae_codec.evaluation.worker import EvaluationConfig

    if arguments.out is not None:
        require_suffix(arguments.out, (".jsonl", ".json"), "rows are", unknown=True)
    found = find_models(arguments.path)
    data = arguments.data or found.data
    if data is None:
        raise EvaluationError(f"{arguments.path} does not say its data set; name it with --data")
    out = arguments.out or found.out
    order = EvaluationConfig(
        Settings(data, arguments.images, arguments.probe_images, seed=arguments.seed),
        probes=arguments.probes,
        root=arguments.root,
        classifier=arguments.classifier,
        pictures=out.parent / PICTURES if found.pictures else None,
    )
    rows = evaluate(found, order, out, workers=arguments.workers or available_cores())
    if rows[0]["information_nats"] is None:
        print_warning(f"{data} has no labels: no information about classes and no accuracies")
    best = optima(rows, _METRICS)
    if arguments.json:
        print_json({"out": str(out), "rows": rows, "optima": best})
        return 0
    print(_table(rows))
    for metric, optimum in best.items():
        hull = f"; hull: {', '.join(optimum['hull'])}" if len(rows) > 1 else ""
        print(f"{metric}: best {optimum['value']:.4g}, {optimum['best']}{hull}")
    print(f"rows: {out}")
    return 0


def _table(rows: Sequence[dict[str, Any]]) -> str:
    """One line a model; accuracies are the best of the paper's protocol, in percent."""
    layers = [f"z{index}" for index in range(len(rows[0]["rates_nats"]), 0, -1)]
    head = ["model", "betas", *(f"R({name})" for name in layers), "R", "PSNR", "IS", "I"]
    lines = [[*head, *(f"acc {name}" for name in layers)]]
    for row in rows:
        betas = ",".join(f"{beta:.3g}" for beta in row["betas"] or []) or "-"
        accuracy = (row["accuracy"] or {}).get("paper", {})
        numbers = [
            *row["rates_nats"],
            row["total_rate_nats"],
            row["psnr_modes_db"],
            row["inception_score"],
            row["information_nats"],
        ]
        bests = [_best(accuracy.get(name, {})) for name in layers]
        lines.append([row["model"], betas, *map(_number, [*numbers, *bests])])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _best(accuracies: dict[str, float | None]) -> float | None:
    found = [value for value in accuracies.values() if value is not None]
    return 100.0 * max(found) if found else None

"""`hvae-codec report`."""

from __future__ import annotations

import argparse

from hvae_codec.cli.common import Commands, add_command, path, print_json, require_folder_name


def add_commands(commands: Commands) -> None:
    """Add the subcommand."""
    add_command(
        commands,
        "report",
        _report,
        _report_arguments,
        summary="draw the paper's figures and Table 1 of evaluated sweeps, and one HTML page",
        example="hvae-codec report runs/grid",
    )


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sweeps",
        metavar="SWEEP",
        nargs="+",
        type=path,
        help="folder of 'hvae-codec sweep' with the rows of 'hvae-codec evaluate'",
    )
    parser.add_argument(
        "-o",
        "--output",
        dest="out",
        metavar="DIR",
        type=path,
        help="folder to write to; default: SWEEP/report of a single sweep",
    )


def _report(arguments: argparse.Namespace) -> int:
    if arguments.out is None and len(arguments.sweeps) > 1:
        arguments.usage_error("a report of several sweeps needs --output DIR")
    if arguments.out is not None:
        require_folder_name(arguments.out, "a report is")
    from hvae_codec.reporting.build import write_report
    from hvae_codec.reporting.table import as_text

    report = write_report(arguments.sweeps, arguments.out or arguments.sweeps[0] / "report")
    if arguments.json:
        print_json(report.to_json())
        return 0
    summary = report.to_json()
    for sweep, missing in zip(
        summary["sweeps"], (sweep.missing_text for sweep in report.sweeps), strict=True
    ):
        print(f"{sweep['name']}: {sweep['models']} models{missing and '; ' + missing}")
        for best in sweep["optima"]:
            top, bottom = best["betas"]
            print(
                f"  best {best['application']}: model {best['model']}, beta_2 {top:.3g}, "
                f"beta_1 {bottom:.3g}, {best['metric']} {best['value']:.4g}"
            )
        print(f"  against the paper: {sweep['differences']}")
    print("\n" + as_text(report.sweeps))
    for name, why in report.left_out.items():
        print(f"left out: {name}: {why}")
    print(f"{len(report.files)} files; open {report.page}")
    return 0

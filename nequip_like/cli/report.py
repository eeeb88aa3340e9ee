"""The command ``nequip-report``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-report outputs/run                       writes outputs/run/report.html
  nequip-report multirun/2026-01-31/12-00-00/*/   writes comparison.html
  nequip-report run_a run_b --sort test_600K/forces_mae --output a-and-b.html
"""


def _report(arguments: argparse.Namespace) -> None:
    with quick_start():
        from nequip_like.report.page.report_file import COMPARISON_FILE, compare_runs, write_report

    if len(arguments.runs) == 1:
        file = write_report(arguments.runs[0], path=arguments.output)
    else:
        file = compare_runs(arguments.runs, arguments.output or COMPARISON_FILE, arguments.sort)
    print(f"report: {file}")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="folder of a run, or the --output of nequip-test; several are compared"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the file (default: report.html in the folder of one run, comparison.html here for several)",
    )
    parser.add_argument(
        "--sort",
        metavar="SET/METRIC",
        default="",
        help="error that several runs are sorted by, such as test/forces_mae, as metrics.json names them (default: the "
        "RMSE of the forces on the first test set)",
    )


main = Command(
    "nequip-report",
    "Write the report of a run out of what its folder holds, as one HTML file that needs nothing else; "
    "of several runs, a comparison: a table, the best first, curves over each other, and where the configurations "
    "differ.",
    _add_options,
    _report,
    epilog=_EPILOG,
)

if __name__ == "__main__":
    sys.exit(main())

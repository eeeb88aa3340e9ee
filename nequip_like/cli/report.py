"""The command ``nequip-report``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nequip_like.cli.errors import run_cli
from nequip_like.cli.starting.environment import check_current_folder, prepare_process
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-report outputs/run                       writes outputs/run/report.html
  nequip-report multirun/2026-01-31/12-00-00/*/   writes comparison.html
  nequip-report run_a run_b --sort test_600K/forces_mae --output a-and-b.html
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report of a run, or the comparison of several.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 0, or 2 after an error of the user.
    """
    arguments = _build_parser().parse_args(argv)

    def command() -> None:
        check_current_folder()
        prepare_process()
        # Imported here: torch takes seconds to import, and --help should not.
        with quick_start():
            from nequip_like.report.page.report_file import COMPARISON_FILE, compare_runs, write_report

        if len(arguments.runs) == 1:
            file = write_report(arguments.runs[0], path=arguments.output)
        else:
            file = compare_runs(arguments.runs, arguments.output or COMPARISON_FILE, arguments.sort)
        print(f"report: {file}")

    return run_cli(command, debug=arguments.debug)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nequip-report",
        description="Write the report of a run out of what its folder holds, as one HTML file that needs nothing else; "
        "of several runs, a comparison: a table, the best first, curves over each other, and where the configurations "
        "differ.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())

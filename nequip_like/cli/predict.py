"""The command ``nequip-predict``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.data_options import add_trusted_packages, read_batch_size
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-predict model.safetensors frames.xyz --output predicted.extxyz
  nequip-predict outputs/run 'screening/*.xyz' --output energies.csv --energy-only
  nequip-predict model.safetensors huge.aselmdb --output predicted.npz --device auto --resume
  nequip-predict model.safetensors 'jobs/*/OUTCAR' --output predicted.extxyz --on-error skip

exit status: 0, 2 after a mistake or a broken frame, 3 if all was predicted but frames that were skipped
"""
_SKIPPED = 3


def _predict(arguments: argparse.Namespace) -> int:
    with quick_start():
        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.workflow.prediction.printing import predict_and_print

    summary = predict_and_print(
        arguments.model,
        arguments.files,
        arguments.output,
        format=arguments.format,
        batch_size=arguments.batch_size,
        energy_only=arguments.energy_only,
        amp=arguments.amp,
        device=arguments.device,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        on_error=arguments.on_error,
        trust_pickle=arguments.trust_pickle,
        families=trusted_families(arguments.trusted_packages, "--trusted-packages"),
    )
    return _SKIPPED if summary.skipped else 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model file (.safetensors), checkpoint (.ckpt) or run folder")
    parser.add_argument("files", metavar="FILES", nargs="+", help="files with structures, of any format that is read")
    parser.add_argument(
        "--output",
        metavar="FILE",
        required=True,
        help="the file to be written; its suffix tells the format: .extxyz, .csv, .npz or .aselmdb",
    )
    parser.add_argument(
        "--format", choices=("extxyz", "csv", "npz", "lmdb"), help="the format, where the suffix does not tell it"
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=read_batch_size,
        default={"atoms": 1024},
        help="structures at a time; or as many as have no more atoms or edges together: atoms=4096, edges=100000 "
        "(default: atoms=1024)",
    )
    parser.add_argument("--energy-only", action="store_true", help="energies only; no derivative is computed")
    parser.add_argument("--amp", action="store_true", help="half precision, on a GPU")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on with a prediction that was stopped")
    parser.add_argument("--overwrite", action="store_true", help="replace an output, or a part of one, that is there")
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="what a broken frame does (cannot be read, unknown species, position that is no number): stop, where "
        "--resume goes on; or skip, which lists it in OUTPUT.skipped.csv (default: %(default)s)",
    )
    parser.add_argument(
        "--trust-pickle", action="store_true", help="read files of pickles, too (.lmdb of NequIP and fairchem)"
    )
    add_trusted_packages(parser)


main = Command(
    "nequip-predict",
    "Predict energies, forces and stress of the structures of files, in their order, and write them to "
    "one file. Files are read, predicted and written in pieces, so they may be of any size.",
    _add_options,
    _predict,
    epilog=_EPILOG,
)

if __name__ == "__main__":
    sys.exit(main())

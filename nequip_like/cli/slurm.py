"""The command ``nequip-slurm``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start
from nequip_like.errors import ConfigError

_EPILOG = """\
examples:
  nequip-slurm config.yaml --nodes 4 --gpus-per-node 4 --time 08:00:00
  nequip-slurm config.yaml --nodes 2 --tasks-per-node 8 --cpus-per-task 4 --time 1-00:00:00 trainer.max_epochs=200
  nequip-slurm config.yaml --gpus-per-node 1 --time 04:00:00 -m seed=0,1,2,3 model.l_max=1,2 --submit
  nequip-slurm config.yaml --gpus-per-node 4 --time 08:00:00 --sbatch=--partition=gpu --setup "module load cuda"
"""


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse options among overrides, and say of those of sbatch where they belong."""
    arguments, rest = parser.parse_known_intermixed_args(argv)
    if unknown := [word for word in rest if word.startswith("-")]:
        parser.error(f"unknown option {unknown[0]}; one of sbatch goes behind --sbatch: --sbatch={unknown[0]}")
    return arguments


@quick_start()  # which is for checking configs, too
def _write(arguments: argparse.Namespace) -> None:
    from nequip_like.cli.sweeps.jobs import Job, naming_job
    from nequip_like.composition.compose import compose
    from nequip_like.workflow.config.check import check_config
    from nequip_like.workflow.slurm.job_check import check_run_of_job, submit
    from nequip_like.workflow.slurm.job_script import SlurmJob, write_script

    config = str(arguments.config)
    words = [config] if config.endswith((".yaml", ".yml")) else ["-cn", config]
    overrides, runs = _list_runs(words, arguments.overrides) if arguments.multirun else (arguments.overrides, [])
    name = arguments.name or Path(config).stem
    gpus = arguments.gpus_per_node
    job = SlurmJob(
        config=words,
        nodes=arguments.nodes,
        tasks_per_node=arguments.tasks_per_node or gpus or 1,
        gpus_per_node=gpus,
        cpus_per_task=arguments.cpus_per_task,
        time=arguments.time,
        name=name,
        run_dir=arguments.run_dir or f"runs/{name}",
        overrides=overrides,
        runs=runs,
        signal_seconds=arguments.signal_before,
        options=arguments.sbatch,
        setup=arguments.setup or _find_environment(),
    )
    for number, varied in enumerate(job.runs or [[]]):
        given = [*job.list_own_overrides(), *job.overrides, *varied, f"output_dir={job.run_dir}"]
        with naming_job(Job(number, given, list(varied))) if job.runs else nullcontext():
            check_run_of_job(check_config(compose(config, given)), job)
    path = Path(arguments.output or f"{name}.sbatch")
    write_script(job, path)
    several = f"{len(job.runs)} runs of " if job.runs else ""
    print(f"written: {path}, {several}{job.processes} processes on {job.nodes} nodes, in {job.run_dir}")
    print(submit(path) if arguments.submit else f"  to submit it: sbatch {path}")


def _list_runs(config: Sequence[str], typed: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """List the runs of a ``--multirun`` as ``nequip-train`` does.

    Args:
        config: The words that name the config.
        typed: The overrides.

    Returns:
        The overrides of all runs, and those of each that not all have.

    Raises:
        ConfigError: If nothing varies, or the values are chosen while the runs go on.
    """
    from nequip_like.cli.sweeps.jobs import list_hydra_overrides, list_jobs
    from nequip_like.composition.arguments import parse, translate_arguments
    from nequip_like.composition.hydra_compose import check_files, compose_arguments

    folder = str(Path.cwd())
    command_line = parse(translate_arguments([*config, *typed, "--multirun"]))
    check_files(command_line, folder)
    jobs = list_jobs(command_line, compose_arguments(command_line, folder), folder)
    if jobs is None:
        raise ConfigError(
            "hydra/sweeper chooses the next values when runs have ended, and the tasks of an array are listed before",
            "list the values, or search within a job of one task: nequip-train config.yaml -m hydra/sweeper=optuna ...",
        )
    if len(jobs) == 1:
        raise ConfigError("-m asks for several runs, but no key has several values", "give them: -m seed=0,1,2")
    shared = [entry for entry in jobs[0].overrides if entry not in jobs[0].varied]
    return [*list_hydra_overrides(command_line), *shared], [job.varied for job in jobs]


def _find_environment() -> list[str]:
    """The virtual environment that this command is of, which the job has to have, too."""
    activate = Path(sys.prefix) / "bin" / "activate"
    return [f"source {activate}"] if sys.prefix != sys.base_prefix and activate.is_file() else []


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="a config file, or the name of a config in the package")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="overrides, as behind nequip-train")
    size = parser.add_argument_group("size")
    size.add_argument("--nodes", metavar="N", type=int, default=1, help="machines (default: 1)")
    size.add_argument(
        "--gpus-per-node",
        metavar="N",
        type=int,
        default=0,
        help="GPUs of each, a process for each (default: 0, CPUs)",
    )
    size.add_argument(
        "--tasks-per-node", metavar="N", type=int, help="processes on each; without GPUs, which decide it (default: 1)"
    )
    size.add_argument("--cpus-per-task", metavar="N", type=int, default=4, help="cores of each process (default: 4)")
    size.add_argument("--time", metavar="TIME", required=True, help="limit of the job: HH:MM:SS, D-HH:MM:SS or minutes")
    run = parser.add_argument_group("run")
    run.add_argument("--name", help="name of job, script and run (default: that of the config)")
    run.add_argument("--run-dir", metavar="DIR", help="folder of the run (default: runs/NAME)")
    run.add_argument(
        "-m",
        "--multirun",
        action="store_true",
        help="an array of jobs, one for each combination of values: -m seed=0,1,2 model.l_max=1,2",
    )
    run.add_argument(
        "--signal-before",
        metavar="S",
        type=int,
        default=300,
        help="seconds before the limit at which the run is told to stop (default: 300)",
    )
    script = parser.add_argument_group("script")
    script.add_argument("--output", metavar="FILE", help="the script (default: NAME.sbatch)")
    script.add_argument(
        "--sbatch",
        metavar="=OPTION",
        action="append",
        default=[],
        help="a further option of sbatch, as often as needed: --sbatch=--partition=gpu --sbatch=--account=me",
    )
    script.add_argument(
        "--setup",
        metavar="LINE",
        action="append",
        help="a line of bash before the run, as often as needed: --setup 'module load cuda' (default: the virtual "
        "environment that nequip-slurm is called from)",
    )
    script.add_argument("--submit", action="store_true", help="submit it, too")


main = Command(
    "nequip-slurm",
    "Write the script of a SLURM job that trains on one or many nodes, stops in time, is queued again "
    "and goes on, until the training is done. The config and the options are checked first.",
    _add_options,
    _write,
    epilog=_EPILOG,
    parse=_parse,
)

if __name__ == "__main__":
    sys.exit(main())

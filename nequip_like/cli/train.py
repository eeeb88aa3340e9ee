"""``nequip-train``: train, validate and test a potential from one config."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nequip_like.errors import ConfigError
from nequip_like.whole_files import path_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

    from lightning import Callback
    from omegaconf import DictConfig

    from nequip_like.report.sweeps.runs import Run
    from nequip_like.training.budget.clock import Clock
    from nequip_like.workflow.config.check import CheckedConfig
    from nequip_like.workflow.train import TrainingResult

HELP = """nequip-train: train, validate and test a machine-learning interatomic potential.

Usage:
  nequip-train config.yaml [key=value ...]             a config file by its path
  nequip-train -cn name [-cp folder] [key=value ...]   a config by its name, in this folder or in the package
  nequip-train -cn tutorial                            the bundled example

A whole config:
  defaults: [train, _self_]
  data:
    train: train.xyz
    val: 0.1
    test: [test_300K.xyz, test_600K.xyz]
  cutoff_radius: 5.0

Useful overrides:
  trainer.max_epochs=100        callbacks.epoch_printer.every_n=10        ~callbacks.progress_bar
  model=nequip_M                targets=energy_force_stress              logger=wandb
  budget=30min                          train, test and report within this time; the learning rate follows it
  ckpt_path=RUN/checkpoints/last.ckpt   go on from there                 run=[test]
  finetune.source=model.safetensors     begin with the weights of another model
  --check     check the config, and print what would run without running it
  --plot-schedule [FILE.png]  draw learning rate and loss weights over the run, to schedule.png, without running it
  --migrate old.yaml          print a short config that does what a config of NequIP's does
  --cfg job   print the composed config      --multirun   one run for each combination of values
  --one-of-several   the folder of the run, hydra.run.dir=runs/NAME/0, is among others: note it in runs/NAME/runs.csv
  --hydra-help   all options of Hydra        --debug      show tracebacks of user errors
"""


_FLAGS = ("--debug", "--check", "--one-of-several")  # of ours, which Hydra does not know


def main() -> None:
    """Entry point of ``nequip-train``; leaves nothing behind in a process that goes on after it."""
    try:
        _run_command(sys.argv[1:])
    finally:
        if (module := sys.modules.get("hydra.core.hydra_config")) is not None:
            module.HydraConfig.instance().cfg = None  # where it is set, a command is being run


def _run_command(arguments: list[str]) -> None:
    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return
    debug, check, among_others = (option in arguments for option in _FLAGS)
    hydra_arguments, image = _plot_option([argument for argument in arguments if argument not in _FLAGS])

    # Imported here and below, because --help waits for none of it.
    from nequip_like.cli.errors import run_cli
    from nequip_like.cli.starting.environment import check_current_folder, check_launcher, prepare_process

    prepare_process()

    if "--migrate" in arguments:
        files = [argument for argument in hydra_arguments if argument != "--migrate"]
        sys.exit(run_cli(lambda: _migrate(files), debug=debug))

    job = None

    def prepare() -> None:
        nonlocal job
        from nequip_like.composition.arguments import translate_arguments

        check_current_folder()
        check_launcher()
        sys.argv[1:] = translate_arguments(hydra_arguments)
        job = _check_first(sys.argv[1:], check, image)
        if among_others and job is not None:
            if job.several:
                raise ConfigError("--multirun notes its runs by itself", "leave out --one-of-several")
            job = replace(job, among_others=True)

    if code := run_cli(prepare, debug=debug):
        sys.exit(code)
    if not check and image is None:
        _run(job, debug)


def _plot_option(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Split ``--plot-schedule`` off: the arguments without it, and the file that it names, None without it."""
    for i, argument in enumerate(arguments):
        option, _, file = argument.partition("=")
        if option == "--plot-schedule":
            follows = not file and i + 1 < len(arguments) and arguments[i + 1].lower().endswith(".png")
            image = path_of(arguments[i + 1] if follows else file or "schedule.png")
            return arguments[:i] + arguments[i + 1 + follows :], image
    return arguments, None


def _migrate(files: list[str]) -> None:
    """Print a config of NequIP's in our own form."""
    if len(files) != 1:
        raise ConfigError(
            f"--migrate got {len(files)} arguments", "give one file: nequip-train --migrate old.yaml > new.yaml"
        )
    from nequip_like.compat.nequip_migrate import migrated

    print(migrated(files[0]), end="")


@dataclass(frozen=True)
class _Job:
    """A composed config with the command line that asks for it.

    Attributes:
        command_line: The parsed command line.
        config: The composed config with Hydra's section; of several runs, without the values that vary.
        checked: What the check of a single run found; None if it is left to Hydra to compose the config again.
        several: Whether it is a ``--multirun``.
        runs: Of a ``--multirun``, the composed configs by their overrides, as far as they are known before it begins.
        shows: Whether the config is to be printed, and not run.
        among_others: Whether the run is one of several, which other commands do.
    """

    command_line: argparse.Namespace
    config: DictConfig
    checked: CheckedConfig | None
    several: bool = False
    runs: Mapping[tuple[str, ...], DictConfig] = field(default_factory=dict)
    shows: bool = False
    among_others: bool = False


def _check_first(arguments: list[str], only_check: bool, image: Path | None = None) -> _Job | None:
    """Compose and check the config before Hydra makes a folder or calls anything that the config names.

    Args:
        arguments: The command line for Hydra.
        only_check: Print what would run.
        image: Draw learning rate and loss weights into this file.

    Returns:
        What is to be run; None if Hydra is asked for something else.

    Raises:
        ConfigError: For the first mistake.
    """
    from hydra.types import RunMode

    from nequip_like.cli.hydra_run import is_single_run
    from nequip_like.cli.starting.quick_start import quick_start
    from nequip_like.composition.arguments import parse
    from nequip_like.composition.hydra_compose import check_files, compose_arguments

    command_line = parse(arguments)
    if command_line.hydra_help or command_line.shell_completion:
        return None
    check_files(command_line, str(Path.cwd()))
    typed = command_line.overrides
    composed = compose_arguments(command_line, str(Path.cwd()))
    # Hydra reads these, if it is to compose again.
    sys.argv[1:] = [argument for argument in arguments if argument not in typed] + command_line.overrides
    stays = only_check or image is not None
    several = command_line.multirun or composed.hydra.mode == RunMode.MULTIRUN
    if not stays and (command_line.cfg or command_line.info):
        if sum(map(bool, (command_line.cfg, command_line.info, several))) > 1:
            raise ConfigError(
                "--cfg and --info show what a single run would have, one at a time",
                "give one of --cfg, --info and --multirun, and one value of each key",
            )
        if command_line.resolve:
            from nequip_like.composition.compose import run_config
            from nequip_like.workflow.config.values import leave_statistics, values_before_data

            values_before_data(run_config(composed, show=False))  # says it in our words if a value cannot be had
            leave_statistics()
        return None if command_line.info else _Job(command_line, composed, None, shows=True)
    if several:
        if image is not None:
            raise ConfigError(
                "--plot-schedule draws a single run", "leave out --multirun, and give one value of each key"
            )
        with quick_start():
            runs = _check_each(command_line, composed, only_check)
        return _Job(command_line, composed, None, several=True, runs=runs)
    with quick_start():
        checked = _check_job(composed, only_check, runs=image is None)
        if image is not None:
            _draw_schedule(composed, image)
    return _Job(command_line, composed, checked if is_single_run(command_line, composed) else None)


def _check_job(composed: DictConfig, show: bool, runs: bool) -> CheckedConfig:
    """Check what the job would get, and this machine if it is to run here, and tell what it would do."""
    # Imported here, behind Hydra's own options, because torch takes its time.
    from nequip_like.composition.compose import run_config
    from nequip_like.workflow.config.check import check_config
    from nequip_like.workflow.config.machine_check import check_machine
    from nequip_like.workflow.printing import print_plan

    checked = check_config(run_config(composed, show))
    if runs:
        check_machine(checked)
    if show:
        print_plan(checked)
    return checked


def _check_each(
    command_line: argparse.Namespace, composed: DictConfig, show: bool
) -> dict[tuple[str, ...], DictConfig]:
    """Check each of several runs before the first begins: hours later it would be too late; gives their configs."""
    from nequip_like.cli.sweeps.jobs import compose_job, list_jobs, naming_job
    from nequip_like.workflow.printing import print_plans
    from nequip_like.workflow.slurm.tasks import check_single_process

    jobs = list_jobs(command_line, composed, str(Path.cwd()))
    if jobs is None:
        from nequip_like.cli.sweeps.probes import check_search

        checked = _check_job(composed, show, runs=True)
        check_single_process(checked.values["trainer"])
        check_search(command_line, composed, lambda config: _check_job(config, False, runs=True), show)
        return {}
    plans, configs = {}, {}
    for job in jobs:
        with naming_job(job):
            config = configs[tuple(job.overrides)] = compose_job(command_line, composed, str(Path.cwd()), job)
            checked = _check_job(config, False, runs=True)
            check_single_process(checked.values["trainer"])
            plans[job.describe()] = checked
    if show:
        print_plans(plans)
    return configs


def _draw_schedule(composed: DictConfig, image: Path) -> None:
    """Draw learning rate and loss weights over the run, and say what was drawn."""
    from nequip_like.composition.compose import run_config
    from nequip_like.workflow.schedule_preview import draw_schedule

    preview = draw_schedule(run_config(composed, show=False), image)
    print("\n".join([f"{image}: {preview.describe()[0]}", *preview.describe()[1:]]))


def _run(job: _Job | None, debug: bool) -> None:
    """Run the checked job; without one, let Hydra answer what it was asked for, such as ``--hydra-help``."""
    from nequip_like.cli.errors import run_cli

    if job is None:
        _run_by_hydra(lambda config: None)
    elif job.shows:
        from nequip_like.cli.hydra_run import show_composed

        try:
            show_composed(job.command_line, job.config, str(Path.cwd()))
        except SystemExit as end:  # Hydra has said that the config lacks what --package names
            sys.exit(2 if end.code == 1 else end.code)
    elif code := run_cli(lambda: _run_in_own_folder(job, debug), debug=debug):
        sys.exit(code)


def _run_in_own_folder(job: _Job, debug: bool) -> None:
    from nequip_like.cli.hydra_run import run_composed, sweep_composed
    from nequip_like.cli.output import hold_output_folder
    from nequip_like.cli.sweeps.several import run_one_of_several, run_several
    from nequip_like.workflow.run_folder.new_folders import format_folder_override

    section = "sweep" if job.several else "run"
    with hold_output_folder(job.config, section) as folder:
        if job.several:
            apart = not str(job.config.hydra.launcher.get("_target_")).endswith(".BasicLauncher")

            def launch(task: Callable[[DictConfig], Run]) -> None:
                sweep_composed(job.command_line, job.config, str(Path.cwd()), task, job.runs)

            run_several(folder.absolute(), _train_for_sweep, launch, debug, apart=apart)
            return

        def launch_single(task: Callable[[DictConfig], object]) -> None:
            if job.checked is not None:
                run_composed(job.command_line, job.config, str(Path.cwd()), task)
                return
            sys.argv.append(format_folder_override(section, folder))  # Hydra composes the config again
            _run_by_hydra(task)

        if job.among_others:
            run_one_of_several(
                folder.absolute(), lambda config: _train_alone(config, job.checked), launch_single, debug
            )
        else:
            launch_single(lambda config: _train(config, job.checked, debug))


def _run_by_hydra(task: Callable[[DictConfig], object]) -> None:
    """Let Hydra compose the config that ``sys.argv`` asks for, and run it once or several times."""
    import hydra

    from nequip_like.composition.hydra_compose import HYDRA_VERSION, register_configs

    register_configs()
    started = False

    def begin(config: DictConfig) -> None:
        nonlocal started
        started = True
        task(config)

    try:
        hydra.main(version_base=HYDRA_VERSION, config_path=str(Path.cwd()), config_name="train")(begin)()
    except SystemExit as end:
        # Before the job starts it is the command line or a config that Hydra, which says so, cannot understand.
        sys.exit(2 if end.code == 1 and not started else end.code)


def _train(config: DictConfig, checked: CheckedConfig | None, debug: bool) -> None:
    """Train for a single run; Hydra calls this."""
    from nequip_like.cli.errors import SIGNALLED, run_cli

    def run() -> None:
        result = _train_alone(config, checked)
        if result.stopped_by is not None:
            sys.exit(SIGNALLED + result.stopped_by)

    if code := run_cli(run, debug=debug):
        sys.exit(code)


def _train_alone(config: DictConfig, checked: CheckedConfig | None) -> TrainingResult:
    """Train in a process that does nothing else: a budget began with it."""
    from nequip_like.training.budget.clock import clock_of_process

    return _train_config(config, checked, clock=clock_of_process())


def _train_for_sweep(config: DictConfig, printed_data: set[str]) -> TrainingResult:
    """Train for one run of a ``--multirun``; one of a search reports to its study."""
    from hydra.core.hydra_config import HydraConfig

    from nequip_like.workflow.config.trust import OWN_SWEEPER

    sweep, callbacks = HydraConfig.get(), []
    if sweep.sweeper.get("_target_") == OWN_SWEEPER:
        from nequip_like.composition.overrides import convert_to_plain
        from nequip_like.workflow.sweeps.pruning import TrialReport
        from nequip_like.workflow.sweeps.study import StudySettings, open_study

        settings = StudySettings.of(convert_to_plain(sweep.sweeper, resolve=True))
        study = open_study(Path(str(sweep.sweep.dir)), settings)
        callbacks = [TrialReport(study, int(sweep.job.num), str(config.monitored_metric))]
    return _train_config(config, None, printed_data, callbacks=callbacks)


def _train_config(
    config: DictConfig,
    checked: CheckedConfig | None,
    printed_data: set[str] | None = None,
    clock: Clock | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainingResult:
    from nequip_like.cli.starting.quick_start import quick_start

    # Imported here, behind Hydra's own options, because torch takes its time.
    with quick_start():
        from nequip_like.composition.compose import run_config
        from nequip_like.workflow.commands import read_typed_overrides
        from nequip_like.workflow.train import train

    typed = read_typed_overrides()
    return train(
        run_config(config), typed=typed, checked=checked, printed_data=printed_data, clock=clock, callbacks=callbacks
    )


if __name__ == "__main__":
    main()

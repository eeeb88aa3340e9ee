"""``nequip-train``: train, validate and test a potential from one config."""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

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
  trainer.max_epochs=100        callbacks.early_stopping.patience=20     ~callbacks.early_stopping
  model=nequip_M                targets=energy_force_stress              logger=wandb
  ckpt_path=RUN/checkpoints/last.ckpt   go on from there                 run=[test]
  --cfg job   print the composed config      --multirun   one run for each combination of values
  --hydra-help   all options of Hydra        --debug      show tracebacks of user errors
"""


def main() -> None:
    """Entry point of ``nequip-train``."""
    arguments = sys.argv[1:]
    if not arguments or any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return
    debug = "--debug" in arguments
    sys.argv[1:] = _from_here(_by_path([argument for argument in arguments if argument != "--debug"]))
    _check_names(sys.argv[1:])

    import hydra
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.core.hydra_config import HydraConfig
    from hydra.core.plugins import Plugins
    from hydra.plugins.search_path_plugin import SearchPathPlugin
    from omegaconf import DictConfig

    class PackagedConfigs(SearchPathPlugin):
        """Puts the package's configs behind the user's folder, so that ``defaults: [train]`` finds them."""

        def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
            search_path.append(provider="nequip_like", path="pkg://nequip_like.conf")

    Plugins.instance().register(PackagedConfigs)

    from nequip_like.cli.errors import run_cli

    started = False

    @hydra.main(version_base="1.3", config_path=str(Path.cwd()), config_name="train")
    def job(config: DictConfig) -> None:
        nonlocal started
        started = True

        def run() -> None:
            # Imported here, behind Hydra's own options, because torch takes its time.
            from nequip_like.workflow.train import train

            _quiet_lightning()
            train(config, list(HydraConfig.get().overrides.task))

        if code := run_cli(run, debug=debug):
            sys.exit(code)

    try:
        job()
    except SystemExit as end:
        # Before the job starts it is the command line or a config that Hydra, which says so, cannot understand.
        sys.exit(2 if end.code == 1 and not started else end.code)


def _quiet_lightning() -> None:
    """Leave out what Lightning says of itself; what a run does is told by our own tables and lines."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Hydra made the folder a moment ago, so it is never empty.
    warnings.filterwarnings("ignore", message="Experiment logs directory .* exists and is not empty")
    # Between Lightning 2.6.6 and torch 2.13; nothing a user could do about it.
    warnings.filterwarnings("ignore", message=".*isinstance\\(treespec, LeafSpec\\).*")


def _by_path(arguments: list[str]) -> list[str]:
    """Turn a leading ``path/config.yaml`` into Hydra's ``--config-path`` and ``--config-name``."""
    for i, argument in enumerate(arguments):
        names_file = not argument.startswith("-") and "=" not in argument and argument.endswith((".yaml", ".yml"))
        follows_option = i > 0 and arguments[i - 1] in ("-cn", "--config-name", "-cp", "--config-path", "-cd")
        if names_file and not follows_option:
            path = Path(argument).absolute()
            if not path.is_file():
                print(f"error: there is no config file {path}\n  -> give the path of a YAML file", file=sys.stderr)
                sys.exit(2)
            rest = arguments[:i] + arguments[i + 1 :]
            return ["--config-path", str(path.parent), "--config-name", path.name, *rest]
    return arguments


def _from_here(arguments: list[str]) -> list[str]:
    """Let a relative ``--config-path`` begin at the current folder, where Hydra would begin at this file."""
    result = list(arguments)
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option not in ("-cp", "--config-path"):
            continue
        if equals:
            result[i] = f"{option}={_absolute(value)}"
        elif i + 1 < len(arguments):
            result[i + 1] = _absolute(arguments[i + 1])
    return result


def _absolute(folder: str) -> str:
    return folder if "://" in folder else str(Path(folder).expanduser().absolute())


def _check_names(arguments: list[str]) -> None:
    """Refuse a ``train.yaml`` that takes in ``train``: it would be itself, and hide the package's."""
    paths = [arguments[i + 1] for i, argument in enumerate(arguments[:-1]) if argument in ("-cp", "--config-path")]
    file = Path(paths[0] if paths else ".") / "train.yaml"
    if not file.is_file():
        return
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        content = OmegaConf.load(file)
    except (OSError, UnicodeDecodeError, YAMLError, OmegaConfBaseException):
        return  # Hydra reads it next, and tells what is wrong with it
    defaults = content.get("defaults") if isinstance(content, DictConfig) else None
    if defaults is not None and "train" in list(defaults):
        print(
            f"error: the config {file.absolute()} takes in 'train', which is its own name\n"
            "  -> rename it, for example to my_train.yaml",
            file=sys.stderr,
        )
        sys.exit(2)


if __name__ == "__main__":
    main()

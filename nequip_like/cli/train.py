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
    sys.argv[1:] = _by_path([argument for argument in arguments if argument != "--debug"])

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

    @hydra.main(version_base="1.3", config_path=str(Path.cwd()), config_name="train")
    def job(config: DictConfig) -> None:
        def run() -> None:
            # Imported here, behind Hydra's own options, because torch takes its time.
            from nequip_like.workflow.train import train

            _quiet_lightning()
            train(config, list(HydraConfig.get().overrides.task))

        if code := run_cli(run, debug=debug):
            sys.exit(code)

    job()


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


if __name__ == "__main__":
    main()

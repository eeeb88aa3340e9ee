"""What a committee is to be: seeds, devices and folders of its members, and the config that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from nequip_like.arguments import Count, check
from nequip_like.committee.committee import METADATA_FILE
from nequip_like.errors import ConfigError, OutputError
from nequip_like.inference.device import resolve_device
from nequip_like.whole_files import written_whole
from nequip_like.workflow.resume import MODEL_FILE
from nequip_like.workflow.run_folder.records import HISTORY_FILE

SHARED_CONFIG = "committee.yaml"
SUMMARY_FILE = "summary.json"
PRINTED_FILE = "printed.log"
_OUTPUT = "${hydra:runtime.output_dir}"
_LARGEST_SEED = 2**32 - 1  # of the generators that Lightning seeds


@dataclass(frozen=True)
class CommitteeMember:
    """One member before it is trained.

    Attributes:
        index: Its number, from 0.
        seed: Seed of its weights and of its order of frames.
        device: Where it is trained: ``auto``, ``cpu``, ``cuda:1``, ...
        folder: Its output folder.
    """

    index: int
    seed: int
    device: str
    folder: Path

    @property
    def model_file(self) -> Path:
        """Its model."""
        return self.folder / MODEL_FILE

    @property
    def history_file(self) -> Path:
        """Its metrics of each validation."""
        return self.folder / HISTORY_FILE

    @property
    def summary_file(self) -> Path:
        """How it ended, and its final metrics."""
        return self.folder / SUMMARY_FILE

    @property
    def printed_file(self) -> Path:
        """What its training printed."""
        return self.folder / PRINTED_FILE


@dataclass(frozen=True)
class CommitteePlan:
    """A committee before it is trained.

    Attributes:
        folder: The folder that those of the members are in.
        members: The members.
        parallel: How many are trained at a time.
        split_seed: Seed of the split that all members share.
        bootstrap: Whether each member trains on frames that are drawn with replacement, by its seed.
        base_seed: Seed of the first member, where the others follow; None if seeds were listed.
    """

    folder: Path
    members: tuple[CommitteeMember, ...]
    parallel: int
    split_seed: int
    bootstrap: bool
    base_seed: int | None

    @property
    def metadata_file(self) -> Path:
        """What the committee is, and how its members ended."""
        return self.folder / METADATA_FILE

    @property
    def config_file(self) -> Path:
        """The config that members share."""
        return self.folder / SHARED_CONFIG

    def list_overrides(self, member: CommitteeMember, config: DictConfig, *, resumes: bool) -> list[str]:
        """What the config of a member changes of the shared one.

        Args:
            member: The member.
            config: The shared config.
            resumes: Whether it goes on from its newest checkpoint, if it has one.
        """
        changes = [f"seed={member.seed}", f"data.split_seed={self.split_seed}"]
        if self.bootstrap:
            drawn = OmegaConf.select(config, "data.sampling")
            value = f"data.sampling={{bootstrap:{member.seed}}}" if drawn is None else ""
            changes.append(value or f"++data.sampling.bootstrap={member.seed}")
        if member.device.startswith("cuda"):
            changes.append("trainer.accelerator=gpu")
        elif member.device != "auto":
            changes.append(f"trainer.accelerator={member.device}")
        return [*changes, *(["resume=auto"] if resumes else [])]


def plan_committee(
    config: DictConfig,
    folder: Path,
    *,
    members: int | None = None,
    base_seed: int | None = None,
    seeds: Sequence[int] | None = None,
    parallel: int = 1,
    devices: Sequence[str] | None = None,
    bootstrap: bool = False,
) -> CommitteePlan:
    """Decide what is the same for all members, and what each has of its own.

    Args:
        config: The composed config.
        folder: The folder of the committee.
        members: How many; by default as many as there are seeds, else 8.
        base_seed: Seed of the first member, ``base_seed + i`` that of member ``i``; by default that of the config.
        seeds: Seeds of all members, in place of ``base_seed``.
        parallel: How many to train at a time.
        devices: Where to train, member by member in turn; by default all GPUs, or the CPU without any.
        bootstrap: Whether each member trains on frames that are drawn with replacement.

    Raises:
        ConfigError: If a number makes no sense, two members would be the same, or there is no such device.
    """
    check("parallel", parallel, Count)
    if members is not None:
        check("members", members, Count)
    if seeds is None:
        first = int(config.seed) if base_seed is None else base_seed
        seeds = range(first, first + (8 if members is None else members))
        base_seed = first
    elif base_seed is not None:
        raise ConfigError("base_seed and seeds are given", "give one of them")
    member_seeds = [int(seed) for seed in seeds]
    if members is not None and members != len(member_seeds):
        raise ConfigError(f"there are {len(member_seeds)} seeds for {members} members", "give a seed for each")
    if len(member_seeds) < 2:
        raise ConfigError(f"a committee of {len(member_seeds)} has no spread", "give --members 2 or more")
    if len(set(member_seeds)) < len(member_seeds) or min(member_seeds) < 0 or max(member_seeds) > _LARGEST_SEED:
        raise ConfigError(f"seeds are {member_seeds}", f"give different numbers from 0 to {_LARGEST_SEED}")
    for key in ("ckpt_path", "resume"):
        if config.get(key) is not None:
            raise ConfigError(f"{key} is {config.get(key)!r}, the same for all members", "leave it out; take --resume")
    places = list(devices) if devices else _list_devices()
    for device in places:
        resolve_device(device)
    return CommitteePlan(
        folder,
        tuple(
            CommitteeMember(i, seed, places[i % len(places)], folder / f"member_{i:03d}")
            for i, seed in enumerate(member_seeds)
        ),
        min(parallel, len(member_seeds)),
        int(OmegaConf.select(config, "data.split_seed") or 0),
        bootstrap,
        base_seed,
    )


def _list_devices() -> list[str]:
    count = torch.cuda.device_count()
    return [f"cuda:{i}" for i in range(count)] if count else ["cpu"]


def write_shared_config(plan: CommitteePlan, config: DictConfig) -> None:
    """Write the config that members share, where they and SLURM's tasks read it.

    Args:
        plan: The committee.
        config: The composed config.

    Raises:
        OutputError: If the folder has a committee of another config, or it cannot be written.
    """
    shared = config.copy()
    OmegaConf.set_struct(shared, False)
    shared.output_dir = _OUTPUT
    text = OmegaConf.to_yaml(shared)
    file = plan.config_file
    if file.is_file() and file.read_text() != text:
        raise OutputError(
            f"{plan.folder} has a committee of another config, {file}", "give another folder: --output FOLDER"
        )
    with written_whole(file) as partial:
        partial.write_text(text)


def describe_plan(plan: CommitteePlan) -> dict[str, Any]:
    """The plan as JSON values, for the metadata."""
    return {
        "num_members": len(plan.members),
        "base_seed": plan.base_seed,
        "member_seeds": [member.seed for member in plan.members],
        "max_parallel": plan.parallel,
        "devices": [member.device for member in plan.members],
        "output_dir": str(plan.folder),
        "bootstrap": plan.bootstrap,
    }

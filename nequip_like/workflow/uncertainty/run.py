"""Trains a committee: what ``nequip-committee`` does, as a function on a config."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from nequip_like.committee.calibration import calibrate_committee, describe_calibration
from nequip_like.committee.committee import Committee
from nequip_like.committee.predictions import make_dataframe
from nequip_like.data import fields
from nequip_like.errors import ConfigError, OutputError
from nequip_like.inference.last_layer_fit import LEAST_FRAMES, UncertaintySettings
from nequip_like.model.committee import SpreadCalibration
from nequip_like.report.uncertainty.committee_table import compute_statistics, make_committee_table
from nequip_like.summaries import Summarized, print_line
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.config.machine_check import check_machine
from nequip_like.workflow.config.values import register_resolvers
from nequip_like.workflow.resume import MODEL_FILE
from nequip_like.workflow.run_folder.claims import claimed
from nequip_like.workflow.run_folder.new_folders import format_folder_override
from nequip_like.workflow.setup import build_data
from nequip_like.workflow.uncertainty.outcome import (
    DONE,
    FAILED,
    STOPPED,
    Outcome,
    judge_member,
    read_outcome,
    write_metadata,
    write_summary,
)
from nequip_like.workflow.uncertainty.plan import CommitteeMember, CommitteePlan, plan_committee, write_shared_config
from nequip_like.workflow.uncertainty.processes import train_members

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class CommitteeResult(Summarized):
    """A trained committee.

    Attributes:
        folder: Its folder.
        metadata_path: What it is and how its members ended.
        members: The members: number, seed, device, folder.
        outcomes: How each ended, with its final metrics.
        model_file: All members in one file; None unless all are done.
        stopped_by: The signal that ended the trainings, if one did.
    """

    folder: Path
    metadata_path: Path
    members: tuple[CommitteeMember, ...]
    outcomes: tuple[Outcome, ...]
    model_file: Path | None = None
    stopped_by: signal.Signals | None = None

    @property
    def stats(self) -> dict[str, dict[str, float]]:
        """Of each final metric ``mean``, ``std`` (ddof 0), ``min``, ``max``, ``n``: over the members that are done."""
        return compute_statistics([outcome.metrics for outcome in self.outcomes if outcome.status == DONE])

    @property
    def failures(self) -> dict[int, str]:
        """Why members failed, by their numbers."""
        pairs = zip(self.members, self.outcomes, strict=True)
        return {member.index: str(outcome.error) for member, outcome in pairs if outcome.status in (FAILED, STOPPED)}

    def summary(self) -> dict[str, Any]:
        """Where it is, and mean ± std of each final metric."""
        values = {name: f"{stats['mean']:.4g} ± {stats['std']:.2g}" for name, stats in self.stats.items()}
        return {"folder": self.folder, "members": len(self.members), **values}

    def to_dataframe(self) -> pandas.DataFrame:
        """A table with a row for each member.

        Raises:
            ConfigError: If pandas is not installed.
        """
        pairs = zip(self.members, self.outcomes, strict=True)
        return make_dataframe(
            [
                {"member_index": member.index, "seed": member.seed, "status": outcome.status, **outcome.metrics}
                for member, outcome in pairs
            ]
        )


def train_committee(
    config: DictConfig,
    members: int | None = None,
    *,
    base_seed: int | None = None,
    seeds: Sequence[int] | None = None,
    parallel: int = 1,
    devices: Sequence[str] | None = None,
    bootstrap: bool = False,
    output: str | Path = "committee_run",
    resume: bool = False,
    member: int | None = None,
    console: Console | None = None,
) -> CommitteeResult:
    """Train members that differ by their seeds, on one split of the data.

    Each member is a run of ``nequip-train`` in a process and a folder of its own, ``member_000`` and so on. One that
    fails is noted, and the others go on. When all are done, ``model.safetensors`` beside them holds all of them.

    Args:
        config: The composed config; its ``seed`` and ``output_dir`` are not looked at.
        members: As for :func:`~nequip_like.workflow.uncertainty.plan.plan_committee`.
        base_seed: As there.
        seeds: As there.
        parallel: As there.
        devices: As there.
        bootstrap: As there.
        output: The folder of the committee.
        resume: Leave members that are done, and go on with the others from their newest checkpoints; as if given where
            SLURM has started the job again.
        member: Train this member only: each task of a SLURM array trains its own.
        console: Where to print; the terminal by default.

    Raises:
        ConfigError: If the config or a number is wrong.
        OutputError: If the folder has a committee already, or cannot be written.
    """
    console = console or Console()
    resume = resume or int(os.environ.get("SLURM_RESTART_COUNT") or 0) > 0
    register_resolvers()
    folder = path_of(output).absolute()
    plan = plan_committee(
        config, folder, members=members, base_seed=base_seed, seeds=seeds, parallel=parallel, devices=devices,
        bootstrap=bootstrap,
    )  # fmt: skip
    if member is not None and not 0 <= member < len(plan.members):
        raise ConfigError(f"member is {member}", f"give one from 0 to {len(plan.members) - 1}")
    requested = plan.members if member is None else (plan.members[member],)
    if not resume:
        _check_new(requested)
    _check_members_config(plan, config)
    write_shared_config(plan, config)
    unfinished = [candidate for candidate in requested if not resume or read_outcome(candidate).status != DONE]
    # Tasks of an array share the folder; each member's own is held by its training.
    with nullcontext() if member is not None else claimed(folder, "--output FOLDER"):
        stopped = _train_left(plan, config, unfinished, resume, console)
    return _conclude(plan, config, stopped, console)


def _check_new(members: Sequence[CommitteeMember]) -> None:
    """Refuse to train where a member is already."""
    for member in members:
        if member.summary_file.is_file() or member.model_file.is_file():
            raise OutputError(
                f"{member.folder} has a member of an earlier committee",
                "complete that one with --resume, or give another folder: --output FOLDER",
            )


def _check_members_config(plan: CommitteePlan, config: DictConfig) -> None:
    """Check the config as the first member gets it: a mistake is said once, before any process begins."""
    check_machine(check_config(_make_first_config(plan, config)))


def _make_first_config(plan: CommitteePlan, config: DictConfig) -> DictConfig:
    """The config as the first member gets it."""
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    for override in plan.list_overrides(plan.members[0], config, resumes=False):
        key, _, value = override.partition("=")
        OmegaConf.update(changed, key.lstrip("+"), OmegaConf.create({"value": None}) if not value else _read(value))
    changed.output_dir = str(plan.members[0].folder)
    return changed


def _calibrate(
    plan: CommitteePlan, config: DictConfig, committee: Committee, console: Console
) -> SpreadCalibration | None:
    """Calibrate on the first validation set, which members share; None where the config says so or there is none."""
    settings, calibration = UncertaintySettings.read(config.get("uncertainty")), None
    if settings is None:
        line = "calibration: none, for uncertainty is none"
    else:
        data = build_data(_make_first_config(plan, config), committee.potential.type_names)
        held_out = next(iter(data.val_sets.values()), None)
        labels = {} if held_out is None else held_out.labels
        if held_out is None or not any(labels.get(label, 0) >= LEAST_FRAMES for label in fields.UNCERTAINTIES):
            line = "calibration: none, for there are no validation frames with labels"
        else:
            source = f"validation frames, {held_out.name}"
            calibration = calibrate_committee(committee.potential, held_out, settings, data.val_batch_size, source)
            line = describe_calibration(calibration)
    print_line(console, line)
    return calibration


def _read(text: str) -> Any:
    """The value of an override of ``CommitteePlan.list_overrides``: a number, a word or a mapping of one number."""
    if text.startswith("{"):
        name, _, number = text.strip("{}").partition(":")
        return {name: int(number)}
    return int(text) if text.isdigit() else text


def _train_left(
    plan: CommitteePlan, config: DictConfig, members: Sequence[CommitteeMember], resume: bool, console: Console
) -> signal.Signals | None:
    def say(line: str) -> None:
        print_line(console, line)

    def make_arguments(member: CommitteeMember) -> list[str]:
        overrides = plan.list_overrides(member, config, resumes=resume)
        return [str(plan.config_file), *overrides, format_folder_override("run", member.folder)]

    def began(member: CommitteeMember) -> None:
        member.summary_file.unlink(missing_ok=True)
        say(f"member {member.index} begins: seed {member.seed}, {member.device}, {member.printed_file}")

    def ended(member: CommitteeMember, status: int) -> None:
        outcome = judge_member(member, status)
        write_summary(plan, member, outcome)
        write_metadata(plan, config)
        say(f"member {member.index} {outcome.status}" + (f": {outcome.error}" if outcome.error else ""))

    write_metadata(plan, config)
    return train_members(members, plan.parallel, make_arguments, began, ended)


def _conclude(
    plan: CommitteePlan, config: DictConfig, stopped: signal.Signals | None, console: Console
) -> CommitteeResult:
    """Tell what came of all members; with all done, write them into one file."""
    outcomes = tuple(read_outcome(member) for member in plan.members)
    model = calibration = None
    if all(outcome.status == DONE for outcome in outcomes):
        _check_same_split(plan, outcomes)
        model = plan.folder / MODEL_FILE
        committee = Committee.from_files([member.model_file for member in plan.members])
        calibration = _calibrate(plan, config, committee, console)
        committee.save(model, {"metrics": _average(outcomes), "provenance": {"seeds": [m.seed for m in plan.members]}})
    write_metadata(plan, config, calibration)
    result = CommitteeResult(plan.folder, plan.metadata_file, plan.members, outcomes, model, stopped)
    if result.stats:
        console.print(make_committee_table(result.stats))
    for line in [] if model is None else [f"committee: {model}"]:
        print_line(console, line)
    return result


def _average(outcomes: Sequence[Outcome]) -> Mapping[str, float]:
    return {name: stats["mean"] for name, stats in compute_statistics([o.metrics for o in outcomes]).items()}


def _check_same_split(plan: CommitteePlan, outcomes: Sequence[Outcome]) -> None:
    """Refuse members that were trained on different frames: data files were changed meanwhile."""
    if len({outcome.train_set for outcome in outcomes}) > 1:
        raise OutputError(
            f"members in {plan.folder} were trained on different frames: a data file was changed meanwhile",
            "train all of them anew, in another folder",
        )

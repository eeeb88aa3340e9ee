"""How members ended: a summary of each in its folder, and the metadata of all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nequip_like.errors import ModelFileError
from nequip_like.inference import model_file
from nequip_like.model.committee import SpreadCalibration
from nequip_like.whole_files import written_whole
from nequip_like.workflow.evaluate import METRICS_FILE
from nequip_like.workflow.uncertainty.plan import CommitteeMember, CommitteePlan, describe_plan

SCHEMA_VERSION = "1.0"
DONE, FAILED, STOPPED, WAITING = "done", "failed", "stopped", "not run"
_MARK = "error: "  # how a command begins the line that says what is wrong
_LONGEST = 500


@dataclass(frozen=True)
class Outcome:
    """How the training of a member ended.

    Attributes:
        status: ``done``, ``failed``, ``stopped`` (by a signal) or ``not run``.
        metrics: Its final metrics by name: of validation, and of test sets (``test/NAME/...``).
        error: Why it failed; None if it did not.
        train_set: What tells its training frames from others.
    """

    status: str
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None
    train_set: str | None = None


def read_outcome(member: CommitteeMember) -> Outcome:
    """The outcome that was noted of a member; ``not run`` without one."""
    try:
        values = json.loads(member.summary_file.read_text())
        return Outcome(values["status"], values["metrics"], values["error"], values["train_set"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or cut off by a crash: it is trained again
        return Outcome(WAITING)


def judge_member(member: CommitteeMember, status: int) -> Outcome:
    """Find out how a member ended.

    Args:
        member: The member.
        status: Exit status of its training.
    """
    if status == 0:
        try:
            card = model_file.read_card(member.model_file)
        except ModelFileError as error:
            return Outcome(FAILED, error=error.message)
        metrics = _keep_finite(card.get("metrics") or {}) | _read_test_metrics(member.folder / METRICS_FILE)
        return Outcome(DONE, metrics, None, (card.get("provenance") or {}).get("train_set"))
    if status > 128 or status < 0:
        return Outcome(STOPPED, error=f"stopped by signal {status - 128 if status > 128 else -status}")
    return Outcome(FAILED, error=_find_reason(member.printed_file) or f"exit status {status}")


def write_summary(plan: CommitteePlan, member: CommitteeMember, outcome: Outcome) -> None:
    """Note how a member ended, in its folder.

    Raises:
        OutputError: If it cannot be written.
    """
    _write(member.summary_file, {**_describe(plan, member, outcome), "train_set": outcome.train_set})


def write_metadata(plan: CommitteePlan, config: DictConfig, calibration: SpreadCalibration | None = None) -> None:
    """Write what the committee is and how its members ended, as far as that is noted: any number of processes may.

    Args:
        plan: The committee.
        config: The shared config.
        calibration: That of the committee, once all members are done.

    Raises:
        OutputError: If it cannot be written.
    """
    members = [_describe(plan, member, read_outcome(member)) for member in plan.members]
    values: Any = OmegaConf.to_container(config, resolve=False)
    _write(
        plan.metadata_file,
        {
            "schema_version": SCHEMA_VERSION,
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
            "execution_mode": "parallel" if plan.parallel > 1 else "sequential",
            "output_dir": str(plan.folder),
            "committee_config": describe_plan(plan),
            "training_config": values,
            "architecture": values.get("model"),
            "resolved_train_dataset": values["data"].get("train"),
            "resolved_test_dataset": values["data"].get("test"),
            "members": members,
            "calibration": None if calibration is None else calibration.describe(),
            "failures": [
                {"member_index": entry["member_index"], "status": entry["status"], "error": entry["error"]}
                for entry in members
                if entry["status"] not in (DONE, WAITING)
            ],
        },
    )


def _describe(plan: CommitteePlan, member: CommitteeMember, outcome: Outcome) -> dict[str, Any]:
    values = asdict(outcome)
    return {
        "member_index": member.index,
        "seed": member.seed,
        "split_seed": plan.split_seed,
        "device": member.device,
        "member_dir": str(member.folder),
        "model_path": str(member.model_file),
        "history_csv_path": str(member.history_file),
        "summary_path": str(member.summary_file),
        "checkpoint_dir": str(member.folder / "checkpoints"),
        **{name: values[name] for name in ("status", "metrics", "error")},
    }


def _read_test_metrics(path: Path) -> dict[str, float]:
    if not path.is_file():
        return {}
    of_sets = json.loads(path.read_text())
    return {
        f"test/{name}/{metric}": value
        for name, metrics in of_sets.items()
        for metric, value in _keep_finite(metrics).items()
    }


def _keep_finite(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(x) for name, x in metrics.items() if isinstance(x, int | float) and math.isfinite(x)}


def _find_reason(printed: Path) -> str | None:
    """The last error that a training printed; without one the last line."""
    lines = [line.strip() for line in printed.read_text(errors="replace").splitlines()] if printed.is_file() else []
    messages = [line.removeprefix(_MARK) for line in lines if line.startswith(_MARK)] or [
        line for line in lines if line
    ]
    return messages[-1][:_LONGEST] if messages else None


def _write(path: Path, values: Mapping[str, Any]) -> None:
    with written_whole(path) as partial:
        partial.write_text(json.dumps(values, indent=1) + "\n")

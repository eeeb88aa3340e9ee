"""Reads the files of an offline run of wandb by wandb's own description of its records.

The file has the blocks of a LevelDB log: 32 KiB each, in them pieces with a head of 7 bytes (checksum, length, kind).
"""

import json
import struct
from pathlib import Path

BLOCK, HEAD = 32768, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def read_records(path):
    """The records, as wandb's own messages."""
    from wandb.proto import wandb_internal_pb2

    content = Path(path).read_bytes()
    assert content[:4] == b":W&B"
    place, parts, records = HEAD, [], []
    while place + HEAD <= len(content):
        left = BLOCK - place % BLOCK
        if left < HEAD:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + HEAD])
        if kind == 0:
            break
        parts.append(content[place + HEAD : place + HEAD + length])
        place += HEAD + length
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(parts))
            records.append(record)
            parts = []
    return records


class OfflineRun:
    """What is in the files of a run."""

    def __init__(self, folder):
        self.folder = Path(folder)
        (path,) = self.folder.glob("*.wandb")
        self.records = read_records(path)

    @property
    def run_id(self):
        return next(record.run.run_id for record in self.records if record.HasField("run"))

    @property
    def config(self):
        values = {}
        for record in self.records:
            updates = [*record.config.update, *(record.run.config.update if record.HasField("run") else [])]
            values |= {item.key: json.loads(item.value_json) for item in updates if item.key}
        return values

    @property
    def history(self):
        """Rows of what was logged."""
        return [
            {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for record in self.records
            if record.HasField("history")
        ]

    @property
    def axes(self):
        """``{metric or pattern: its axis}``."""
        metrics = [record.metric for record in self.records if record.HasField("metric")]
        return {metric.name or metric.glob_name: metric.step_metric for metric in metrics}

    @property
    def artifacts(self):
        return [
            record.request.log_artifact.artifact if record.HasField("request") else record.artifact
            for record in self.records
            if record.HasField("artifact") or record.request.HasField("log_artifact")
        ]

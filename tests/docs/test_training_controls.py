"""The table of training controls: the tests that it names are there, and so is each key of XequiNet's trainer."""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/training.md").read_text()
ROWS = [line for line in PAGE.partition("## Losses and their weights")[2].splitlines() if line.startswith("| ")]
XEQUINET = """
    run_name resume ckpt_file finetune_modules lossfn losses_weight optimizer optimizer_kwargs max_lr min_lr
    warmup_scheduler warmup_epochs lr_scheduler lr_scheduler_kwargs early_stoppings early_stopping_mode ema_decay
    save_dir best_k log_file log_steps log_epochs max_epochs grad_clip seed num_workers
"""


@functools.cache
def functions(path):
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


def test_each_test_that_is_named_exists():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", "\n".join(ROWS))
    assert len(named) > 150
    missing = [
        f"{path}::{name}" for path, name in named if not (ROOT / path).is_file() or name not in {"", *functions(path)}
    ]
    assert missing == []


def test_each_row_of_a_control_that_we_have_names_a_test():
    without = [
        row.split(" | ")[0].strip("| ") for row in ROWS if "`tests/" not in row and not row.startswith("| theirs")
    ]
    assert without == [
        "IO handler's `ema_decay` (mlip)",
        "HEAD `enable_async_checkpointing`, `use_single_host_patch` (mlip)",
    ]


def test_each_key_of_xequinet_has_a_row():
    first = " ".join(row.split(" | ")[0] for row in ROWS)
    words = set(re.findall(r"\w+", first))
    assert [key for key in XEQUINET.split() if key not in words] == []

"""The section ``finetune``: what it may say."""

# ruff: noqa: E501 (messages stand here as they are printed)

from __future__ import annotations

import re

import pytest

from nequip_like.errors import ConfigError
from nequip_like.workflow.finetune.settings import Lora, Settings, read_settings

NONE = {"source": None, "modules": None, "freeze": None, "new_species": "error", "shifts": "keep", "lora": None}


def test_no_fine_tuning():
    assert read_settings(None) is None
    assert read_settings({}) is None
    assert read_settings(NONE) is None


def test_settings():
    assert read_settings({**NONE, "source": "a"}) == Settings("a")
    whole = {"source": "a", "modules": ["readout"], "new_species": {"Br": "Cl"}, "shifts": "refit", "lora": {"rank": 8}}
    assert read_settings(whole) == Settings("a", ["readout"], None, {"Br": "Cl"}, "refit", Lora(8, 8.0))
    assert read_settings({"source": "a", "lora": {"rank": 8, "alpha": 4}}).lora == Lora(8, 4.0)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("a", "finetune is 'a'\n  -> write finetune.source=model.safetensors"),
        ({"sorce": "a"}, "finetune: unknown key 'sorce'\n  -> did you mean 'source'?"),
        ({"source": 3}, "finetune.source is 3"),
        ({"source": "a", "modules": "readout"}, "finetune.modules is 'readout'\n  -> give a list"),
        ({"source": "a", "modules": []}, "finetune.modules is empty"),
        ({"source": "a", "modules": [""]}, "finetune.modules is ['']"),
        ({"source": "a", "freeze": "head"}, "finetune.freeze is 'head'\n  -> did you mean 'head_only'?"),
        ({"source": "a", "freeze": "head_only", "modules": ["readout"]}, "finetune.freeze and finetune.modules are both"),
        ({"source": "a", "freeze": "head_only", "lora": {"rank": 2}}, "finetune.freeze and finetune.lora are both given"),
        ({"source": "a", "new_species": "men"}, "finetune.new_species is 'men'\n  -> did you mean 'mean'?"),
        ({"source": "a", "new_species": {"Xx": "C"}}, "'Xx' is no chemical symbol"),
        ({"source": "a", "shifts": "fit"}, "finetune.shifts is 'fit'\n  -> did you mean 'refit'?"),
        ({"source": "a", "lora": {}}, "finetune.lora has no 'rank'"),
        ({"source": "a", "lora": {"rank": 0}}, "finetune.lora.rank is 0"),
        ({"source": "a", "lora": {"rank": 2, "alpha": -1.0}}, "finetune.lora.alpha is -1.0"),
        ({"source": "a", "lora": {"rank": 2, "alfa": 1}}, "finetune.lora: unknown key 'alfa'\n  -> did you mean 'alpha'?"),
        ({"shifts": "refit"}, "finetune.shifts is given, but finetune.source is not"),
        ({"source": None, "modules": ["a"]}, "finetune.modules is given, but finetune.source is not"),
    ],
)  # fmt: skip
def test_wrong_settings(section, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_settings(section)

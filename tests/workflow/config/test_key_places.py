"""Where a key is that was written elsewhere."""

import pytest
from omegaconf import OmegaConf

from nequip_like.workflow.config.key_places import OTHER_NAMES, place_hint

CONFIG = {
    "seed": 0,
    "data": {"seed": "${seed}", "batch_size": 5},
    "model": {"seed": "${seed}", "shifts": "${training_data_stats:reference_energies}"},
    "a": {"b": {"patience": 1}},
    "c": {"patience": 2},
    "hydra": {"verbose": False},
}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("batch_size", "did you mean 'data.batch_size'? "),
        ("seed", "did you mean 'seed'? "),
        ("shifts", "did you mean 'model.shifts'? "),
        ("patience", "did you mean 'a.b.patience' or 'c.patience'? "),
        ("verbose", ""),
        ("batch_sise", ""),
        ("r_max", "did you mean 'cutoff_radius'? "),
    ],
)
def test_exact_names(name, hint):
    assert place_hint(name, CONFIG) == hint


def test_names_that_are_much_alike():
    assert place_hint("batch_sise", CONFIG, exactly=False) == "did you mean 'data.batch_size'? "
    assert place_hint("xyz", CONFIG, exactly=False) == ""


def test_what_was_written_is_no_place():
    assert place_hint("batch_size", CONFIG, "data.batch_size") == ""
    assert place_hint("patience", CONFIG, "b.patience") == "did you mean 'a.b.patience'? "


def test_every_other_name_leads_to_a_key_that_there_is(compose):
    config = OmegaConf.to_container(compose(), resolve=False)
    groups = {"lr_scheduler"}
    for place in set(OTHER_NAMES.values()) - groups:
        node = config
        for part in place.split("."):
            assert part in node, place
            node = node[part]


def test_no_key_of_ours_has_another_meaning_as_a_name_of_others(compose):
    """A section's own key would be passed over for the table's."""
    config = OmegaConf.to_container(compose(), resolve=False)
    assert not set(config) & set(OTHER_NAMES)

import pytest

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.yaml_size import check_yaml_size


def test_aliases_count_as_often_as_they_are_used(tmp_path):
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 5)]
    check_yaml_size("\n".join(lines[:4]), tmp_path)  # 1 + sum of 2, 12, 112, ...: 12,345 values and their keys
    with pytest.raises(ConfigError, match="more than 100000 values"):
        check_yaml_size("\n".join(lines), tmp_path)


@pytest.mark.parametrize("text", ["a: &a [*a]", "[" * 5000 + "]" * 5000, "a: " + "{a: " * 5000 + "1" + "}" * 5000])
def test_nested_too_deeply(tmp_path, text):
    with pytest.raises(ConfigError, match="nested too deeply"):
        check_yaml_size(text, tmp_path)


def test_nothing(tmp_path):
    check_yaml_size("", tmp_path)

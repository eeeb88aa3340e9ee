"""The log of a run has what was seen at last, and a bar that is drawn for hours takes no memory."""

import sys

from nequip_like.workflow.runner.printed_log import kept_in


def test_a_bar_and_a_line_without_end(tmp_path, capsys):
    with kept_in(tmp_path / "logs" / "a.log"):
        for step in range(1000):
            print(f"\rstep {step}", end="")
        assert len(sys.stdout._line) < 20
        print("\rdone\r\nlast\r", end="")
    assert (tmp_path / "logs" / "a.log").read_text() == "done\nlast\n"
    assert capsys.readouterr().out.endswith("step 999\rdone\r\nlast\r")

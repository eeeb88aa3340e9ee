"""Lines of trainers of others: what is a message, what is for the log, and what is refused."""

import json

import pytest

from nequip_like.errors import BackendError
from nequip_like.workflow.runner.external.messages import (
    LONGEST,
    MARK,
    Conversation,
    Message,
    read_message,
    write_message,
)


def test_messages_are_read_as_they_are_written():
    line = write_message("metrics", values={"val0_epoch/forces_mae": 0.25, "stress": None}, epoch=3)
    assert read_message(line) == Message(
        "metrics", {"values": {"val0_epoch/forces_mae": 0.25, "stress": None}, "epoch": 3}
    )
    assert read_message(write_message("end", status="done", reason=None)) == Message("end", {"status": "done"})


@pytest.mark.parametrize(
    "line", ["", "Epoch 3: 100%", '{"message": "end", "status": "done"}', "\x1b[31mred", "::nequip"]
)
def test_other_lines_are_for_the_log(line):
    assert read_message(line) is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is no JSON"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("3", "is no mapping"),
        ("null", "is no mapping"),
        ("{}", "has the kind None"),
        ('{"message": ["end"]}', "has the kind"),
        ('{"message": "metric", "values": {}}', "did you mean 'metrics'"),
        ('{"message": "progress"}', "has no 'done'"),
        ('{"message": "progress", "done": null}', "has no 'done'"),
        ('{"message": "progress", "done": -1}', "give a number, 0 or more"),
        ('{"message": "progress", "done": "1"}', "done is '1'"),
        ('{"message": "progress", "done": true}', "done is true"),
        ('{"message": "progress", "done": 1, "of": 0}', "of is 0"),
        ('{"message": "progress", "done": 1, "total": 9}', "unknown key 'total'"),
        ('{"message": "progress", "done": 1, "done": 2}', "a key is there twice"),
        ('{"message": "metrics", "values": {"loss": NaN}}', "give null for a metric without a value"),
        ('{"message": "metrics", "values": {"loss": -Infinity}}', "give null for a metric without a value"),
        ('{"message": "metrics", "values": {"loss": 1e999}}', "not finite"),
        ('{"message": "metrics", "values": {"loss": ' + "9" * 400 + "}}", "not finite"),
        ('{"message": "metrics", "values": {"loss": ' + "9" * 9000 + "}}", "is no JSON"),
        ('{"message": "metrics", "values": {"loss": "0.1"}}', "values is"),
        ('{"message": "metrics", "values": {"a\\nb": 0.1}}', "values is"),
        ('{"message": "metrics", "values": {}, "epoch": 1.5}', "epoch is 1.5"),
        ('{"message": "artifacts", "files": ["model"]}', "files is"),
        ('{"message": "artifacts", "files": {"model": 3}}', "files is"),
        ('{"message": "end", "status": "fine"}', "give done, failed or stopped"),
        ('{"message": "start", "protocol": 1, "trainer": ""}', "trainer is ''"),
        ('{"message": "start", "protocol": 1, "trainer": "a\\u001b[2J"}', "trainer is"),
    ],
)
def test_what_is_marked_and_no_message_is_refused(text, says):
    with pytest.raises(BackendError) as caught:
        read_message(f"{MARK} {text}")
    assert says in str(caught.value)
    assert len(str(caught.value)) < 1500


def test_long_and_misplaced_messages():
    with pytest.raises(BackendError, match="is longer than 1000 kB"):
        read_message(f"{MARK} {json.dumps('x' * LONGEST)}")
    with pytest.raises(BackendError, match="print a newline before it"):
        read_message(f"step 3 {write_message('progress', done=1)}")
    with pytest.raises(BackendError) as caught:
        read_message(f"{MARK} \x1b[2J\x00")
    assert "\x1b" not in str(caught.value)


def test_order():
    talk = Conversation()
    with pytest.raises(BackendError, match="'progress' before its 'start'"):
        talk.accept(Message("progress", {"done": 1}))
    with pytest.raises(BackendError, match="speaks the protocol 2, not 1"):
        talk.accept(Message("start", {"protocol": 2, "trainer": "other"}))
    talk.accept(Message("start", {"protocol": 1, "trainer": "mine"}))
    assert talk.trainer == "mine"
    with pytest.raises(BackendError, match="a second message 'start'"):
        talk.accept(Message("start", {"protocol": 1, "trainer": "mine"}))
    talk.accept(Message("metrics", {"values": {"a": 1, "b": 2.0}}))
    talk.accept(Message("metrics", {"values": {"a": 0.5, "b": None}}))
    assert talk.metrics == {"a": 0.5, "b": 2.0}
    talk.accept(Message("end", {"status": "done"}))
    with pytest.raises(BackendError, match="'end' behind its 'end'"):
        talk.accept(Message("end", {"status": "done"}))

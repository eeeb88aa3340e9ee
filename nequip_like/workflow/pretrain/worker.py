"""A process that labels: jobs come in pickled, answers go out, until the input ends.

``python -m nequip_like.workflow.pretrain.worker TEACHER``, started by :mod:`~nequip_like.workflow.pretrain.workers`.
"""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO

from nequip_like.workflow.pretrain.jobs import perform
from nequip_like.workflow.pretrain.teachers import build_teacher

# Forces of GFN2-xTB are then within 0.5 meV/Angstrom (RMS) of converged ones, in a sixth less time; the method itself
# is wrong by hundreds.
_ACCURACY = 10.0


def work(teacher: str, jobs: IO[bytes], answers: IO[bytes]) -> None:
    """Do jobs, each with a new teacher: the start of its iterations is not left over from another job.

    Args:
        teacher: Its name.
        jobs: Pickled pairs of a number and a job.
        answers: Gets pickled triples: the number, an answer or None at the end of the job, and its seconds.
    """
    while True:
        try:
            number, job = pickle.load(jobs)
        except EOFError:  # nobody asks any more
            return
        for answer, seconds in perform(job, build_teacher(teacher, (), (), accuracy=_ACCURACY).calculator):
            _send(answers, (number, answer, seconds))
        _send(answers, (number, None, 0.0))


def _send(stream: IO[bytes], message: object) -> None:
    pickle.dump(message, stream)
    stream.flush()


if __name__ == "__main__":
    # Libraries print to the standard output: that becomes the error stream, and answers go where it was.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        work(sys.argv[1], sys.stdin.buffer, answers)
    except BrokenPipeError:
        os._exit(1)  # nobody listens any more

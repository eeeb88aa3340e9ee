"""What comes after the last step of a run with a budget: validation, test, export, report. Its time is set aside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Seconds of processor time, measured with a small molecule and a metal on a server of 2025: the last checkpoints, the
# model, importing matplotlib, the learning curves, the end of the process; rather too much than too little.
_EXPORT = 2.5
# A parity plot, tables and files of each test set.
_REPORT_OF_SET = 0.5
_REPORT_OF_ATOM = 5.0e-5
# report.html: the modules that write it, and the plots of the test sets' atoms.
_PAGE = 0.5
_PAGE_OF_ATOM = 2.5e-5
# A validation computes forces as a training step does, and no gradients of weights.
_VALIDATION_OF_STEP = 0.4


@dataclass(frozen=True)
class Reserve:
    """The work that is left when the last step is done.

    Attributes:
        step_atoms: Atoms of a training step.
        val_atoms: Atoms of all validation sets.
        test_atoms: Atoms of all test sets; 0 if there is no test.
        test_sets: Number of test sets.
        uncertainty_atoms: Atoms that the uncertainty of the model file is made of; 0 if it gets none.
        passes: How often the validation sets are gone through: after the last step, and by the task ``val``.
        page: Whether ``report.html`` is written.
    """

    step_atoms: float = 1.0
    val_atoms: int = 0
    test_atoms: int = 0
    test_sets: int = 0
    uncertainty_atoms: int = 0
    passes: int = 1
    page: bool = False

    @classmethod
    def of(cls, tasks: Sequence[str], **sizes: float) -> Reserve:
        """The work of the tasks that come after the training.

        Args:
            tasks: All tasks of the run, in order.
            **sizes: The other attributes, as if all tasks were done.
        """
        after = tasks[tasks.index("train") + 1 :] if "train" in tasks else []
        without_test = {} if "test" in after else {"test_atoms": 0, "test_sets": 0}
        return cls(**{**sizes, **without_test, "passes": 1 + after.count("val")})  # type: ignore[arg-type] # sizes

    def estimate(self, step_seconds: float, validation_seconds: float | None, contention: float = 1.0) -> float:
        """Seconds that the work will take.

        Args:
            step_seconds: Time of a training step.
            validation_seconds: Time of the last validation; None before the first one, which is guessed then.
            contention: Seconds that go by for one of processor time: above 1 if others use the machine, too.
        """
        of_atom = _VALIDATION_OF_STEP * step_seconds / self.step_atoms
        if validation_seconds is None:
            validation_seconds = of_atom * self.val_atoms
        elif self.val_atoms:
            # Of a small set, most of the time is that around it, and no measure for a large one.
            of_atom = min(of_atom, validation_seconds / self.val_atoms)
        report = _EXPORT + _REPORT_OF_ATOM * self.test_atoms + _REPORT_OF_SET * self.test_sets
        report += _PAGE + _PAGE_OF_ATOM * self.test_atoms if self.page else 0.0
        # Test sets are gone through twice: for what is logged, and for the files of predictions.
        passes = self.passes * validation_seconds + of_atom * (2 * self.test_atoms + self.uncertainty_atoms)
        return contention * report + passes

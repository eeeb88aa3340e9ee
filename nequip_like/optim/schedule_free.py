"""Schedule-free optimizers (Defazio et al. 2024), whose result is an average of the weights that they train.

They train weights ``y`` and keep ``z`` beside them; what is evaluated, exported and found in a checkpoint as the
model's weights is their average ``x``. Going from ``y`` to ``x`` and back rounds, so ``y`` is put aside and comes back
bit for bit: a validation changes nothing, and a resumed run goes on exactly.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nequip_like.errors import ConfigError
from nequip_like.optim.closure import evaluate_closure

#: Names, in lower case, to classes of the library.
CLASSES = {
    "schedulefreeadamw": "AdamWScheduleFree",
    "schedulefreesgd": "SGDScheduleFree",
    "schedulefreeradam": "RAdamScheduleFree",
}


def schedule_free_class(name: str) -> type[Optimizer]:
    """A class of the library ``schedulefree``.

    Args:
        name: Its name there.

    Raises:
        ConfigError: If the library is not installed.
    """
    try:
        library = importlib.import_module("schedulefree")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the optimizer {name} needs the package schedulefree", "pip install nequip_like[schedulefree]"
        ) from error
    kind: type[Optimizer] = getattr(library, name)

    def step(self: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
        # The library counts a step although it is left out, which would change the weights of its average.
        loss = evaluate_closure(closure)
        if any(parameter.grad is not None for group in self.param_groups for parameter in group["params"]):
            kind.step(self)
        return loss

    return type(name, (kind,), {"step": step, "__module__": __name__, "__doc__": kind.__doc__})


def is_schedule_free(optimizer: Optimizer) -> bool:
    """Whether an optimizer has two sets of weights: those that are trained and their average."""
    return all("train_mode" in group for group in optimizer.param_groups)


class ScheduleFreeWeights:
    """Changes a model between the weights that are trained and their average.

    Until :meth:`begin`, the model has the average: at the start the initial weights, after loading those of the file.

    Args:
        optimizer: A schedule-free optimizer; without one there is nothing to change.
        model: The model that it trains.
    """

    def __init__(self, optimizer: Any = None, model: nn.Module | None = None) -> None:
        self._optimizer = optimizer
        self._parameters: dict[str, nn.Parameter] = {}
        if optimizer is not None and model is not None:
            scheduled_ids = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            self._parameters = {name: p for name, p in model.named_parameters() if id(p) in scheduled_ids}
        self._trained: dict[str, Tensor] | None = None  # put aside
        self._begun = False

    @classmethod
    def of(cls, optimizer: Optimizer, model: nn.Module, averaging: str | None = None) -> ScheduleFreeWeights:
        """Those of an optimizer, which may be any.

        Args:
            optimizer: Any optimizer.
            model: The model that it trains.
            averaging: Kind of average that is kept of the trained weights besides.

        Raises:
            ConfigError: If the trained weights, which are none to be used, would be averaged.
        """
        if not is_schedule_free(optimizer):
            return cls()
        if averaging is not None:
            raise ConfigError(
                f"the optimizer {type(optimizer).__name__} averages the weights itself, and the training module keeps "
                f"an average, too ({averaging})",
                "write training_module=default",
            )
        return cls(optimizer, model)

    def begin(self, trained: Mapping[str, Tensor] | None = None) -> None:
        """Give the model the weights that are trained.

        Args:
            trained: Those of a checkpoint; None at the start of a run.
        """
        if self._optimizer is None:
            return
        self._optimizer.train()
        self._begun, self._trained = True, None
        if trained is not None:
            self._set(trained)

    def show_average(self) -> None:
        """Give the model the averaged weights, and put aside those that are trained."""
        if self._begun and self._trained is None:
            self._trained = self._copy_weights()
            self._optimizer.eval()

    def show_trained(self) -> None:
        """Give the model back the weights that are trained, bit for bit."""
        if self._trained is not None:
            self._optimizer.train()
            self._set(self._trained)
            self._trained = None

    def put_average(self, state: dict[str, Any], prefix: str = "model.") -> dict[str, Tensor] | None:
        """Put the averaged weights into the state of a checkpoint, whatever the model has now.

        Args:
            state: The ``state_dict``; changed in place.
            prefix: What the names of the model's parameters begin with there.

        Returns:
            The weights that are trained, by the names of the parameters; None without a schedule-free optimizer.
        """
        if self._optimizer is None:
            return None
        has_average = self._trained is not None
        self.show_average()
        average = self._copy_weights()
        trained = average if self._trained is None else self._trained  # not begun: there is no difference yet
        if not has_average:
            self.show_trained()
        state |= {f"{prefix}{name}": weights for name, weights in average.items()}
        return trained

    def _copy_weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(weights[name])

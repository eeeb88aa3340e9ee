"""Lightning's loop over the batches of an epoch, in which an ordinary step costs little beside its hooks.

Between the hooks of a step Lightning makes closures, contexts and copies of the loss, reads the signature of
``training_step``, asks which loop is at work and whether methods are overridden, and collects all logged values
whether or not somebody wants them. Of a step of a small molecule this is a tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.core.hooks import DataHooks
from lightning.pytorch.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from lightning.pytorch.loops.optimization.automatic import ClosureResult
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities.model_helpers import is_overridden
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

from nequip_like.errors import TrainingError
from nequip_like.training.lean_steps.direct_gradients import differentiate_directly

Hook = Callable[..., Any]

# Those that Lightning calls in each step, on all callbacks and then on the module.
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_STRATEGY_HOOKS = (
    "on_train_batch_start",
    "training_step",
    "post_training_step",
    "pre_backward",
    "backward",
    "post_backward",
    "optimizer_step",
    "batch_to_device",
)
_TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


class LeanEpochLoop(_TrainingEpochLoop):
    """The loop of one process: the hooks, counts and values of an ordinary step are Lightning's, and so is their order.

    What is not ordinary (see :func:`is_ordinary`) Lightning's own code does: several processes, accumulated gradients,
    another precision, a profiler that shows each hook.
    """

    _hooks: StepHooks | None = None  # within an epoch of ordinary steps

    def run(self, data_fetcher: _DataFetcher) -> None:
        """Run an epoch."""
        self._hooks = StepHooks(self.trainer) if is_ordinary(self.trainer, data_fetcher) else None
        try:
            super().run(data_fetcher)
        finally:
            self._hooks = None

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Take one step.

        Raises:
            StopIteration: If the module ends the epoch.
        """
        hooks = self._hooks
        # A run that goes on from a checkpoint begins with questions that only Lightning asks.
        if hooks is None or self._restarting or self.val_loop._restarting:
            super().advance(data_fetcher)
            return
        progress, connector = self.batch_progress, self.trainer._logger_connector
        batch, _, __ = next(data_fetcher)
        index = self.batch_idx + 1
        progress.is_last_batch = data_fetcher.done
        batch = hooks.move(batch)
        progress.increment_ready()
        connector._first_loop_iter = connector._first_loop_iter is None
        self._note_values_of(batch)
        output: dict[str, Any] | None = None
        if hooks.call("on_train_batch_start", batch, index) == -1:
            progress.increment_by(0, is_last_batch=True)
            ends_here = True
        else:
            progress.increment_started()
            output = self._optimize(hooks, batch, index)
            ends_here = False
        progress.increment_processed()
        self._step_schedules(hooks)
        if self._num_ready_batches_reached():
            self.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        if ends_here:
            connector.on_batch_end()  # of the step before, which did not know that it was the last
            raise StopIteration
        hooks.call("on_train_batch_end", output, batch, index)
        if self._shows_values(data_fetcher):
            connector.on_batch_end()
        else:
            self._note_values_of(None)
        progress.increment_completed()
        connector.update_train_step_metrics()

    def _optimize(self, hooks: StepHooks, batch: Any, index: int) -> dict[str, Any]:
        """Compute a batch's gradients and let the optimizer step; what ``training_step`` gave."""
        trainer, module, optimizer = self.trainer, hooks.module, hooks.optimizer
        progress = self.automatic_optimization.optim_progress.optimizer
        outputs: list[dict[str, Any]] = []

        def compute_gradients() -> Tensor | None:
            with torch.enable_grad():
                given = hooks.call_within("training_step", module.training_step, *hooks.choose_arguments(batch, index))
                loss, output = _read_output(given)
                outputs.append(output)
                progress.zero_grad.increment_ready()
                hooks.call("on_before_zero_grad", optimizer)
                progress.zero_grad.increment_started()
                module.optimizer_zero_grad(trainer.current_epoch, index, optimizer)
                progress.zero_grad.increment_completed()
                if loss is not None:
                    hooks.call("on_before_backward", loss)
                    if not (hooks.differentiates and differentiate_directly(loss)):
                        module.backward(loss)
                    hooks.call("on_after_backward")
            hooks.call("on_before_optimizer_step", optimizer)
            hooks.call_within(
                "configure_gradient_clipping",
                module.configure_gradient_clipping,
                optimizer,
                gradient_clip_val=trainer.gradient_clip_val,
                gradient_clip_algorithm=trainer.gradient_clip_algorithm,
            )
            return output.get("loss")

        progress.step.increment_ready()
        hooks.call_within(
            "optimizer_step", module.optimizer_step, trainer.current_epoch, index, optimizer, compute_gradients
        )
        progress.step.increment_completed()
        if not outputs:
            raise TrainingError(
                "the step of the optimizer never asked for the loss",
                "let optimizer_step of the module call optimizer.step(closure=optimizer_closure)",
            )
        return outputs[-1]

    def _step_schedules(self, hooks: StepHooks) -> None:
        """Let the schedules that go by steps, and follow no metric, do theirs."""
        for entry in self.trainer.lr_scheduler_configs:
            if entry.interval != "step" or entry.reduce_on_plateau or (self.batch_idx + 1) % entry.frequency:
                continue
            self.scheduler_progress.increment_ready()
            hooks.call_within("lr_scheduler_step", hooks.module.lr_scheduler_step, entry.scheduler, None)
            self.scheduler_progress.increment_completed()

    def _note_values_of(self, batch: Any) -> None:
        """Tell the collection of logged values which batch they are of."""
        self._results.batch, self._results.batch_size = batch, None
        self._results.dataloader_idx = None

    def _shows_values(self, data_fetcher: _DataFetcher) -> bool:
        """Whether something follows this batch that asks for the values of its step and cannot ask the loop itself.

        Within the epoch, whoever asks for values gets those of the last step, collected there and then.
        """
        trainer = self.trainer
        return (
            trainer._val_check_time_interval is not None  # a validation by the clock: nobody knows
            or trainer.should_stop
            or trainer.received_sigterm
            or self._is_training_done
            or self._should_check_val_fx(data_fetcher)
        )

    def _should_check_val_epoch(self) -> bool:
        """Whether there is a validation in this epoch."""
        if self._hooks is None:
            return super()._should_check_val_epoch()
        every = self.trainer.check_val_every_n_epoch
        return (
            self._hooks.validates
            and self.trainer.limit_val_batches > 0
            and (every is None or (self.trainer.current_epoch + 1) % every == 0)
        )


class StepHooks:
    """What is called in each step of an epoch: found once.

    Args:
        trainer: A trainer at the start of an epoch.

    Attributes:
        module: The module that is trained.
        optimizer: Its optimizer.
        validates: Whether the trainer has something to validate.
        differentiates: Whether gradients are those of the loss, and not what the module makes of it.
    """

    def __init__(self, trainer: lightning.Trainer) -> None:
        self.module = trainer.lightning_module
        self.optimizer = trainer.optimizers[0]
        self.validates = trainer.enable_validation
        self.differentiates = not is_overridden("backward", self.module)
        self._trainer = trainer
        self._takes_index = is_param_in_hook_signature(self.module.training_step, "batch_idx", min_args=2)
        self._of_callbacks = {name: _list_callback_hooks(trainer, name) for name in STEP_HOOKS}
        self._of_module = {
            name: getattr(self.module, name) if is_overridden(name, self.module) else None for name in STEP_HOOKS
        }
        self._transfers = _list_transfers(trainer)

    def call(self, name: str, *arguments: Any) -> Any:
        """Call a hook of all callbacks and of the module, in Lightning's order; what the module's gives."""
        callbacks, of_module = self._of_callbacks[name], self._of_module[name]
        if not callbacks and of_module is None:
            return None
        module = self.module
        before, module._current_fx_name = module._current_fx_name, name
        for hook in callbacks:
            hook(self._trainer, module, *arguments)
        result = None if of_module is None else of_module(*arguments)
        module._current_fx_name = before
        return result

    def call_within(self, name: str, function: Hook, *arguments: Any, **options: Any) -> Any:
        """Call a method of the module; what it logs is logged under this name."""
        module = self.module
        before, module._current_fx_name = module._current_fx_name, name
        result = function(*arguments, **options)
        module._current_fx_name = before
        return result

    def choose_arguments(self, batch: Any, index: int) -> tuple[Any, ...]:
        """Arguments of ``training_step``."""
        return (batch, index) if self._takes_index else (batch,)

    def move(self, batch: Any) -> Any:
        """Bring a batch to the device."""
        for transfer in self._transfers:
            batch = transfer(batch)
        return batch


def is_ordinary(trainer: lightning.Trainer, data_fetcher: _DataFetcher) -> bool:
    """Whether nothing but hooks stands between a batch and a step of the optimizer.

    Args:
        trainer: A trainer at the start of an epoch.
        data_fetcher: Its batches.
    """
    strategy, module = trainer.strategy, trainer.lightning_module
    return (
        type(strategy) is SingleDeviceStrategy
        and type(strategy.precision_plugin) is Precision
        and all(getattr(SingleDeviceStrategy, name) is getattr(Strategy, name) for name in _STRATEGY_HOOKS)
        and strategy.model is module
        and module.automatic_optimization
        and len(trainer.optimizers) == 1
        and trainer.accumulate_grad_batches == 1
        and not isinstance(data_fetcher, _DataLoaderIterDataFetcher)
    )


def _read_output(given: Any) -> tuple[Tensor | None, dict[str, Any]]:
    """The loss that ``training_step`` gave, and what callbacks get of it."""
    if isinstance(given, Tensor):
        return given, {"loss": given.detach()}
    result = ClosureResult.from_training_step_output(given)
    return result.closure_loss, {} if result.loss is None else result.asdict()


def _list_callback_hooks(trainer: lightning.Trainer, name: str) -> list[Hook]:
    """A hook of each callback; idle ones are not callable while a lean module trains."""
    callbacks: list[lightning.Callback] = trainer.callbacks  # type: ignore[attr-defined] # set by Lightning's connector
    return [hook for callback in callbacks if callable(hook := getattr(callback, name))]


def _list_transfers(trainer: lightning.Trainer) -> list[Callable[[Any], Any]]:
    """What brings a batch to the device, in order; nothing of what would leave it as it is."""
    device, selector = trainer.strategy.root_device, trainer._data_connector._datahook_selector
    assert selector is not None
    transfers: list[Callable[[Any], Any]] = []
    for name in _TRANSFER_HOOKS:
        hook = getattr(selector.get_instance(name), name)
        moves = name == "transfer_batch_to_device"
        if getattr(hook, "__func__", None) is getattr(DataHooks, name) and not (moves and device.type != "cpu"):
            continue
        arguments = (device, 0) if moves else (0,)
        transfers.append(lambda batch, hook=hook, arguments=arguments: hook(batch, *arguments))  # type: ignore[misc]
    return transfers

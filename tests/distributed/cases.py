"""Runs whose gradients and logged numbers must not depend on the number of processes.

13 training frames in steps of 6: of two processes each takes 3, of three each takes 2, and the last step of an epoch
has one frame, so some have none. Of the frames two thirds have forces and half have a stress, so there are processes
without any label of a kind; the second validation set has one frame, so there are processes without any frame.
"""

from __future__ import annotations

# SGD: an adaptive rate would blow up the rounding of gradients that are zero.
BASE = (
    "data.val=[7,1]",
    "data.test=4",
    "data.split_seed=1",  # with which the one frame has all labels
    "data.global_batch_size=6",
    "data.reference_energies=null",
    "cutoff_radius=4.0",
    "targets=energy_force_stress",
    "model.l_max=1",
    "model.num_layers=2",
    "model.num_features=4",
    "model.radial_mlp_depth=1",
    "model.radial_mlp_width=8",
    "model.model_dtype=float64",
    "model.avg_num_neighbors=10.0",
    "model.per_type_energy_scales=1.0",
    "training_module=default",
    "optimizer=sgd",
    "training_module.optimizer.lr=1e-4",
    "training_module.gradient_clip=null",
    "training_module.lr_scheduler=null",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=2",
    "console=none",
    "run=[train,test]",
    "seed=3",
)

# Early stopping, plateau and the two best checkpoints, of averaged weights: all follow the same number.
_DECISIONS = (
    "training_module=ema",
    "training_module.ema_decay=0.7",
    "lr_scheduler=plateau",
    "training_module.lr_scheduler.scheduler.patience=0",
    "training_module.lr_scheduler.scheduler.threshold=0.2",
    "callbacks=[default,early_stopping]",
    "callbacks.early_stopping.patience=3",
    "callbacks.early_stopping.min_delta=0.05",
    "callbacks.best_checkpoint.save_top_k=2",
    "trainer.max_epochs=8",
)

CASES: dict[str, tuple[str, ...]] = {
    "missing labels, uneven parts": (),
    "batch size of each process": ("data.global_batch_size=null",),  # with data.batch_size: 6 / processes
    "terms of each species": (
        "training_module.loss.coeffs=null",
        "+training_module.loss.per_type_forces_coeffs={H: 1.0, C: 2.0, O: 5.0}",
        "training_module.val_metrics.extended=true",
    ),
    "accumulation": ("data.global_batch_size=3", "trainer.accumulate_grad_batches=2"),
    "absolute errors": (
        "training_module.loss.function=mae",
        "training_module.train_metrics=${training_module.val_metrics}",
    ),
    "average, plateau, early stopping, best": _DECISIONS,
    "sampling by errors": (
        "data.sampling={policy: error_weighted, samples_per_epoch: 14}",
        "trainer.max_epochs=3",
    ),
    "sampling by energies": ("data.sampling={policy: energy_weighted, samples_per_epoch: 9}",),
    "sampling of two sets": (
        "data.train={own: data.xyz, other: {file: replay.xyz, weight: 2.0}}",
        "data.sampling={temperature: 2.0, samples_per_epoch: 15}",
        "data.val=[7,3]",  # of this mixture one frame would be without a stress
        "trainer.max_epochs=3",
    ),
    "replay": ("data.replay={file: replay.xyz, fraction: 0.3, weight: 0.5}",),
    "weights of the loss that follow it": (
        "+callbacks.softadapt._target_=nequip_like.training.callbacks.SoftAdapt",
        "+callbacks.softadapt.interval=batch",
        "trainer.max_epochs=3",
    ),
    "mean of weights, validation by steps, clipping": (
        "training_module=swa",
        "training_module.swa_start=1",
        "training_module.evaluate=both",
        "training_module.gradient_clip={norm: 0.05, value: 0.01}",
        "validate_every_n_updates=2",
        "callbacks=[default,training_stats,loss_log]",
        "callbacks.training_stats.every_n_steps=1",
    ),
    "labels that all have to be there, also where a process has no frame": (
        "targets=energy",
        "+training_module.loss.ignore_nan=false",
        "+training_module.val_metrics.ignore_nan=false",
    ),
    "parts of a model that are not trained": ("+callbacks.freeze._target_=tests.distributed.worker.Freeze",),
}


def list_overrides(case: str, world: int) -> list[str]:
    """Overrides of a case for so many processes."""
    changes = list(CASES[case])
    constant = "training_module.lr_scheduler=null"
    base = [o for o in BASE if o != constant or not any(change.startswith("lr_scheduler=") for change in changes)]
    if "data.global_batch_size=null" in changes:
        changes.append(f"data.batch_size={6 // world}")
    return [*base, *changes, f"trainer.devices={world}", "trusted_packages=[tests]"]

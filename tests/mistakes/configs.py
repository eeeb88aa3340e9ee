"""Wrong configs and command lines, and what is said about each, before a folder is made or a file of data is opened."""

# ruff: noqa: E501 (messages stand here as they are printed, in one line)

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from tests.mistakes import Mistake

_DEFAULTS = "defaults: [train, _self_]\n"
_DATA = "data: {train: molecules.xyz, val: 0.1, test: 0.1}\n"
_BEGIN = _DEFAULTS + _DATA
# What SLURM tells the first of four tasks, and a batch script.
_TASK = {
    "SLURM_JOB_ID": "1",
    "SLURM_JOB_NAME": "train",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
}


def _typed(title: str, overrides: str, error: str, advice: str) -> Mistake:
    """A mistake on the command line."""
    return Mistake(title, overrides, error, advice, overrides=tuple(overrides.split(" ")))


def _written(title: str, lines: str, error: str, advice: str, begin: str = _BEGIN) -> Mistake:
    """A mistake in a config file."""
    return Mistake(title, lines.rstrip("\n"), error, advice, files={"config.yaml": begin + lines})


def run_config_mistake(mistake: Mistake, folder: Path) -> tuple[int, str]:
    """Run ``nequip-train`` in this process, as a user would in a folder of their own.

    Returns:
        Exit status and error stream.
    """
    from nequip_like.cli.train import main

    for name, content in {"config.yaml": _BEGIN, **mistake.files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    arguments = ["nequip-train", *(mistake.arguments or ("config.yaml",)), *mistake.overrides]
    before, stream = Path.cwd(), io.StringIO()
    os.chdir(folder)
    try:
        variables = mock.patch.dict(os.environ, mistake.environment)
        with variables, mock.patch.object(sys, "argv", arguments), contextlib.redirect_stderr(stream):
            main()
    except SystemExit as end:
        return int(end.code or 0), stream.getvalue()
    finally:
        os.chdir(before)
    return 0, stream.getvalue()


CONFIG_MISTAKES: list[Mistake] = [
    _typed(
        "No logger for the learning rate",
        "~logger",
        "callbacks.learning_rate has no logger to write to",
        "take it out, ~callbacks.learning_rate, or give logger=csv",
    ),
    _typed(
        "A misspelt key on the command line",
        "model.num_layer=3",
        "there is no 'model.num_layer' to change",
        "did you mean 'num_layers'?",
    ),
    _typed(
        "A key of a callback that is not chosen",
        "callbacks.training_stats.by_weight=true",
        "there is no 'callbacks.training_stats.by_weight' to change: the config has no 'callbacks.training_stats'",
        "add it: callbacks=[default,training_stats]",
    ),
    _typed(
        "A key of a logger that is not chosen",
        "logger.wandb.project=ethanol",
        "there is no 'logger.wandb.project' to change: the config has no 'logger.wandb'",
        "add it: logger=wandb",
    ),
    _typed(
        "A misspelt callback among several",
        "callbacks=[default,training_stat]",
        "callbacks has no option 'training_stat'",
        "did you mean 'training_stats'? there are criteria_stopping, dashboard, default, early_stopping, loss_log, metrics_table, periodic_checkpoint, training_stats",
    ),
    _typed(
        "A misspelt section on the command line",
        "modle.num_layers=3",
        "there is no 'modle.num_layers' to change: the config has no 'modle'",
        "did you mean 'model'? see --cfg job",
    ),
    _typed(
        "A key without its section",
        "max_epochs=5",
        "there is no 'max_epochs' to change",
        "did you mean 'trainer.max_epochs'?",
    ),
    _typed(
        "A key in the wrong section",
        "model.batch_size=5",
        "there is no 'model.batch_size' to change",
        "did you mean 'data.batch_size'?",
    ),
    _typed("A key by NequIP's name", "r_max=5.0", "there is no 'r_max' to change", "did you mean 'cutoff_radius'?"),
    _typed(
        "The model within the training module, as NequIP has it",
        "training_module.model.l_max=2",
        "there is no 'training_module.model.l_max' to change: training_module.model stands for model here",
        "write model.l_max=...",
    ),
    _typed(
        "A misspelt key within a mapping on the command line",
        "training_module.loss.coeffs={total_energy:1.0,force:1.0}",
        "there is no 'training_module.loss.coeffs.force' to change",
        "did you mean 'forces'?",
    ),
    Mistake(
        "A key written as an option",
        "nequip-train config.yaml --max_epochs 5",
        "there is no option --max_epochs",
        "did you mean 'trainer.max_epochs'? write it without dashes, KEY=VALUE; see --help",
        arguments=("config.yaml", "--max_epochs", "5"),
    ),
    Mistake(
        "A config given as an option",
        "nequip-train -c config.yaml",
        "argument --cfg/-c: expected one argument",
        "give the config alone: nequip-train config.yaml; see --help",
        arguments=("-c", "config.yaml"),
    ),
    _typed(
        "A misspelt argument that is added",
        "+model.num_layer=3",
        "model.num_layer: NequIPGNNModel takes no 'num_layer'",
        "did you mean 'num_layers'?",
    ),
    _typed(
        "A misspelt argument of a preset, which hands it on",
        "model=nequip_S +model.num_bessel=10",
        "model.num_bessel: PresetNequIPGNNModel takes no 'num_bessel'",
        "did you mean 'num_bessels'?",
    ),
    _typed("A + before a key that is there", "+seed=3", "there is 'seed' already", "leave out the +: seed=..."),
    _typed(
        "A part taken out that is not there",
        "~callbacks.early",
        "there is no 'callbacks.early' to take out",
        "there are best_checkpoint, last_checkpoint, learning_rate, epoch_printer, progress_bar",
    ),
    _written(
        "A misspelt key in a file",
        "model: {num_layer: 3}\n",
        "model.num_layer: NequIPGNNModel takes no 'num_layer'",
        "did you mean 'num_layers'?",
    ),
    _written(
        "A misspelt key at the top level",
        "cutof_radius: 4.0\n",
        "nothing uses 'cutof_radius' of the config",
        "did you mean 'cutoff_radius'? known are run, data, training_module, trainer, seed, output_dir, model, cutoff_radius, chemical_species, monitored_metric, budget, ckpt_path, resume, finetune, pretrain, run_name, console, validate_every_n_updates, callbacks, logger, report, uncertainty, trusted_packages",
    ),
    _typed(
        "A misspelt choice of what is printed",
        "console=tabel",
        "console is 'tabel'",
        "did you mean 'table'? give line, table or none",
    ),
    _typed(
        "A table that nothing prints",
        "console=table ~callbacks.epoch_printer",
        "console is 'table', but no callback prints it",
        "leave callbacks.epoch_printer as it is in the defaults, with style: ${console}",
    ),
    _written(
        "A format of pictures that there is not",
        "report: {format: [png, eps]}\n",
        "report.format is ['png', 'eps']",
        "give a list (each png, pdf or svg)",
    ),
    _written(
        "A misspelt key of the report",
        "report: {formats: [pdf]}\n",
        "report has the unknown key 'formats'",
        "did you mean 'format'? known are format, html",
    ),
    _typed(
        "A misspelt kind of uncertainty",
        "uncertainty=lpr",
        "uncertainty is 'lpr'",
        "write auto, none, llpr, committee, or {method: llpr, calibration: scale}",
    ),
    _written(
        "A choice of a group in the body of a file",
        "optimizer: adamw\n",
        "optimizer is 'adamw', a choice, which a config makes in its list defaults",
        "defaults: [train, {override optimizer: adamw}, _self_], or on the command line optimizer=adamw",
    ),
    _written(
        "An element that YAML reads as false",
        "chemical_species: [H, No]\n",
        "data.species is ['H', False]",
        'YAML reads No, NO, no and off as false, Yes and on as true: put such a word into quotes, "No"; or give a text or a list (each a text)',
    ),
    _typed(
        "A name of a data set that is a number",
        "data.test={1e5:a.xyz}",
        "data.test has a set named 100000.0, which is no text",
        "put the name into quotes in the config file: YAML reads NO and off as false, 1e5 as a number",
    ),
    _typed(
        "No frames to validate with",
        "data.val=0",
        "data.val: cannot hold out 0 frames",
        "write a positive number of frames, or for none: data.val=null monitored_metric=train_loss_epoch/weighted_sum "
        "callbacks.best_checkpoint.save_on_train_epoch_end=true",
    ),
    _typed(
        "No frames to test with",
        "data.test=0",
        "data.test: cannot hold out 0 frames",
        "write a positive number of frames, or for none: data.test=null",
    ),
    _typed("A percentage", "data.val=10%", "data.val is '10%'", "write a fraction: data.val=0.1"),
    _typed("None in place of null", "data.test=None", "data.test is 'None'", "write null: data.test=null"),
    _written(
        "A misspelt key of the data",
        "data: {train: molecules.xyz, batchsize: 3}\n",
        "data.batchsize: DataModule takes no 'batchsize'",
        "did you mean 'batch_size'?",
        begin=_DEFAULTS,
    ),
    _written(
        "A misspelt key of the training module",
        "training_module: {ema: 0.99}\n",
        "training_module.ema: EMALightningModule takes no 'ema'",
        "it takes ema_bias_correction, ema_decay, ema_start_step, ema_warmup, evaluate, gradient_clip, info, loss, lr_scheduler, max_skipped_steps, model, num_datasets, on_divergence, on_non_finite, optimizer, test_metrics, train_metrics, val_metrics",
    ),
    _written(
        "A misspelt key of the optimizer",
        "training_module: {optimizer: {learning_rate: 0.01}}\n",
        "training_module.optimizer.learning_rate: SOAPAndAdamW takes no 'learning_rate'",
        "did you mean 'training_module.optimizer.lr'?",
    ),
    _typed(
        "A misspelt key of the schedule",
        "lr_scheduler=plateau +training_module.lr_scheduler.scheduler.facter=0.5",
        "training_module.lr_scheduler.scheduler.facter: ReduceLROnPlateau takes no 'facter'",
        "did you mean 'factor'?",
    ),
    _typed(
        "A key of the schedule at the wrong place",
        "lr_scheduler=plateau +training_module.lr_scheduler.factor=0.5",
        "training_module.lr_scheduler has the unknown key 'factor'",
        "known are scheduler, monitor, interval, frequency, strict, name",
    ),
    _written(
        "A misspelt key of the trainer",
        "trainer: {max_epoch: 10}\n",
        "trainer.max_epoch: Trainer takes no 'max_epoch'",
        "did you mean 'max_epochs'?",
    ),
    _written(
        "A misspelt key of a callback",
        "callbacks: {best_checkpoint: {save_topk: 3}}\n",
        "callbacks.best_checkpoint.save_topk: ResumableCheckpoint takes no 'save_topk'",
        "did you mean 'save_top_k'?",
    ),
    _written(
        "Early stopping that was not taken in",
        "callbacks: {early_stopping: {patience: 20}}\n",
        "callbacks.early_stopping has no _target_",
        "take it in: `override callbacks: [default, early_stopping]` among the defaults, or callbacks=[default,early_stopping]",
    ),
    _written(
        "A plateau that was not taken in",
        "training_module: {lr_scheduler: {scheduler: {factor: 0.5}}}\n",
        "training_module.lr_scheduler.scheduler: LearningRate takes no 'scheduler'",
        "take one of torch in: `override lr_scheduler: plateau` among the defaults, or lr_scheduler=plateau",
    ),
    _written(
        "A misspelt option of a metric",
        "training_module:\n  val_metrics:\n    extra_metrics:\n      - {metric: {_target_: nequip_like.metrics.HuberLoss, dleta: 0.1}, field: forces}\n",
        "training_module.val_metrics.extra_metrics[0].metric.dleta: HuberLoss takes no 'dleta'",
        "did you mean 'delta'?",
    ),
    _written(
        "A misspelt option of a pair potential",
        "model: {pair_potential: {name: zbl, unit: metal}}\n",
        "training_module.model: pair_potential: ZBL takes no 'unit'",
        "did you mean 'units'?",
    ),
    _written(
        "A number in words",
        "model: {num_layers: four}\n",
        "model.num_layers is 'four'",
        "give a whole number, 1 or more",
    ),
    _written(
        "A fraction where a whole number is meant",
        "model: {l_max: 1.5}\n",
        "model.l_max is 1.5",
        "give a whole number, 0 or more and at most 11",
    ),
    _written("Neither yes nor no", "model: {parity: maybe}\n", "model.parity is 'maybe'", "give true or false"),
    _written(
        "A power of ten where a whole number is meant",
        "trainer: {max_epochs: 1e3}\n",
        "trainer.max_epochs is 1000.0",
        "give -1, or a whole number, 1 or more",
    ),
    _written(
        "A text where a number is meant",
        "training_module: {optimizer: {lr: fast}}\n",
        "training_module.optimizer.lr is 'fast'",
        "give a number, above 0",
    ),
    _written(
        "A mapping where a list is meant",
        "chemical_species: {H: 1, C: 6}\n",
        "data.species is {'H': 1, 'C': 6}",
        "give a text or a list (each a text)",
    ),
    _written(
        "A list where a mapping is meant",
        "data: {train: molecules.xyz, key_mapping: [energy, forces]}\n",
        "data.key_mapping is ['energy', 'forces']",
        "give a mapping or null",
        begin=_DEFAULTS,
    ),
    _written(
        "A word that is none of the choices",
        "model: {model_dtype: float16}\n",
        "model.model_dtype is 'float16'",
        "did you mean 'float64'? give float32 or float64",
    ),
    _written(
        "A kernel that does not exist",
        "model: {kernel: batch}\n",
        "model.kernel is 'batch'",
        "did you mean 'batched'? give auto, batched, fused, reference, triton or cuequivariance",
    ),
    _written(
        "A preset that does not exist",
        "defaults: [train, override model: nequip_S, _self_]\ndata: {train: molecules.xyz}\nmodel: {preset: XXL}\n",
        "model.preset is 'XXL'",
        "give S, M, L or XL",
        begin="",
    ),
    _written("No layers", "model: {num_layers: 0}\n", "model.num_layers is 0", "give a whole number, 1 or more"),
    _written(
        "A negative degree",
        "model: {l_max: -1}\n",
        "model.l_max is -1",
        "give a whole number, 0 or more and at most 11",
    ),
    _written(
        "Channels for too few degrees",
        "model: {l_max: 2, num_features: [64, 32]}\n",
        "training_module.model: num_features is [64, 32] with l_max 2",
        "give one number, or 3 numbers of 1 or more: one for each l",
    ),
    _written("A negative cutoff", "cutoff_radius: -5.0\n", "data.cutoff_radius is -5.0", "give a number, above 0"),
    _written(
        "A cutoff that is not smooth",
        "model: {polynomial_cutoff_p: 1}\n",
        "model.polynomial_cutoff_p is 1",
        "give a number, 2 or more",
    ),
    _written(
        "Empty batches",
        "data: {train: molecules.xyz, batch_size: 0}\n",
        "data.batch_size is 0",
        "give a whole number, 1 or more, or a mapping",
        begin=_DEFAULTS,
    ),
    _written(
        "Steps of no frame",
        "data: {train: molecules.xyz, global_batch_size: 0}\n",
        "data.global_batch_size is 0",
        "give a whole number, 1 or more, or null",
        begin=_DEFAULTS,
    ),
    _written(
        "Steps of so many frames and of so many atoms",
        "data: {train: molecules.xyz, global_batch_size: 16, batch_size: {atoms: 512}}\n",
        "data.global_batch_size is 16, but batch_size is {atoms: 512}",
        "give one of them",
        begin=_DEFAULTS,
    ),
    _typed(
        "Steps of fewer frames than there are processes",
        "data.global_batch_size=3 trainer.devices=4 trainer.accelerator=cpu",
        "data.global_batch_size is 3, but there are 4 processes",
        "give 4 or more, or use fewer processes",
    ),
    _written(
        "Batches of something unknown",
        "data: {train: molecules.xyz, batch_size: {atom: 512}}\n",
        "data.batch_size has the unknown key 'atom'",
        "did you mean 'atoms'? known are frames, atoms, edges",
        begin=_DEFAULTS,
    ),
    _written(
        "More than all frames",
        "data: {train: molecules.xyz, val: 1.5, test: 0.1}\n",
        "data.val: 1.5 is no fraction between 0 and 1",
        "write an integer for a number of frames, such as 50",
        begin=_DEFAULTS,
    ),
    _written(
        "A number of frames for training data",
        "data: {train: 100}\n",
        "data.train: 100 is no file",
        "write train: name.xyz, or a list of files",
        begin=_DEFAULTS,
    ),
    _written(
        "A misspelt key of a data set",
        "data: {train: {fiel: molecules.xyz}}\n",
        "data.train: unknown key 'fiel'",
        "did you mean 'file'? known are file, path, index, indices, indices_path, max_samples, shuffle, seed, "
        "key_mapping, units, trust_pickle",
        begin=_DEFAULTS,
    ),
    _written(
        "No training data",
        "cutoff_radius: 5.0\n",
        "data.train is not given",
        "write it in the config in place of ???, or behind the command: data.train=VALUE",
        begin=_DEFAULTS,
    ),
    _written(
        "An average that never learns",
        "training_module: {ema_decay: 1.0}\n",
        "training_module.ema_decay is 1.0",
        "give a number, 0 or more and below 1",
    ),
    _written(
        "A learning rate of zero",
        "training_module: {optimizer: {lr: 0}}\n",
        "training_module.optimizer.lr is 0",
        "give a number, above 0",
    ),
    _typed(
        "An optimizer that there is not",
        "optimizer=named training_module.optimizer.name=AdamV",
        "training_module.optimizer.name is 'AdamV'",
        "did you mean 'Adam'? known are Adadelta, Adafactor, Adagrad, Adam, Adamax, AdamW, AMSGrad, ASGD, LBFGS, mlip, Muon, NAdam, RAdam, RMSprop, Rprop, ScheduleFreeAdamW, ScheduleFreeRAdam, ScheduleFreeSGD, SGD, SOAP",
    ),
    _typed(
        "An optimizer by its name, without one",
        "optimizer=named",
        "training_module.optimizer.name is not given",
        "write it in the config in place of ???, or behind the command: training_module.optimizer.name=VALUE",
    ),
    _written(
        "A learning rate of its own for nothing",
        "training_module: {optimizer: {param_groups: [{match: readout, rate: 0.1}]}}\n",
        "training_module.optimizer.param_groups[0] has the unknown key 'rate'",
        "known are match, lr, weight_decay",
    ),
    _typed(
        "A loss that several batches do not add up to",
        "training_module.loss.function=rmse trainer.accumulate_grad_batches=2",
        "trainer.accumulate_grad_batches is above 1, but training_module.loss has 'per_atom_energy_rmse' (RootMeanSquaredError), which is no mean or sum over labels: several batches do not add up to it",
        "give trainer.accumulate_grad_batches=1 and a larger data.batch_size, or another loss, such as a mean squared error",
    ),
    _typed(
        "A schedule that there is not",
        "lr_scheduler=warmup_cosine training_module.lr_scheduler.schedule=cosin",
        "training_module.lr_scheduler: schedule is 'cosin'",
        "did you mean 'cosine'? there are constant, cosine, cosine_restarts, exponential, step, linear, peak, plateau",
    ),
    _typed(
        "A warm-up that there is not",
        "lr_scheduler=warmup_cosine training_module.lr_scheduler.warmup=untuned",
        "training_module.lr_scheduler: warmup is 'untuned'",
        "did you mean 'untuned_linear'? there are linear, exponential, untuned_linear, untuned_exponential, radam",
    ),
    _typed(
        "A length of neither epochs nor steps",
        "lr_scheduler=warmup_cosine training_module.lr_scheduler.warmup_length={batches:10}",
        "training_module.lr_scheduler: warmup_length is {'batches': 10}",
        "give a number of epochs, {epochs: 10}, {steps: 790} or a share of the run, {share: 0.1}",
    ),
    _typed(
        "Restarts without a period",
        "lr_scheduler=cosine_restarts training_module.lr_scheduler.T_0=null",
        "training_module.lr_scheduler: T_0 is not given, which the schedule 'cosine_restarts' needs",
        "give it",
    ),
    _typed(
        "A warm-up that asks for betas",
        "lr_scheduler=step training_module.lr_scheduler.warmup=radam training_module.lr_scheduler.warmup_length=null optimizer=sgd",
        "training_module.lr_scheduler: warmup is 'radam', which takes its length from beta2, but the optimizer has no betas",
        "take an optimizer like Adam, or warmup: linear with a warmup_length",
    ),
    Mistake(
        "A SLURM job with several tasks, and no srun",
        "#SBATCH --ntasks=4",
        "this SLURM job has 4 tasks, but the command was not started by srun",
        "write srun before the command, or ask for one task: --ntasks=1, with --cpus-per-task for its threads",
        environment=_TASK,
    ),
    Mistake(
        "Tasks of a SLURM job that are not the trainer's devices",
        "#SBATCH --ntasks-per-node=4",
        "trainer.devices makes 1 processes on each node, but this SLURM job has 4 tasks there",
        "write trainer.devices=4, or --ntasks-per-node=1",
        environment={**_TASK, "SLURM_STEP_ID": "0", "SLURM_NTASKS_PER_NODE": "4"},
    ),
    _typed(
        "A smallest learning rate above the largest",
        "lr_scheduler=linear training_module.lr_scheduler.min_lr=0.05",
        "training_module.lr_scheduler: min_lr is 0.05, above the optimizer's learning rate, 0.03",
        "give a smaller one",
    ),
    _typed(
        "A schedule that raises the learning rate",
        "lr_scheduler=plateau training_module.lr_scheduler.scheduler.factor=1.5",
        "training_module.lr_scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau cannot be built: Factor should be < 1.0.",
        "see the documentation of this class",
    ),
    _typed(
        "A limit of the gradient below 0",
        "training_module.gradient_clip={norm:-1.0}",
        "training_module.gradient_clip.norm is -1.0",
        "give a number, above 0, or null",
    ),
    _typed(
        "A limit of the gradient that is no mapping",
        "training_module.gradient_clip=1.0",
        "training_module.gradient_clip is 1.0",
        "give a mapping: {norm: 1.0}",
    ),
    _typed(
        "A gradient clipped without a limit",
        "training_module.gradient_clip=null training_module.gradient_clip={}",
        "training_module.gradient_clip has no limit",
        "give {norm: 10.0}, or null",
    ),
    _written(
        "A gradient clipped to nothing",
        "trainer: {gradient_clip_val: 0}\n",
        "trainer.gradient_clip_val is 0",
        "give a number, above 0, or null",
    ),
    _written(
        "No batches in a step",
        "trainer: {accumulate_grad_batches: 0}\n",
        "trainer.accumulate_grad_batches is 0",
        "give a whole number, 1 or more",
    ),
    _typed(
        "A schedule that never steps",
        "lr_scheduler=plateau training_module.lr_scheduler.frequency=0",
        "training_module.lr_scheduler.frequency is 0",
        "give a whole number, 1 or more",
    ),
    _written(
        "A seed that is no number",
        "seed: random\n",
        "seed is 'random'",
        "give a whole number, 0 or more and at most 4294967295",
    ),
    _written(
        "No devices",
        "trainer: {devices: 0}\n",
        "trainer.devices is 0",
        "give auto or -1, or a whole number, 1 or more, or numbers of devices, or a list (each a whole number, 0 or more)",
    ),
    _written(
        "A device of an unknown kind",
        "trainer: {accelerator: cdua}\n",
        "trainer.accelerator is 'cdua'",
        "did you mean 'cuda'? give auto, gpu, cpu, cuda, mps or tpu",
    ),
    _written(
        "A time in another form",
        "trainer: {max_time: 12h}\n",
        "trainer.max_time is '12h'",
        'give a time as "DD:HH:MM:SS", such as "00:12:00:00", or a mapping, or null',
    ),
    _written(
        "Better in an unknown direction",
        "callbacks: {best_checkpoint: {mode: least}}\n",
        "callbacks.best_checkpoint.mode is 'least'",
        "give min or max",
    ),
    _written(
        "A species that is no element",
        "chemical_species: [H, Xx]\n",
        "data: species: 'Xx' is no chemical symbol",
        "write chemical symbols, for example [H, C, O]",
    ),
    _written(
        "A value for a species that the model has not",
        "chemical_species: [H, C]\nmodel: {per_type_energy_shifts: {H: -13.6, O: -40.0}}\n",
        "training_module.model: per_type_energy_shifts and the model's species differ in C, O",
        "give one value for each of H, C",
    ),
    _written(
        "A misspelt label in the loss",
        "training_module: {loss: {coeffs: {force: 1.0}}}\n",
        "training_module.loss: unknown label in coeffs of a loss: 'force'",
        "did you mean 'forces'? known: forces, total_energy",
    ),
    _written(
        "A label where a metric is meant",
        "training_module: {val_metrics: {coeffs: {forces: 1.0}}}\n",
        "training_module.val_metrics: unknown metric in coeffs: 'forces'",
        "did you mean 'forces_mae'? known: forces_mae, forces_maxabserr, forces_rmse, per_atom_energy_mae, per_atom_energy_maxabserr, per_atom_energy_rmse, total_energy_mae, total_energy_maxabserr, total_energy_rmse",
    ),
    _written(
        "A negative coefficient",
        "training_module: {loss: {coeffs: {forces: -1.0}}}\n",
        "training_module.loss: coefficient of 'forces_mse' is -1.0",
        "give a finite number >= 0, or null to only observe the metric",
    ),
    _written(
        "A loss without coefficients",
        "training_module: {loss: {coeffs: {total_energy: null, forces: 0}}}\n",
        "training_module.loss: no coefficient of the loss is larger than 0",
        "give at least one of total_energy, forces a coefficient",
    ),
    _written(
        "Metrics of a preset in place of its loss",
        "training_module: {loss: {_target_: nequip_like.metrics.EnergyForceMetrics}}\n",
        "training_module.loss.per_atom_energy: EnergyForceMetrics takes no 'per_atom_energy'",
        "it takes coeffs, extended, extra_metrics, ignore_nan",
    ),
    _written(
        "Metrics without a coefficient in place of a loss",
        "training_module:\n  loss:\n    _target_: nequip_like.metrics.EnergyForceMetrics\n    coeffs: {}\n  val_metrics: {_target_: nequip_like.metrics.EnergyForceMetrics}\n  test_metrics: ${.val_metrics}\n",
        "training_module.loss has no term with a coefficient",
        "give coeffs above 0",
        begin="defaults: [train, {override targets: null}, _self_]\n" + _DATA,
    ),
    _written(
        "An optimizer in place of a loss",
        "training_module: {loss: {_target_: torch.optim.Adam}}\n",
        "training_module.loss._target_ is 'torch.optim.Adam', which gives Adam and not MetricsManager",
        "name another class in its _target_",
    ),
    _written(
        "A field that does not exist",
        "training_module:\n  val_metrics:\n    extra_metrics:\n      - {metric: {_target_: nequip_like.metrics.MeanAbsoluteError}, field: force}\n",
        "training_module.val_metrics: unknown field 'force'",
        "did you mean 'forces'? known: atom_types, atom_weight, atomic_energy, atomic_numbers, batch, cell, edge_cell_shift, edge_index, edge_vectors, energy_uncertainty, forces, forces_uncertainty, forces_weight, frame_index, frame_weight, num_atoms, pbc, pos, stress, stress_weight, total_energy, total_energy_weight, virial, virial_weight",
    ),
    _written(
        "A list in place of yes or no",
        "training_module:\n  val_metrics:\n    extra_metrics:\n      - {metric: {_target_: nequip_like.metrics.MeanAbsoluteError}, field: forces, per_type: [H, C]}\n",
        "training_module.val_metrics: per_type of metric 9 is ['H', 'C']",
        "give true, false or null",
    ),
    _written(
        "Training without a loss",
        "training_module: {loss: null}\n",
        "run has 'train', but training_module lacks loss",
        "give loss",
    ),
    _typed(
        "A monitored metric that is misspelt",
        "monitored_metric=val0_epoch/force_rmse",
        "monitored_metric is 'val0_epoch/force_rmse', which is not logged",
        "did you mean 'val0_epoch/forces_rmse'?",
    ),
    _typed(
        "A monitored metric without its prefix",
        "monitored_metric=forces_rmse",
        "monitored_metric is 'forces_rmse', which is not logged",
        "did you mean 'val0_epoch/forces_rmse'?",
    ),
    _typed(
        "No validation, but a monitored metric of one",
        "data.val=null",
        "monitored_metric is 'val0_epoch/weighted_sum', which is not logged",
        "give data.val, or train without it and write monitored_metric=train_loss_epoch/weighted_sum "
        "callbacks.best_checkpoint.save_on_train_epoch_end=true",
    ),
    _typed(
        "A training loss to monitor that is misspelt",
        "monitored_metric=train_loss_epoch/weightd_sum",
        "monitored_metric is 'train_loss_epoch/weightd_sum', which is not logged",
        "did you mean 'train_loss_epoch/weighted_sum'?",
    ),
    _typed(
        "No validation, and a monitored metric that is misspelt",
        "data.val=null monitored_metric=train_loss_epoch/weightd_sum",
        "monitored_metric is 'train_loss_epoch/weightd_sum', which is not logged",
        "did you mean 'train_loss_epoch/weighted_sum'?",
    ),
    _typed(
        "Stopping by several criteria, but no validation",
        "data.val=null callbacks=[default,criteria_stopping] monitored_metric=train_loss_epoch/weighted_sum",
        "callbacks.criteria_stopping.criteria.forces is 'val0_epoch/forces_mae', which is not logged",
        "give data.val, or leave it out: ~callbacks.criteria_stopping",
    ),
    _typed(
        "A monitored metric of a set that there is not",
        "callbacks.best_checkpoint.monitor=val1_epoch/forces_rmse",
        "callbacks.best_checkpoint.monitor is 'val1_epoch/forces_rmse', which is not logged",
        "did you mean 'val0_epoch/forces_rmse'?",
    ),
    _typed(
        "A plateau that follows nothing",
        "lr_scheduler=plateau training_module.lr_scheduler.monitor=null",
        "training_module.lr_scheduler.monitor is not given",
        "name the value that ReduceLROnPlateau follows: {scheduler: {...}, monitor: val0_epoch/weighted_sum}",
    ),
    _typed(
        "A model that looks beyond the neighbour lists",
        "model.r_max=6.0",
        "training_module.model.r_max is 6.0, beyond data.cutoff_radius, which is 5.0: the model would miss neighbours",
        "give cutoff_radius once at the top level: both take it",
    ),
    _typed(
        "A model of other species than the data",
        "data.species=[H,C] model.type_names=[C,H]",
        "training_module.model.type_names is [C, H], but data.species is [H, C]",
        "give chemical_species once at the top level: both take it",
    ),
    _typed(
        "A test without data",
        "run=[train,val,test] data.test=null",
        "run has 'test', but there is no test data",
        "give data.test, or leave 'test' out: run=[train,val]",
    ),
    _typed(
        "A task that does not exist",
        "run=[tain]",
        "run is ['tain']",
        "give a list of train, val, test with at least one entry, and 'train' once at most",
    ),
    _written(
        "Code that is not trusted",
        "callbacks: {mine: {_target_: my_package.Callback}}\n",
        "callbacks.mine._target_ is 'my_package.Callback', which is in no trusted package",
        "if you know what this code does, write trusted_packages: [my_package]",
    ),
    _written(
        "Code of the current folder, or that is not installed",
        "trusted_packages: [my_callbacks_package]\ncallbacks: {mine: {_target_: my_callbacks_package.Callback}}\n",
        "callbacks.mine._target_ is 'my_callbacks_package.Callback', but there is no package 'my_callbacks_package'",
        "install it; for a file of the current folder begin the command with PYTHONPATH=.",
    ),
    _written(
        "A part of Python",
        "training_module: {optimizer: {_target_: os.system, command: echo}}\n",
        "training_module.optimizer._target_ is 'os.system', which is in no trusted package",
        "a config may not name parts of Python itself",
    ),
    _written(
        "A part of Python by a detour",
        "model: {_target_: torch.os.system, command: echo}\n",
        "model._target_ is 'torch.os.system', which leads to os, not to a trusted package",
        "trusted are nequip_like, torch, lightning, torchmetrics, ase",
    ),
    _written(
        "A function that runs code out of a file",
        "training_module: {model: {_target_: torch.load, f: model.pt}}\n",
        "training_module.model._target_ is 'torch.load', which a config may not call",
        "of torch, lightning, torchmetrics, ase it may build optimizers, schedules, metrics of numbers, callbacks, loggers and the trainer",
    ),
    _written(
        "Code from the internet",
        "data: {_target_: torch.hub.load, repo_or_dir: someone/something, train: molecules.xyz}\n",
        "data._target_ is 'torch.hub.load', which a config may not call",
        "of torch, lightning, torchmetrics, ase it may build optimizers, schedules, metrics of numbers, callbacks, loggers and the trainer",
        begin=_DEFAULTS,
    ),
    _written(
        "A class that starts programs",
        "callbacks: {mine: {_target_: torch.utils.data.DataLoader}}\n",
        "callbacks.mine._target_ is 'torch.utils.data.DataLoader', which a config may not call",
        "of torch, lightning, torchmetrics, ase it may build optimizers, schedules, metrics of numbers, callbacks, loggers and the trainer",
    ),
    _written(
        "Code deep inside of a section",
        "training_module:\n  val_metrics:\n    extra_metrics: [{metric: {_target_: builtins.eval, _args_: ['1']}, field: forces}]\n",
        "training_module.val_metrics.extra_metrics[0].metric._target_ is 'builtins.eval', which is in no trusted package",
        "a config may not name parts of Python itself",
    ),
    _written(
        "Code that Hydra would call",
        "hydra: {callbacks: {mine: {_target_: os.system, command: echo}}}\n",
        "hydra.callbacks.mine._target_ is 'os.system', which is in no trusted package",
        "Hydra may be given its own callbacks and plugins only",
    ),
    _written(
        "Code in the place of logging",
        "hydra: {job_logging: {handlers: {mine: {class: subprocess.Popen, args: [echo]}}}}\n",
        "hydra.job_logging.handlers.mine.class is 'subprocess.Popen', which is no part of logging",
        "name a handler or a formatter of logging",
    ),
    _written(
        "Configs searched in a package that is not trusted",
        "hydra: {searchpath: ['pkg://my_package']}\n",
        "hydra.searchpath of {folder}/config.yaml has 'pkg://my_package', which is in no trusted package",
        "give a folder: file://FOLDER",
    ),
    Mistake(
        "A pickle of an earlier run",
        "nequip-train config.yaml --experimental-rerun config.pickle",
        "--experimental-rerun reads a pickle, which can run code",
        "run the config.yaml of that folder instead",
        arguments=("config.yaml", "--experimental-rerun", "config.pickle"),
    ),
    _written(
        "Trust in Python itself",
        "trusted_packages: [os]\n",
        "trusted_packages has 'os', whose functions run anything",
        "list packages of your own only",
    ),
    _written(
        "A misspelt class",
        "training_module: {optimizer: {_target_: torch.optim.Adm}}\n",
        "training_module.optimizer._target_ is 'torch.optim.Adm', but torch.optim has no 'Adm'",
        "did you mean 'Adam'?",
    ),
    _written(
        "A misspelt module",
        "callbacks: {mine: {_target_: nequip_like.trian.EpochPrinter}}\n",
        "callbacks.mine._target_ is 'nequip_like.trian.EpochPrinter', but nequip_like has no 'trian'",
        "did you mean 'training'?",
    ),
    _written(
        "A name of NequIP's",
        "model: {_target_: nequip.model.NequIPGNNModel}\n",
        "model._target_ is 'nequip.model.NequIPGNNModel', which is in no trusted package",
        "write nequip_like.model.NequIPGNNModel",
    ),
    _written(
        "A class of another kind",
        "callbacks: {mine: {_target_: torch.optim.Adam}}\n",
        "callbacks.mine._target_ is 'torch.optim.Adam', which gives Adam and not Callback",
        "name another class in its _target_",
    ),
    _written(
        "A section without its class",
        "callbacks: {mine: {every_n: 1}}\n",
        "callbacks.mine has no _target_",
        "give it one, or write null to leave it out",
    ),
    _written(
        "A list of callbacks",
        "callbacks: [{_target_: nequip_like.training.EpochPrinter}]\n",
        "callbacks is a list in {folder}/config.yaml, and a mapping in the defaults",
        "write a mapping, see nequip-train -cn train --cfg job",
    ),
    _written(
        "A list of callbacks without the defaults' own",
        "callbacks: [{_target_: nequip_like.training.EpochPrinter}]\n",
        "callbacks is a list",
        "give a mapping from names to nodes with a _target_",
        begin="defaults: [train, {override callbacks: null}, _self_]\n" + _DATA,
    ),
    _written(
        "Callbacks of the trainer",
        "trainer: {callbacks: [{_target_: nequip_like.training.EpochPrinter}]}\n",
        "trainer.callbacks is given",
        "put it into the section callbacks: a mapping of named nodes",
    ),
    _typed(
        "An option of a group that does not exist",
        "model=nequip_XXL",
        "model has no option 'nequip_XXL'",
        "did you mean 'nequip_XL'? there are descriptor_ann, nequip, nequip_L, nequip_M, nequip_S, nequip_XL",
    ),
    _typed(
        "An override without a value",
        "seed",
        "cannot read 'seed': it is not of the form key=value",
        "write it as one word, without spaces around the =: seed=value",
    ),
    _typed(
        "An override with a space after its =",
        "seed= 3",
        "cannot read '3': it is not of the form key=value",
        "write it as one word, without spaces around the =: key=3",
    ),
    _typed(
        "A word for going on that there is not",
        "resume=true",
        "resume is True",
        "write resume=auto, or give ckpt_path: the path of a checkpoint",
    ),
    _typed(
        "A key with a colon on the command line",
        "model:num_layers=3",
        "cannot read 'model:num_layers=3': the key has a ':'",
        "write model.num_layers=3",
    ),
    _typed(
        "A key with a slash on the command line",
        "model/num_layers=3",
        "there is no 'model/num_layers' to change",
        "write model.num_layers=...",
    ),
    _typed(
        "An override without a key",
        "=3",
        "'=3' names no key",
        "write key=value, +key=value or ~key",
    ),
    _typed(
        "A config that is chosen with ++",
        "++model=nequip_S",
        "++model=nequip_S chooses a config, which is not added",
        "write model=nequip_S",
    ),
    _typed(
        "A printed value that cannot be had",
        "--cfg job --resolve seed=${nowhere}",
        "data.seed refers to 'nowhere', which is not in the config",
        "add the key, or name another",
    ),
    _typed(
        "An option that goes with --cfg alone",
        "--package model",
        "--package goes with --cfg only",
        "write --cfg job --package KEY, or leave it out",
    ),
    _typed(
        "Several values in one run",
        "seed=1,2",
        "'seed=1,2' may be a list or several values",
        "write seed=[1,2] for a list, or add --multirun for one run with each",
    ),
    _typed(
        "A wrong value of one of several runs",
        "--multirun model=5,nequip --check",
        "'model=5' chooses no config: model is a group, whose configs are chosen by name (run 0: model=5)",
        "write model=NAME, there are descriptor_ann, nequip, nequip_L, nequip_M, nequip_S, nequip_XL",
    ),
    _typed(
        "A range without steps for several runs",
        "--multirun cutoff_radius=interval(4,6)",
        "'cutoff_radius=interval(4,6)' does not say which values",
        "list them, cutoff_radius=a,b,c, or write cutoff_radius=range(1,4)",
    ),
    Mistake(
        "Several runs of several processes",
        "--multirun seed=1,2 trainer.accelerator=cpu trainer.devices=2",
        "--multirun goes with runs of one process, and trainer asks for 2 (run 0: seed=1)",
        "write trainer.devices=1, or start the runs one by one, as for seed in 1 2; do nequip-train config.yaml seed=$seed; done",
        files={"molecules.xyz": ""},
        overrides=("--multirun", "seed=1,2", "trainer.accelerator=cpu", "trainer.devices=2"),
    ),
    _typed(
        "A drawing of several runs",
        "--multirun seed=1,2 --plot-schedule",
        "--plot-schedule draws a single run",
        "leave out --multirun, and give one value of each key",
    ),
    Mistake(
        "An output folder with a config of one's own",
        "hydra.run.dir=.",
        "{folder}/config.yaml would be written over: a run writes its resolved config there",
        "give a folder of its own, hydra.run.dir=FOLDER, or rename the file",
        files={"molecules.xyz": ""},
        overrides=("hydra.run.dir=.",),
    ),
    Mistake(
        "An output folder that is a file",
        "hydra.run.dir=molecules.xyz/run",
        "cannot write to {folder}/molecules.xyz/run: {folder}/molecules.xyz is a file",
        "give another folder: hydra.run.dir=FOLDER",
        files={"molecules.xyz": ""},
        overrides=("hydra.run.dir=molecules.xyz/run",),
    ),
    Mistake(
        "A statistic where the data are not read yet",
        "hydra.run.dir=${training_data_stats:num_neighbors_mean}",
        "hydra: ${training_data_stats:num_neighbors_mean} was asked for before the training data was read",
        "see the section hydra of the config",
        overrides=("hydra.run.dir=${training_data_stats:num_neighbors_mean}",),
    ),
    _typed(
        "A bracket that is not closed on the command line",
        "run=[train",
        "cannot read 'run=[train': it ends before its '[' is closed",
        "the shell splits at spaces: put quotes around the whole, 'run=[train ...]'",
    ),
    Mistake(
        "A mapping with a space, without quotes on the command line",
        "data.key_mapping={dft_energy: total_energy}",
        "cannot read 'data.key_mapping={dft_energy:': it ends before its '{' is closed",
        "the shell splits at spaces: put quotes around the whole, 'data.key_mapping={dft_energy: ...}'",
        overrides=("data.key_mapping={dft_energy:", "total_energy}"),
    ),
    Mistake(
        "Two names in brackets, without quotes on the command line",
        "data.key_mapping={my_energy:total_energy,my_forces:forces}",
        "data.key_mapping is 'my_forces:forces'",
        "put quotes around the whole, as the shell takes {...,...} apart: 'data.key_mapping={my_forces: forces}'; give a mapping or null",
        overrides=("data.key_mapping=my_energy:total_energy", "data.key_mapping=my_forces:forces"),
    ),
    Mistake(
        "The end of what the shell has split",
        "run=train, val]",
        "cannot read 'val]': its ']' closes nothing",
        "the shell splits at spaces: put quotes around the whole, 'key=[... val]'",
        overrides=("run=train", "val]"),
    ),
    _written(
        "A reference to nowhere",
        "model: {seed: '${sede}'}\n",
        "model.seed refers to 'sede', which is not in the config",
        "did you mean 'seed'? add the key, or name another",
    ),
    _written(
        "A value of the wrong type in a list",
        "data: {train: molecules.xyz, species: [1, 6]}\n",
        "data.species is [1, 6]",
        "give a text or a list (each a text)",
        begin=_DEFAULTS,
    ),
    _written(
        "A section that is a number",
        "data: 5\n",
        "data is 5",
        "give a mapping with a _target_, the class that it configures",
        begin=_DEFAULTS,
    ),
    _written(
        "A reference to itself", "model: {seed: '${model.seed}'}\n", "model.seed refers to itself", "name another key"
    ),
    _written(
        "A statistic's misspelt prefix",
        "model: {avg_num_neighbors: '${training_data_stat:num_neighbors_mean}'}\n",
        "model.avg_num_neighbors asks for ${training_data_stat:...}, which does not exist",
        "did you mean 'training_data_stats'?",
    ),
    _written(
        "A statistic of the data for reading the data",
        "data: {train: molecules.xyz, batch_size: '${training_data_stats:num_neighbors_mean}'}\n",
        "data.batch_size: ${training_data_stats:num_neighbors_mean} was asked for before the training data was read",
        "use it in the sections model and training_module only",
        begin=_DEFAULTS,
    ),
    _written(
        "A bundled file that does not exist",
        "data: {train: '${tutorial_data:methanol/train.xyz}'}\n",
        "data.train: there is no bundled data file 'methanol/train.xyz'",
        "bundled sets are ethanol, mgo",
        begin=_DEFAULTS,
    ),
    _written(
        "A tab",
        "data:\n\ttrain: molecules.xyz\n",
        "{folder}/config.yaml, line 3: found character '\\t' that cannot start any token",
        "indent with spaces: YAML knows no tabs",
        begin=_DEFAULTS,
    ),
    _written(
        "A bracket that is not closed in a file",
        "data: {train: molecules.xyz\n",
        "{folder}/config.yaml, line 3: expected ',' or '}', but got '<stream end>'",
        "see this line and the one before: brackets, quotes, indentation, a space after each colon",
        begin=_DEFAULTS,
    ),
    _written(
        "A key twice",
        "seed: 1\nseed: 2\n",
        "{folder}/config.yaml, line 4: found duplicate key seed",
        "give each key once",
    ),
    _written(
        "A config without the defaults",
        "data: {train: molecules.xyz}\n",
        "the config has no 'run'",
        "begin it with a line that takes in the defaults: [train, _self_]",
        begin="",
    ),
    _written(
        "A list in place of a config",
        "- train.xyz\n- test.xyz\n",
        "the config {folder}/config.yaml is a list, not a mapping",
        "begin it with the line defaults: [train, _self_]",
        begin="",
    ),
    _written(
        "An empty config",
        "",
        "the config {folder}/config.yaml is empty",
        "begin it with the line defaults: [train, _self_]",
        begin="",
    ),
    _written(
        "A model named without override",
        "defaults: [train, {model: nequip_M}, _self_]\n",
        "the defaults give model twice",
        "write 'override model: nequip_M'; on the command line model=NAME",
        begin="",
    ),
    _written(
        "A group that does not exist",
        "defaults: [train, {override modle: nequip_M}, _self_]\n",
        "there is no 'modle' to change",
        "did you mean 'model'? see the list 'defaults' of the config",
        begin="",
    ),
    _written(
        "A config that takes in itself",
        "defaults: [config, _self_]\n",
        "the config {folder}/config.yaml takes in 'config', which is its own name",
        "rename it, for example to my_config.yaml",
        begin="",
    ),
    _written(
        "A config that is replaced by what it takes in",
        "defaults: [_self_, train]\ndata: {train: train.xyz}\ncutoff_radius: 4.0\n",
        "the defaults of {folder}/config.yaml have _self_ before train, which would replace what the file says of data, cutoff_radius",
        "move _self_ to the end of the list: defaults: [train, _self_]",
        begin="",
    ),
    _written(
        "A config that takes in one that does not exist",
        "defaults: [trian, _self_]\n",
        "there is no config 'trian'",
        "did you mean 'train'? there are config, train, tutorial",
        begin="",
    ),
    _typed(
        "Fine-tuning: a source that is not there",
        "finetune.source=modle.safetensors",
        "finetune.source: no such file or folder: {folder}/modle.safetensors",
        "give a model file, a checkpoint or a run folder",
    ),
    _typed(
        "Fine-tuning without a source",
        "finetune.freeze=head_only",
        "finetune.freeze is given, but finetune.source is not",
        "name the model to begin from: finetune.source=model.safetensors",
    ),
    _typed(
        "Fine-tuning: a rule for shifts that does not exist",
        "finetune.source=model.safetensors finetune.shifts=fit",
        "finetune.shifts is 'fit'",
        "did you mean 'refit'? give keep or refit",
    ),
    _typed(
        "Replay: a fraction out of range",
        "data.replay={file:old.xyz,fraction:10}",
        "data.replay.fraction is 10",
        "give a number, above 0 and below 1",
    ),
    _typed(
        "Several training sets: a key that does not exist",
        "data.train={water:{file:water.xyz,wieght:2.0},ice:ice.xyz}",
        "data.train.water: unknown key 'wieght'",
        "did you mean 'weight'? known are file, path, index, indices, indices_path, max_samples, shuffle, seed, key_mapping, units, trust_pickle, weight",
    ),
    _typed(
        "A temperature for one data set",
        "data.sampling={temperature:2.0}",
        "data.sampling.temperature is 2, but data.train is one data set",
        "name several: train: {water: water.xyz, ice: ice.xyz}, or leave it out",
    ),
    _typed(
        "Forces of a part of the frames: a fraction out of range",
        "data.sampling={force_fraction:30}",
        "data.sampling.force_fraction is 30",
        "give a number, above 0 and at most 1",
    ),
    _typed(
        "Differences to a model that is not there",
        "data.base_targets={model:base.safetensors}",
        "data.base_targets.model: there is no file base.safetensors",
        "give the path of a model",
    ),
    _typed(
        "Reference compounds: a formula that is none",
        "data.reference_energies={compounds:[Wasser]}",
        "data.reference_energies.compounds: 'Wasser' is no formula",
        "write it as H2O; put NO into quotes",
    ),
    Mistake(
        "A config that does not exist",
        "nequip-train confg.yaml",
        "there is no config file {folder}/confg.yaml",
        "did you mean 'config'? give the path of a YAML file",
        arguments=("confg.yaml",),
    ),
    Mistake(
        "A name of a config that does not exist",
        "nequip-train -cn tutoral",
        "there is no config 'tutoral'",
        "did you mean 'tutorial'? there are config, train, tutorial",
        arguments=("-cn", "tutoral"),
    ),
    Mistake(
        "An option that does not exist",
        "nequip-train config.yaml --chekc",
        "there is no option --chekc",
        "did you mean '--check'? see --help",
        arguments=("config.yaml", "--chekc"),
    ),
    Mistake(
        "A config that is not UTF-8",
        "data: {train: Moleküle.xyz}",
        "{folder}/config.yaml, line 2: not UTF-8 text",
        "save the file as UTF-8",
        files={"config.yaml": b"defaults: [train, _self_]\ndata: {train: Molek\xfcle.xyz}\n"},
    ),
]

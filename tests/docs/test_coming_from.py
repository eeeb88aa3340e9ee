"""The pages for users of XequiNet, mlip and aenet: each of their keys is there, and what to write is accepted."""

import re
import sys
from pathlib import Path

import pytest

from nequip_like.inference import model_file
from nequip_like.workflow.config.check import check_config
from tests.processes import run_python

DOCS = Path(__file__).parents[2] / "docs"
KEYS = {
    "xequinet": """
        run_name resume ckpt_file finetune_modules lossfn losses_weight optimizer optimizer_kwargs max_lr min_lr
        warmup_scheduler warmup_epochs lr_scheduler lr_scheduler_kwargs early_stoppings early_stopping_mode ema_decay
        save_dir best_k log_file log_steps log_epochs max_epochs grad_clip seed num_workers db_path cutoff split targets
        base_targets default_dtype node_shift node_scale max_num_samples batch_size valid_batch_size
    """,
    "mlip": """
        num_epochs num_gradient_accumulation_steps random_seed ema_decay use_ema_params_for_eval eval_num_graphs
        run_eval_at_start should_parallelize MSELoss HuberLoss energy_weight_schedule forces_weight_schedule
        stress_weight_schedule extended_metrics get_default_mlip_optimizer apply_weight_decay_mask weight_decay
        grad_norm init_learning_rate peak_learning_rate final_learning_rate warmup_steps transition_steps
        data_upload_fun local_model_output_dir max_checkpoints_to_keep save_debiased_ema restore_checkpoint_if_exists
        epoch_to_restore restore_optimizer_state clear_previous_checkpoints use_intra_epoch_checkpointing
        intra_epoch_save_every_n_steps intra_epoch_max_to_keep enable_async_checkpointing use_single_host_patch
        attach_logger log_metrics_to_table log_metrics_to_line convert_mse_to_rmse_in_logs
        load_parameters_from_checkpoint mae_e mse_e mae_f mse_f mae_e_per_atom mse_e_per_atom mae_stress mse_stress
        mae_stress_per_atom mse_stress_per_atom energy_weight forces_weight stress_weight
    """,
    "aenet": """
        species rad_order rad_cutoff ang_order ang_cutoff min_cutoff arch iterations method testpercent split_seed seed
        device memory_mode precision alpha batch_size force_weight force_fraction force_sampling
        force_resample_num_epochs force_min_structures_per_epoch force_scale_unbiased sampling_policy cache_features
        cache_feature_max_entries cache_neighbors cache_neighbor_max_entries cache_force_triplets
        cache_force_triplet_max_entries cache_persist_dir cache_scope cache_warmup num_workers prefetch_factor
        persistent_workers in_memory_cache_size max_energy max_forces atomic_energies normalize_features
        normalize_energy E_shift E_scaling feature_stats checkpoint_dir checkpoint_interval max_checkpoints save_best
        resume_from use_scheduler scheduler_patience scheduler_factor scheduler_min_lr save_energies save_forces timing
        show_progress show_batch_progress TrainOut num_members base_seed member_seeds max_parallel devices output_dir
        committee_metadata.json from_directory from_files predict predict_dataset to_dataframe sort_by top_uncertain
        to_aenet_ascii ReferenceEnergies.from_regression from_reference_compounds
    """,
}
PACKAGE = """
def upload(path):
    print(path)


def log(category, values, epoch, step):
    print(category)
"""


def rows(page):
    """Cells of each row of a page's tables."""
    lines = (DOCS / f"coming-from-{page}.md").read_text().splitlines()
    return [
        [cell.strip() for cell in re.split(r" \|(?= )", line.strip("|"))] for line in lines if line.startswith("| ")
    ]


def spans(cell):
    return re.findall(r"`([^`]*)`", cell)


def commands(page):
    """What the second column says to write, where it is something for the command line."""
    return list(dict.fromkeys(span for row in rows(page) for span in spans(row[1]) if "=" in span))


@pytest.mark.parametrize("page", KEYS)
def test_each_key_of_theirs_has_a_row(page):
    named = {span for row in rows(page) for span in spans(row[0])}
    assert set(KEYS[page].split()) <= named


@pytest.mark.parametrize(
    ("page", "command"),
    [
        pytest.param(page, command, marks=[pytest.mark.slow] * (number % 4 > 0))  # all of them take a minute
        for page in KEYS
        for number, command in enumerate(commands(page))
    ],
)
def test_what_to_write_is_accepted(page, command, compose, make_potential, molecule_file, tmp_path, monkeypatch):
    (tmp_path / "my_package.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    model = tmp_path / "model.safetensors"
    model_file.save(make_potential(r_max=4.0), model)  # the cutoff of the config
    for place in ("RUN/checkpoints/last.ckpt", "RUN/checkpoints/step500.ckpt", "source=RUN", "source=MODEL"):
        named = f"source={model}" if place.startswith("source") else str(model.with_name("a.ckpt"))
        command = command.replace(place, named)
    (tmp_path / "a.ckpt").touch()
    command = re.sub(r"\b(\w+\.xyz)", str(molecule_file), command).replace("hydra.run.dir", "output_dir")
    config = compose(*command.split(" "))
    check_config(config)


@pytest.mark.slow
@pytest.mark.parametrize("page", KEYS)
def test_the_config_of_the_page_is_accepted(page, molecule_file, tmp_path):
    blocks = re.findall(r"```yaml\n(defaults:.*?)```", (DOCS / f"coming-from-{page}.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "own.yaml"
    path.write_text(blocks[0].replace("train.xyz", str(molecule_file)))
    done = run_python("-m", "nequip_like.cli.train", str(path), "--check", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

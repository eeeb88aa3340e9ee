"""What each command of ``nequip-model`` does with its arguments: reads, asks the library, prints."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from nequip_like.cli.starting.quick_start import quick_start

if TYPE_CHECKING:
    from nequip_like.model.families import Families
    from nequip_like.workflow.model_files.facts import ModelFacts

OTHERWISE = 1


def _find_families(arguments: argparse.Namespace) -> Families:
    from nequip_like.cli.trusted_families import trusted_families

    return trusted_families(arguments.trusted_packages, "--trusted-packages")


def _read_facts(arguments: argparse.Namespace) -> ModelFacts:
    with quick_start():
        from nequip_like.compat.conversion import read_any_model
        from nequip_like.whole_files import path_of
        from nequip_like.workflow.model_files.facts import collect_facts

    potential, card = read_any_model(arguments.model, arguments.nequip_python, _find_families(arguments))
    return collect_facts(path_of(arguments.model), potential, card)


def run_info(arguments: argparse.Namespace) -> int:
    """Print what is known of a model."""
    facts = _read_facts(arguments)
    from nequip_like.workflow.model_files.telling import format_facts

    print(json.dumps(facts.as_json(), indent=1, ensure_ascii=False) if arguments.json else format_facts(facts))
    return 0


def run_verify(arguments: argparse.Namespace) -> int:
    """Print a verdict for each check; status 1 if one failed."""
    facts = _read_facts(arguments)
    from nequip_like.inference.manifest import find_manifest, read_manifest
    from nequip_like.whole_files import path_of
    from nequip_like.workflow.model_files.verifying import verify_model

    print(f"{facts.path}: {facts.kind}, sha256 {facts.sha256 or 'of several files'}")
    manifest = find_manifest(path_of(arguments.model))
    known = None if manifest is None else read_manifest(manifest)
    verdicts = verify_model(facts.potential, _find_families(arguments), known)
    for verdict in verdicts:
        print(f"{'ok    ' if verdict.passed else 'FAILED'}  {verdict.name}{verdict.reason and f': {verdict.reason}'}")
    return 0 if all(verdict.passed for verdict in verdicts) else OTHERWISE


def run_diff(arguments: argparse.Namespace) -> int:
    """Print in what two models differ; status 1 if they do."""
    with quick_start():
        from nequip_like.compat.conversion import read_any_model
        from nequip_like.workflow.model_files.comparing import compare_models

    families = _find_families(arguments)
    (first, _), (second, _) = (
        read_any_model(model, arguments.nequip_python, families) for model in (arguments.model, arguments.other)
    )
    differences = compare_models(first, second)
    for entry in differences:
        print(f"{entry.kind} {entry.name}\n  - {entry.first}\n  + {entry.second}")
    if not differences:
        print("the same model: its config, its weights and what it predicts")
    return OTHERWISE if differences else 0


def run_card(arguments: argparse.Namespace) -> int:
    """Write or print a model card."""
    facts = _read_facts(arguments)
    from nequip_like.whole_files import check_absent, path_of, written_whole
    from nequip_like.workflow.model_files.card_page import format_model_card

    text = format_model_card(facts, arguments.name, arguments.licence)
    if arguments.output is None:
        print(text, end="")
        return 0
    check_absent(path_of(arguments.output), arguments.overwrite)
    with written_whole(arguments.output) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"written: {Path(arguments.output).absolute()}")
    return 0


def run_convert(arguments: argparse.Namespace) -> int:
    """Convert a model."""
    with quick_start():
        from nequip_like.compat.conversion import convert_model

    result = convert_model(
        arguments.model,
        arguments.output,
        arguments.to,
        nequip_python=arguments.nequip_python,
        card={} if arguments.licence is None else {"licence": arguments.licence},
        families=_find_families(arguments),
        overwrite=arguments.overwrite,
    )
    for note in result.notes:
        print(f"note: {note}")
    print(result.potential)
    if result.differences:
        shares = ", ".join(f"{name} {value:.1e}" for name, value in result.differences.items())
        print(f"largest differences from NequIP's predictions: {shares}")
    for file in result.files:
        print(f"written: {file.absolute()}")
    return 0

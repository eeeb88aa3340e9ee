"""What an installation holds: the version, the config tree and the bundled data, from a checkout and from a wheel."""

import subprocess
import sys
import zipfile
from importlib import metadata, resources
from pathlib import Path

import pytest

import nequip_like

ROOT = Path(__file__).parents[1]


def shipped_files():
    """Every file that has to be in the wheel, by its path there."""
    rooms = [
        ("nequip_like", "nequip_like", {".py", ".typed", ".c"}),
        ("conf", "nequip_like/conf", {".py", ".yaml"}),
        ("tutorials/data", "nequip_like/tutorial_data", {".py", ".xyz", ".md", ".json"}),
    ]
    return {
        f"{target}/{path.relative_to(ROOT / source).as_posix()}"
        for source, target, suffixes in rooms
        for path in (ROOT / source).rglob("*")
        if path.suffix in suffixes
    }


def test_version_is_the_installed_one():
    assert nequip_like.__version__ == metadata.version("nequip-like")


def test_import_is_light():
    code = "import sys, nequip_like; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize(("package", "folder"), [("conf", "conf"), ("tutorial_data", "tutorials/data")])
def test_data_folders_are_packages(package, folder):
    found = resources.files(f"nequip_like.{package}")
    assert sorted(p.name for p in found.iterdir() if p.name != "__pycache__") == sorted(
        p.name for p in (ROOT / folder).iterdir() if p.name != "__pycache__"
    )


def test_every_python_folder_is_a_package():
    # setup.py finds packages by their __init__.py: a folder without one would be absent from the wheel.
    folders = {path.parent for path in (ROOT / "nequip_like").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.slow
def test_wheel_holds_everything(tmp_path):
    pytest.importorskip("build")
    # Without --wheel the wheel is built from the sdist, so this checks both.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert shipped_files() - names == set()
    package_files = {name for name in names if ".dist-info/" not in name}
    assert package_files - shipped_files() == set(), "the wheel holds files that the checkout does not"

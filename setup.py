"""What is shipped: the package, ``conf/`` as ``nequip_like.conf``, the bundled data as ``nequip_like.tutorial_data``.

Everything else stands in pyproject.toml, which can list packages or find them, but not find them and add two.
"""

from setuptools import find_packages, setup

FOLDERS = {"nequip_like.conf": "conf", "nequip_like.tutorial_data": "tutorials/data"}

setup(
    packages=[*find_packages(include=["nequip_like", "nequip_like.*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={
        "nequip_like": ["py.typed"],
        "nequip_like.conf": ["**/*.yaml"],
        "nequip_like.metrics.compiled": ["*.c"],
        "nequip_like.nn.chebyshev": ["*.c"],
        "nequip_like.nn.native": ["*.c"],
        "nequip_like.optim": ["*.c"],
        "nequip_like.tutorial_data": ["**/*.xyz", "**/*.md", "**/*.json"],
    },
    include_package_data=False,
)

"""Packaging of msanet-jax. Tool settings live in pyproject.toml."""

from __future__ import annotations

import pathlib

from setuptools import find_packages, setup

# One place for what a plain `pip install -e .` brings; upper bounds only where a newer version is known to break.
RUNTIME = [
    "jax>=0.10.0",
    "flax>=0.12.7",  # earlier ones call what jax 0.10 is about to remove
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.20",  # earlier ones cannot be imported with jax 0.10
    "numpy>=2.0",
    "ml-collections>=1.1.0",
    "clu>=0.0.12",
    # TensorFlow only feeds data; the CPU build leaves accelerators to JAX. It is published for x86 Linux.
    'tensorflow-cpu>=2.20; sys_platform == "linux" and platform_machine == "x86_64"',
    'tensorflow>=2.20; sys_platform != "linux" or platform_machine != "x86_64"',
    "tensorflow-datasets>=4.9.10",  # earlier ones cannot read a built set with protobuf 7
    "array-record>=0.8",
    "importlib-resources>=6.0",  # tensorflow-datasets uses it without asking for it
    # clu's TensorBoard writer needs it and TensorFlow no longer brings it.
    "tensorboard>=2.20",
    "absl-py>=2.0",
    "scipy>=1.15",
    "scikit-image>=0.24",
    "pillow>=12.3",  # earlier ones can write outside of memory when they read or crop a crafted image
    "matplotlib>=3.10.7",
    "contourpy>=1.3",
    "pydicom>=3.0.2",  # earlier ones follow a DICOMDIR out of its folder
    "python-gdcm>=3.2.6",  # earlier ones can read and write outside of memory in crafted files
    "highdicom>=0.27",
    "nibabel>=5.3",
    # jax.export writes and reads its files with it and does not bring it.
    "flatbuffers>=25.1",
    # The weights in an exported model.
    "safetensors>=0.5",
    "tqdm>=4.66.3",
    # Records of files: types that are checked when a file is read.
    "msgspec>=0.19",
    "jinja2>=3.1.6",
    "shtab>=1.7",
]

WEB = ["fastapi>=0.118", "uvicorn>=0.30"]

TEST = [
    *WEB,
    "httpx>=0.27",
    "pytest>=8.0",
    "pytest-xdist>=3.8",
    "pydicom-data>=1.0",
    "jsonschema>=4.20",
    # The judge of average precision and calibration.
    "scikit-learn>=1.5",
    "selenium>=4.20",
    # The notebooks of colab/ are run, the wheel is built.
    "nbclient>=0.10",
    "nbformat>=5.10",
    "ipykernel>=6.29",
    "build>=1.2",
    "setuptools>=77",
]

EXTRAS = {
    # msanet serve: a page on this machine to drop scans on.
    "web": WEB,
    "cuda": ["jax[cuda13]"],
    "tpu": ["jax[tpu]"],
    "test": TEST,
    "dev": [*TEST, "ruff>=0.14", "mypy>=1.18"],
    # benchmarks/, and an independent implementation of the scores in tests.
    "bench": ["monai>=1.5", "torch==2.13.0", "nnunetv2>=2.8"],
    # benchmarks/tpu_compile.py: the TPU compiler alone, in the version that jax 0.10.2 asks for; no TPU is needed.
    "tpu-compile": ["jax==0.10.2", "jaxlib==0.10.2", "libtpu==0.0.42.*"],
    # Only to rebuild data_pipeline/phantom/skeleton.npz from its published source.
    "skeleton": ["myo-sim==0.2.4", "mujoco>=3.2"],
}

setup(
    name="msanet-jax",
    version="0.1.0",
    description="MSA-Net for bone metastases in planar bone scintigraphy, in JAX/Flax, with a simulated data set",
    author="The msanet-jax authors",
    keywords="planar bone scintigraphy, bone metastases, segmentation, adversarial learning, JAX, Flax, TPU, GPU",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    # To be set when the project is published: colab/ takes it from here (colab/README.md).
    url="https://github.com/OWNER/msanet-jax",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["msanet_jax*", "data_pipeline*"]),
    package_data={
        "": ["templates/*", "py.typed"],
        "data_pipeline.phantom": ["*.npz"],
        "msanet_jax.trained": ["*.msanet"],
    },
    install_requires=RUNTIME,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["msanet=msanet_jax.cli:main"]},
)

"""A double of the CUDA driver: see `driver.c`."""

from pathlib import Path

from tests.fakes.compiled import compiled

LIBRARY = "libcuda.so.1"


def cuda_folder() -> Path:
    """The folder with the library, for LD_LIBRARY_PATH."""
    return compiled(Path(__file__).parent, LIBRARY).parent

"""The real scan that comes with the PyPI package pydicom-data."""

from __future__ import annotations

from pathlib import Path

from data_pipeline.errors import RequestError


def packaged_scan() -> Path:
    """The real scan in the package pydicom-data.

    Raises:
      RequestError: the package is not installed.
    """
    try:
        import data_store
    except ImportError:
        raise RequestError("pydicom-data is not installed; pip install -e '.[test]', or give --scan") from None
    return Path(data_store.__file__).parent / "data" / "JPEG-LL.dcm"

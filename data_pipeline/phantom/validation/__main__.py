"""`python -m data_pipeline.phantom.validation` writes validation.md and its pictures."""

from __future__ import annotations

import sys

from data_pipeline.phantom.validation.page import main

if __name__ == "__main__":
    sys.exit(main())

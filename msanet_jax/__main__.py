"""`python -m msanet_jax` is the msanet command."""

from __future__ import annotations

import sys

from msanet_jax.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m msanet_jax.experiment.prepare`: builds the data sets of several recipes, each once.

Standard input has a JSON list with the arguments of main.py for each run, `["--config=...", "--config.data.fold=0"]`,
to be read from the folder with main.py. A recipe that cannot be read and a set that cannot be built are left to the
runs, which say what is wrong; here it is said in a line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from data_pipeline.errors import RequestError


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 done, also where a set is left to its runs."""
    parser = argparse.ArgumentParser(prog="python -m msanet_jax.experiment.prepare", description=__doc__)
    parser.add_argument("--data_dir", required=True, help="where built sets are kept")
    data_dir = parser.parse_args(arguments).data_dir
    wanted = data_sets(json.loads(sys.stdin.read()))
    if wanted:
        # Imported late: TensorFlow takes seconds, and there may be nothing to do.
        from data_pipeline.datasets import prepare
    for dataset, field in wanted:
        try:
            prepare(dataset, data_dir, field)
        except RequestError as error:
            print(f"{dataset} could not be prepared, its runs will try: {error}", file=sys.stderr)
    return 0


def data_sets(runs: Sequence[Sequence[str]]) -> list[tuple[str, str]]:
    """(`data.dataset`, `data.field`) of the runs, each once, in order; a run whose recipe is wrong is left out."""
    found: dict[tuple[str, str], None] = {}
    for arguments in runs:
        values = flags.FlagValues()
        command = ["main.py", *arguments]
        config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=command)
        try:
            values(command)
            data = values.config.data
            found[data.dataset, data.field] = None
        except Exception as error:  # a recipe is a program: it may raise anything
            reason = str(error).strip().splitlines() or [type(error).__name__]
            print(f"{' '.join(arguments)}: not readable, its run will say more: {reason[-1].strip()}", file=sys.stderr)
    return list(found)


if __name__ == "__main__":
    sys.exit(main())

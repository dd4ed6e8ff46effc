"""Trains MSA-Net, then scores it on the test patients.

python main.py --config=configs/msanet.py:cpu --workdir=runs/first

Exit codes: 0 done; 2 the request cannot be carried out (one line says why); 69 another process of the run is gone; 75
stopped by SIGTERM: run the same command again to continue; 130 Ctrl-C; 141 nobody reads the output. Several hosts or
processes: docs/scaling.md.
Research software, not for diagnosis.
"""

from __future__ import annotations

import logging
import sys
import textwrap
from collections.abc import Sequence

from absl import app, flags
from ml_collections import config_flags

from data_pipeline.errors import ExitCode, RequestError
from data_pipeline.files import full_disk, too_long_name
from data_pipeline.text import show_undecodable_names
from msanet_jax.runtime.compile_cache import keep_compiled_programs
from msanet_jax.runtime.stopping import Stopped, say_no_more, stopping

config_flags.DEFINE_config_file("config", None, "Recipe, e.g. configs/msanet.py:cpu (configs/msanet.py:help lists).")
flags.DEFINE_string("workdir", None, "Folder of the run: config, checkpoints, scores, pictures.")
flags.DEFINE_string("data_dir", "data", "Folder of the built data sets.")
PROCESS_FLAGS = ("distributed", "coordinator_address", "num_processes", "process_id")
flags.DEFINE_boolean(
    "distributed",
    None,
    "Run as one of several processes. Slurm, Open MPI 4, Kubernetes and Cloud TPU set the rest (docs/scaling.md).",
)
flags.DEFINE_string("coordinator_address", None, "host:port of process 0, if the cluster does not set it.")
flags.DEFINE_integer("num_processes", None, "Number of processes, if the cluster does not set it.", lower_bound=1)
flags.DEFINE_integer(
    "process_id", None, "Number of this process, from 0, if the cluster does not set it.", lower_bound=0
)


def run(arguments: Sequence[str]) -> None:
    """Carries out the command line; main.py's whole work, importable for tests.

    Exits:
      as `data_pipeline.errors.ExitCode` lists; 0 by returning.
    """
    show_undecodable_names()
    try:
        with stopping():
            try:
                _train(parse(arguments))
            finally:
                sys.stdout.flush()  # so that a closed pipe shows here, and not when Python ends
    except Stopped as stop:
        print(f"main.py: stopped by {stop.name}; run the same command again to continue", file=sys.stderr)
        sys.exit(ExitCode.PREEMPTED)
    except KeyboardInterrupt:
        print("main.py: interrupted; run the same command again to continue from the last checkpoint", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        say_no_more()
        sys.exit(ExitCode.UNREAD)


def _train(arguments: Sequence[str]) -> None:
    if len(arguments) > 1:
        sys.exit(_refuse(f"unexpected argument {arguments[1]!r}"))
    # Our own messages only: orbax and TensorFlow tell a page about every checkpoint.
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("msanet_jax").setLevel(logging.INFO)
    keep_compiled_programs()
    # Imported late: a wrong flag should not have to wait for JAX and TensorFlow.
    from jax.errors import JaxRuntimeError

    from msanet_jax.runtime import hosts
    from msanet_jax.training.job import train_and_evaluate
    from msanet_jax.training.signals import Preempted

    process = {key: flags.FLAGS[key].value for key in PROCESS_FLAGS}
    try:
        hosts.join(**process)
        if not hosts.is_primary():
            logging.getLogger("msanet_jax").setLevel(logging.WARNING)
        try:
            train_and_evaluate(flags.FLAGS.config, workdir=flags.FLAGS.workdir, data_dir=flags.FLAGS.data_dir)
        except JaxRuntimeError as error:
            hosts.raise_if_lost_peer(error)
            raise
    except Preempted as event:
        print(f"main.py: {event}; run the same command again to continue", file=sys.stderr)
        sys.exit(ExitCode.PREEMPTED)
    except hosts.LostPeerError:
        hosts.leave(ExitCode.LOST_PEER)
    except Exception as error:
        if (reason := _reason(error)) is None:
            raise
        sys.exit(_refuse(reason))


def _reason(error: Exception) -> str | None:
    """The one line for an error that the user can repair; None for a fault of the program."""
    if (unwritten := full_disk(error)) is not None:
        return (
            f"{unwritten}: no space left on the disk; make room and run the same command again, which continues from "
            "the last checkpoint"
        )
    if isinstance(error, RequestError):
        return str(error)
    if (too_long := too_long_name(error)) is not None:
        return too_long
    # JAX has no class of its own for it.
    if isinstance(error, RuntimeError) and str(error).startswith("Unable to initialize backend"):
        return f"{str(error).splitlines()[0]}; `msanet doctor` lists the devices that JAX sees"
    return None


def parse(arguments: Sequence[str]) -> Sequence[str]:
    """Parses the flags, which also evaluates the config file and its overrides.

    Exits:
      0 after `:help`; 2 with one clear line where the flags, the variant or a config key are wrong.
    """
    app.define_help_flags()
    try:
        rest = flags.FLAGS(arguments)
        if flags.FLAGS.config is None:
            raise ValueError("--config is missing, e.g. --config=configs/msanet.py:cpu")
        _ = flags.FLAGS.config.variants  # a recipe that could not be read says so only when it is used
        if flags.FLAGS.workdir is None:
            raise ValueError("--workdir is missing: the folder of the run, e.g. --workdir=runs/first")
    except (KeyError, AttributeError) as error:
        sys.exit(_refuse(f"--config has no such key: {_innermost(error)}"))
    except OSError as error:
        sys.exit(_refuse(f"--config cannot be read: {str(error).strip().splitlines()[-1].strip()}"))
    except (ValueError, TypeError, flags.Error) as error:
        # The flag library wraps what a config file raises in the text of a traceback; the user needs its last part.
        message = textwrap.dedent("  " + str(error).rsplit("Error: ", maxsplit=1)[-1])
        if message.strip().startswith("the variants of"):
            print(message.strip())
            sys.exit(ExitCode.DONE)
        sys.exit(_refuse(message.strip()))
    return rest


def _innermost(error: Exception) -> str:
    """The message in one line; a KeyError would show its repr, and the config library wraps one in another error."""
    message = error.args[0] if error.args else error
    return _innermost(message) if isinstance(message, Exception) else " ".join(str(message).split())


def _refuse(reason: str) -> int:
    print(f"main.py: {reason}", file=sys.stderr)
    return ExitCode.REFUSED


if __name__ == "__main__":
    from msanet_jax.runtime.huge_pages import restart_with_huge_pages

    restart_with_huge_pages()
    run(sys.argv)

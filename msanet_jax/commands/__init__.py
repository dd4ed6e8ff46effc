"""The subcommands of msanet, one module each: HELP, add_arguments(parser) and run(options) -> exit code.

A module imports what is heavy (JAX, TensorFlow, the networks) only inside `run`, so that `msanet --help` is quick.
"""

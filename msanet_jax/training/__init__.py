"""From a recipe and data to checkpoints: losses, optax updates, steps, devices, loop."""

"""Compiled programs on disk, so that the next run starts at once."""

import os

import jax


def keep_compiled(directory: str | os.PathLike[str]) -> None:
  """Keeps what is compiled from now on in a folder, and finds it there.

  Call it before anything is computed. The environment variable
  JAX_COMPILATION_CACHE_DIR does the same for every JAX program.
  """
  jax.config.update('jax_compilation_cache_dir', os.fspath(directory))
  # By default only what took a second is kept: here it is many small programs.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)

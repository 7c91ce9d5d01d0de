"""Keeps compiled programs on disk, so that the next run starts at once."""

import os

import jax

from mmicl_jax.runtime import remote


def keep_compiled(directory: str | os.PathLike[str]) -> None:
  """Stores what is compiled from now on in a folder, and reads it from there.

  Call it before anything is computed. The environment variable
  JAX_COMPILATION_CACHE_DIR does the same for every JAX program.
  """
  if remote.kind(remote.address(directory)) != 'gs':  # JAX can write to gs://
    remote.only_here(directory, 'the folder of compiled programs')
  jax.config.update('jax_compilation_cache_dir', os.fspath(directory))
  # By default JAX keeps only what took a second; here many programs are small.
  jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
  jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)

"""Describes this machine: versions, devices, memory, settings."""

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mmicl_jax.cpu import described, instructions
from mmicl_jax.runtime.versions import version

PACKAGES = (
  *('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'tensorstore'),
  *('grain', 'gin-config', 'absl-py', 'etils', 'numpy', 'ml_dtypes', 'Pillow'),
  *('sentencepiece', 'tokenizers', 'safetensors', 'rich', 'Jinja2'),
  *('libtpu', 'jax-cuda12-plugin', 'torch', 'transformers', 'tensorflow'),
  *('seqio', 't5x', 'tensorboard', 'matplotlib', 'scikit-learn'),
  *('starlette', 'uvicorn', 'prometheus_client'),
)
# Environment variables that change what is computed, where, or how fast. Only
# these are shown, since the values of others may be secrets.
VARIABLES = (
  *('XLA_FLAGS', 'LIBTPU_INIT_ARGS', 'GLIBC_TUNABLES', 'CUDA_VISIBLE_DEVICES'),
  *('OMP_NUM_THREADS', 'NPROC', 'HF_HOME', 'HF_HUB_OFFLINE', 'LC_ALL', 'LANG'),
)
PREFIXES = ('JAX_', 'MMICL_')
# Of a CPU: which of them it has decides which products are fast.
INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'amx_bf16', 'amx_int8')
SECRET = '_KEY'  # MMICL_API_KEY of `mmicl serve`


def environment() -> dict[str, Any]:
  """All that an issue report needs, as JSON's types; memory in bytes."""
  return {
    'mmicl_jax': {
      'version': version('mmicl_jax'),
      'folder': str(Path(__file__).resolve().parents[1]),
    },
    'python': f'{platform.python_version()} ({sys.executable})',
    'system': f'{platform.platform()}, {" ".join(platform.libc_ver())}'.strip(),
    'cpu': {
      'model': described('model name')
      or platform.processor()
      or platform.machine(),
      'cores': _cores(),
      'instructions': [x for x in INSTRUCTIONS if x in instructions()],
    },
    'memory': _memory(),
    'jax': {
      'backend': jax.default_backend(),
      'processes': jax.process_count(),
      'devices': [_device(d) for d in jax.local_devices()],
      'compilation_cache': jax.config.jax_compilation_cache_dir,
      'x64': bool(jax.config.jax_enable_x64),
    },
    'packages': {
      name: found for name in PACKAGES if (found := version(name)) is not None
    },
    'variables': {
      name: value
      for name, value in sorted(os.environ.items())
      if name in VARIABLES
      or (name.startswith(PREFIXES) and not name.endswith(SECRET))
    },
  }


def machine(facts: Mapping[str, Any]) -> str:
  """Names the devices that compute, in words. facts: of `environment`."""
  cpu, devices = facts['cpu'], facts['jax']['devices']
  text = f'{cpu["cores"]} cores of {cpu["model"]}'
  if cpu['instructions']:
    text += f' ({", ".join(cpu["instructions"])})'
  if facts['jax']['backend'] == 'cpu':
    return text
  return f'{len(devices)} x {devices[0]["kind"]}, host {text}'


def named_versions(facts: Mapping[str, Any], names: Sequence[str]) -> str:
  """The versions of packages that are installed, in words."""
  found = facts['packages']
  return ', '.join(f'{name} {found[name]}' for name in names if name in found)


def _cores() -> int:
  """The cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _memory() -> dict[str, int]:
  """Bytes of memory in total, and available; empty if unknown."""
  names = {'MemTotal': 'total', 'MemAvailable': 'available'}
  found = {}
  for line in _lines('/proc/meminfo'):
    name, _, value = line.partition(':')
    if name in names:
      found[names[name]] = int(value.split()[0]) * 1024
  return found


def _lines(path: str) -> list[str]:
  try:
    return Path(path).read_text().splitlines()
  except OSError:  # not Linux
    return []


def _device(device: Any) -> dict[str, Any]:
  stats = device.memory_stats() or {}  # None on a CPU
  return {
    'kind': device.device_kind,
    'id': device.id,
    'memory': stats.get('bytes_limit'),
  }

"""Settings of all tests: CPU, threads, compilation cache, virtual devices."""

import os
import subprocess
import sys
import tempfile

import hypothesis
import pytest

# Before JAX starts: one accelerator kind, and one thread for each of xdist's
# workers, which would otherwise fight for the cores.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
if 'PYTEST_XDIST_WORKER' in os.environ:
  os.environ.setdefault('NPROC', '1')
  os.environ.setdefault('OMP_NUM_THREADS', '1')
# Models are tiny: compiling them well takes longer than running them. The older
# emitters compile three times as fast as those through MLIR.
os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
os.environ['XLA_FLAGS'] = ' '.join(
  [
    os.environ.get('XLA_FLAGS', ''),
    '--xla_cpu_use_fusion_emitters=false',
    '--xla_cpu_parallel_codegen_split_count=1',
  ]
)
os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
os.environ.setdefault('HF_HUB_OFFLINE', '1')
# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
  'any machine',
  deadline=None,
  suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile('any machine')


def pytest_configure(config):
  config.addinivalue_line(
    'markers',
    'devices(n): runs in a process of its own that has n virtual devices',
  )
  config.addinivalue_line(
    'markers',
    'slow: starts processes, compiles much, or trains until something is '
    "learned; left out by -m 'not slow'",
  )
  # Workers, and processes that tests start, share what was compiled once. The
  # controller makes the folder, its workers inherit the variable.
  if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:
    folder = tempfile.TemporaryDirectory(prefix='mmicl_jax_tests_')
    config.add_cleanup(folder.cleanup)
    os.environ['JAX_COMPILATION_CACHE_DIR'] = folder.name
    os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0.3'


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
  """Gives xdist's workers whole stretches of the suite.

  They then share fewer fixtures of modules, which each would make anew. A
  worker that has no more tests takes over half of another's.
  """
  given = config.option
  if getattr(given, 'numprocesses', None) and given.dist == 'no':
    given.dist = 'worksteal'


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
  """Runs a test marked `devices(n)` again where there are n devices."""
  marker = pyfuncitem.get_closest_marker('devices')
  if marker is None:
    return None
  flag = f'--xla_force_host_platform_device_count={marker.args[0]}'
  if flag in os.environ.get('XLA_FLAGS', ''):
    return None
  environment = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith('PYTEST_')
  }
  environment['XLA_FLAGS'] = f'{os.environ.get("XLA_FLAGS", "")} {flag}'.strip()
  # More threads than devices: see virtual_devices.py.
  environment['NPROC'] = str(4 * marker.args[0])
  run = subprocess.run(
    [sys.executable, '-m', 'pytest', '-p', 'no:cacheprovider', '-x']
    # It says where it hangs before this process is ended for waiting.
    + ['-o', 'faulthandler_timeout=600', pyfuncitem.nodeid],
    cwd=pyfuncitem.config.rootpath,
    env=environment,
    capture_output=True,
    text=True,
  )
  if run.returncode:
    pytest.fail(run.stdout[-8000:] + run.stderr[-2000:], pytrace=False)
  return True

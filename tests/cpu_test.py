"""What a CPU can do is read where Linux says it."""

from pathlib import Path

import pytest

from mmicl_jax import cpu


@pytest.fixture
def read_from(monkeypatch, tmp_path):
  """Makes a text what /proc/cpuinfo says; None: there is no such file."""

  def use(text):
    path = tmp_path / 'cpuinfo'
    if text is not None:
      path.write_text(text)
    monkeypatch.setattr(cpu, 'Path', lambda name: path)
    cpu.instructions.cache_clear()

  yield use
  cpu.instructions.cache_clear()


@pytest.mark.parametrize(
  ('flags', 'expected'),
  [
    ('fpu avx2 avx512f avx512_bf16', True),
    ('fpu avx2 avx512f amx_bf16 amx_int8', True),
    ('fpu avx2 avx512f avx512_vnni', False),
    ('fpu avx2', False),
  ],
)
def test_who_multiplies_bfloat16(read_from, flags, expected):
  read_from(
    f'processor\t: 0\nmodel name\t: Any\nflags\t\t: {flags}\n\nbugs\t: x'
  )
  assert cpu.instructions() == set(flags.split())
  assert cpu.multiplies_bfloat16() == expected


@pytest.mark.parametrize('text', [None, '', 'Features\t: fp asimd\n'])
def test_an_unknown_cpu_widens(read_from, text):
  read_from(text)
  assert cpu.instructions() == frozenset()
  assert not cpu.multiplies_bfloat16()


@pytest.mark.skipif(
  not Path('/proc/cpuinfo').exists(), reason='there is no /proc/cpuinfo'
)
def test_this_machine_is_read():
  cpu.instructions.cache_clear()
  text = Path('/proc/cpuinfo').read_text()
  assert bool(cpu.instructions()) == ('flags' in text)

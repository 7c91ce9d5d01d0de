"""Reading .safetensors: lazily, in any dtype, and damage in one sentence."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from mmicl_jax.convert.tensors import open_file
from mmicl_jax.errors import UserError

FLOATS = {'dtype': 'F32', 'shape': [2], 'data_offsets': [0, 8]}
BODY = bytes(8)


def write(path, header, body=BODY):
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  path.write_bytes(len(text).to_bytes(8, 'little') + text + body)
  return path


@pytest.mark.parametrize(
  'dtype', ['float32', 'float16', 'bfloat16', 'float64', 'int8', 'bool']
)
@pytest.mark.parametrize('shape', [(2, 3), (), (0, 3)])
def test_every_dtype_and_shape_is_read(tmp_path, dtype, shape):
  written = np.arange(np.prod(shape), dtype='f').reshape(shape)
  written = written.astype(np.dtype(getattr(ml_dtypes, dtype, dtype)))
  save_file({'x': written}, tmp_path / 'x.safetensors')
  tensor = open_file(tmp_path / 'x.safetensors')['x']
  assert tensor.shape == shape and tensor.dtype == written.dtype
  read = tensor.read()
  assert read.dtype == written.dtype
  np.testing.assert_array_equal(read, written)
  assert read is not tensor.read()  # an array of its own each time


@pytest.mark.parametrize(
  'header, body',
  [
    (b'{', b''),
    (b'{abc}', BODY),
    (b'[]', b''),
    (b'[' * 10_000, BODY),
    (b'{}\0', b''),
    (b'\xff\xfe{}', b''),
    ({'x': FLOATS}, BODY[1:]),
    ({'x': FLOATS}, BODY + b'1'),
    ({'x': FLOATS, 'y': FLOATS}, BODY),
    ({'x': FLOATS | {'data_offsets': [8, 16]}}, BODY * 2),
    ({'x': FLOATS | {'data_offsets': [-8, 0]}}, BODY),
    ({'x': FLOATS | {'data_offsets': [0]}}, BODY),
    ({'x': FLOATS | {'shape': [-2, -1]}}, BODY),
    ({'x': FLOATS | {'shape': [2**62, 2**62]}}, BODY),
    ({'x': FLOATS | {'shape': [3]}}, BODY),
    ({'x': FLOATS | {'shape': 2}}, BODY),
    ({'x': FLOATS | {'dtype': 'COMPLEX'}}, BODY),
    ({'x': {'dtype': 'F32'}}, BODY),
    ({'x': 3}, BODY),
    ({'__metadata__': 3}, b''),
  ],
)
def test_a_hostile_header_is_one_sentence(tmp_path, header, body):
  path = write(tmp_path / 'x.safetensors', header, body)
  with pytest.raises(UserError, match='truncated or no .safetensors') as error:
    open_file(path)
  assert str(path) in str(error.value) and '\n' not in str(error.value)


@pytest.mark.parametrize('size', [0, 7, 2**62, 2**64 - 1])
def test_a_header_of_an_impossible_length(tmp_path, size):
  path = tmp_path / 'x.safetensors'
  path.write_bytes(size.to_bytes(8, 'little'))
  with pytest.raises(UserError, match='truncated'):
    open_file(path)
  path.write_bytes(b'')
  with pytest.raises(UserError, match='truncated'):
    open_file(path)


def test_eight_bit_floats_are_called_quantised(tmp_path):
  header = {'x': FLOATS | {'dtype': 'F8_E4M3', 'shape': [8]}}
  with pytest.raises(UserError, match='x is F8_E4M3, .* not quantised'):
    open_file(write(tmp_path / 'x.safetensors', header))


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
  path = write(tmp_path / 'x.safetensors', {'x': FLOATS})
  tensor = open_file(path)['x']
  path.write_bytes(path.read_bytes()[:-1])
  with pytest.raises(UserError, match='cannot be read any more') as error:
    tensor.read()
  assert '\n' not in str(error.value)

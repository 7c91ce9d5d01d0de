"""Whose fault an exception of the device or the code is: a job's, or ours."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import jax

from mmicl_jax.serve.jobs import Failed, OutOfMemory
from mmicl_jax.serve.tickets import Ticket


@runtime_checkable  # so that the tests can check signatures with it
class Ticketed(Protocol):
  """Something that is done for a job."""

  @property
  def ticket(self) -> Ticket: ...


Item = TypeVar('Item', bound=Ticketed)


def job_error(error: Exception) -> Exception:
  """The error to tell a job's client.

  Raises the exception itself if the device has failed otherwise than for want
  of memory: no later job would fare better.
  """
  if isinstance(error, MemoryError):
    return OutOfMemory('the machine has too little memory for this request')
  if isinstance(error, jax.errors.JaxRuntimeError):
    if 'RESOURCE_EXHAUSTED' in str(error):
      return OutOfMemory('the device has too little memory for this request')
    raise error
  return error


def for_each(
  items: Sequence[Item], action: Callable[[Sequence[Item]], None]
) -> None:
  """Calls action(items); where that fails, does so for each item alone.

  So a job that cannot be done fails alone, and is told. The action must leave
  nothing behind when it fails.
  """
  try:
    action(items)
  except Exception as error:
    told = job_error(error)
    if len(items) > 1:
      for item in items:
        for_each([item], action)
    else:
      items[0].ticket.tell(Failed(told))

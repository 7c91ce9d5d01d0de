"""Prometheus' metrics, under the names that vLLM's dashboards know."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import (
  CONTENT_TYPE_LATEST,
  CollectorRegistry,
  Counter,
  Histogram,
  generate_latest,
)
from prometheus_client.metrics_core import (
  CounterMetricFamily,
  GaugeMetricFamily,
  Metric,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mmicl_jax.serve.jobs import Counts
from mmicl_jax.serve.reference import ERRORS

# As in vllm/v1/metrics/loggers.py.
_LATENCY = (
  *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0),
  *(50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
_FIRST_TOKEN = (
  *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0),
  *(2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
_BETWEEN_TOKENS = (
  *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
  *(5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
_CHOICES = (1, 2, 5, 10, 20)

# (name, what it is, buckets), each with the label model_name.
_HISTOGRAMS = (
  ('time_to_first_token_seconds', 'until the first token', _FIRST_TOKEN),
  ('inter_token_latency_seconds', 'between tokens', _BETWEEN_TOKENS),
  ('e2e_request_latency_seconds', 'of whole requests', _LATENCY),
  ('request_queue_time_seconds', 'in the queue', _LATENCY),
  ('request_prefill_time_seconds', 'from there to the first token', _LATENCY),
  ('request_decode_time_seconds', 'from there to the end', _LATENCY),
  ('request_prompt_tokens', 'tokens of a prompt', _TOKENS),
  ('request_generation_tokens', 'tokens of all answers to one', _TOKENS),
  ('request_params_n', 'answers asked for', _CHOICES),
  ('image_decode_seconds', 'to make arrays of a prompt', _FIRST_TOKEN),
)
_COUNTERS = (
  ('prompt_tokens', 'tokens of prompts', ()),
  ('generation_tokens', 'tokens of answers', ()),
  ('request_success', 'finished choices', ('finished_reason',)),
  ('dropped_demonstrations', 'demonstrations that did not fit', ()),
)
_ENDS = (('stop',), ('length',))  # finished_reason


class Metrics:
  """All metrics of a server, in a registry of their own.

  prefix: before each name, such as mmicl_ or vllm:. Models are labelled by the
  first of the names that they are served by, whichever a client called them.
  """

  def __init__(self, prefix: str):
    self._prefix = prefix
    self._labels: dict[str, str] = {}
    self.registry = CollectorRegistry()
    self._histograms = {
      name: Histogram(
        prefix + name,
        text,
        ('model_name',),
        buckets=buckets,
        registry=self.registry,
      )
      for name, text, buckets in _HISTOGRAMS
    }
    self._counters = {
      name: Counter(
        prefix + name, text, ('model_name', *more), registry=self.registry
      )
      for name, text, more in _COUNTERS
    }
    self._rejected = Counter(
      f'{prefix}requests_rejected',
      'requests that got an error',
      ('reason',),
      registry=self.registry,
    )
    for status, _, code, _ in ERRORS:
      self._rejected.labels(code or status)

  def observe(self, name: str, model: str, value: float | int) -> None:
    """Adds a value to a histogram."""
    self._histograms[name].labels(self._label(model)).observe(value)

  def count(self, name: str, model: str, value: int, *labels: str) -> None:
    """Adds to a counter, whose name is given without _total."""
    self._counters[name].labels(self._label(model), *labels).inc(value)

  def reject(self, reason: str) -> None:
    """Counts a request that got an error; reason: its code or its status."""
    self._rejected.labels(reason).inc()

  def open(
    self, models: Mapping[str, str], counts: Callable[[str], Counts]
  ) -> None:
    """Shows all metrics of the models from now on, with zeros at first.

    models: their directories by the names that they are served by, in order.
    counts: the engine's, of a directory, as they are when they are asked for.
    """
    first: dict[str, str] = {}
    for name, root in models.items():
      self._labels[name] = first.setdefault(root, name)
    for label in first.values():
      for histogram in self._histograms.values():
        histogram.labels(label)
      for name, _, more in _COUNTERS:
        for reason in _ENDS if more else ((),):
          self._counters[name].labels(label, *reason)
    self.registry.register(_EngineCounts(self._prefix, first, counts))

  def _label(self, model: str) -> str:
    return self._labels.get(model, model)

  def text(self) -> bytes:
    """What /metrics sends."""
    return generate_latest(self.registry)


def metrics_route(metrics: Metrics) -> Route:
  """The path /metrics."""

  def send(request: Request) -> Response:
    return Response(
      metrics.text(), headers={'content-type': CONTENT_TYPE_LATEST}
    )

  return Route('/metrics', send)


class _EngineCounts:
  """A collector of the engine's gauges and counters.

  labels: of the models, by their directories.
  """

  def __init__(
    self,
    prefix: str,
    labels: Mapping[str, str],
    counts: Callable[[str], Counts],
  ):
    self._prefix, self._labels, self._counts = prefix, labels, counts

  def collect(self) -> Iterator[Metric]:
    families: dict[str, Any] = {}
    for i, (root, label) in enumerate(self._labels.items()):
      for kind, name, text, value in self._told(self._counts(root)):
        if i and name == 'compiles':  # of the first model are those of all
          continue
        if name not in families:
          families[name] = kind(
            self._prefix + name, text, labels=('model_name',)
          )
        families[name].add_metric((label,), value)
    yield from families.values()

  def _told(self, now: Counts) -> Iterator[tuple[Any, str, str, float]]:
    """(kind, name, what it is, value) of each metric of a model."""
    used = now.slots_used / now.slots if now.slots else 0.0
    rows = now.step_rows / now.steps if now.steps else 0.0
    gauges: tuple[tuple[str, str, Any], ...] = (
      ('num_requests_running', 'rows that are being answered', now.running),
      ('num_requests_waiting', 'rows in the queue', now.waiting),
      ('kv_cache_usage_perc', 'slots in use, 1 is all', used),
      ('batch_rows', 'rows in a step, on the average', rows),
    )
    counters: tuple[tuple[str, str, int], ...] = (
      ('prefix_cache_queries', 'prompts', now.prompts_asked),
      ('prefix_cache_hits', 'prompts that were known', now.prompts_known),
      ('image_cache_queries', 'images', now.images_asked),
      ('image_cache_hits', 'images that were known', now.images_known),
      ('compiles', 'programs compiled', now.programs),
    )
    kinds = ((GaugeMetricFamily, gauges), (CounterMetricFamily, counters))
    for kind, found in kinds:
      for name, text, value in found:
        yield kind, name, text, value

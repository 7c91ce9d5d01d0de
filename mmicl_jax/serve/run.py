"""Runs the server: it listens at once, and loads its models meanwhile."""

import asyncio
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping

import prometheus_client
from starlette.types import ASGIApp

from mmicl_jax.decoding.options import Options
from mmicl_jax.errors import explained
from mmicl_jax.inference.predictor import Predictor
from mmicl_jax.serve.app import make_app
from mmicl_jax.serve.examples import examples_route
from mmicl_jax.serve.health import Health, health_routes
from mmicl_jax.serve.logs import log_to_stderr, logger
from mmicl_jax.serve.metrics import metrics_route
from mmicl_jax.serve.paths import prompt_routes
from mmicl_jax.serve.scheduler import Scheduler
from mmicl_jax.serve.server import DrainingServer, uvicorn_config
from mmicl_jax.serve.service import ServedModel, Service
from mmicl_jax.serve.settings import Settings

ENGINE_DIED = 1  # the exit status then; 0 is for SIGTERM, 2 for mistakes
LOOPBACK = ('127.0.0.1', 'localhost', '::1')

Load = Callable[[str], Predictor]


def serve_checkpoints(
  settings: Settings, checkpoints: Mapping[str, str], load: Load
) -> None:
  """Serves checkpoints, given by the names they are served by, until SIGTERM.

  load: makes a Predictor of a checkpoint. Raises UserError for a port that
  cannot be listened on, and what `load` raises. An engine that has died ends
  the process with the exit status ENGINE_DIED.
  """
  log_to_stderr()
  listening = _listening(settings.host, settings.port)
  service = Service(settings)
  server = service_server(service)
  failures: list[BaseException] = []

  def open_models() -> None:
    try:
      load_models(service, checkpoints, load)
    except BaseException as error:  # told by the main thread
      failures.append(error)
      server.end()

  loading = threading.Thread(target=open_models, name='mmicl-load', daemon=True)
  loading.start()
  if settings.metrics_port is not None:
    prometheus_client.start_http_server(
      settings.metrics_port, settings.host, service.metrics.registry
    )
  shown = f'[{settings.host}]' if ':' in settings.host else settings.host
  logger.info('listening on http://%s:%d', shown, listening.getsockname()[1])
  if settings.host not in LOOPBACK and not settings.api_keys:
    logger.warning('whoever reaches this port may ask: give --api-key KEY')
  asyncio.run(server.serve([listening]))
  service.close()
  if failures:
    raise failures[0]
  logger.info('ended')
  if service.health() is Health.DEAD:
    # As below: nobody knows what the device does.
    sys.stderr.flush()
    os._exit(ENGINE_DIED)
  if loading.is_alive() or not service.ends_within(1.0):
    # The interpreter must not be taken away from under a thread in XLA.
    sys.stderr.flush()
    os._exit(0)


def service_server(service: Service) -> DrainingServer:
  """The uvicorn server of all paths, which drains the service at its end."""
  settings = service.settings
  return DrainingServer(
    uvicorn_config(service_app(service), settings.host, settings.port),
    service.drain,
    lambda: service.is_idle,
    settings.shutdown_timeout,
    lambda: service.health() is Health.DEAD,
  )


def service_app(service: Service) -> ASGIApp:
  """The application of all paths."""
  routes = [
    *health_routes(service.health),
    *prompt_routes(service),
    examples_route(lambda: {m.name: m.root for m in service.models.values()}),
  ]
  if service.settings.metrics_port is None:
    routes.append(metrics_route(service.metrics))
  return make_app(service.settings, routes, service.metrics.reject)


def load_models(
  service: Service, checkpoints: Mapping[str, str], load: Load
) -> None:
  """Loads the models and starts the engine, whose thread warms up first."""
  begun = time.monotonic()
  loaded: dict[str, Predictor] = {}  # a directory may have several names
  models = {}
  for name, directory in checkpoints.items():
    if directory not in loaded:
      predictor = loaded[directory] = load(directory)
      # Now, since it may have to read all weights.
      logger.info('%s loaded, digest %s', name, predictor.digest)
      _ = predictor.tokenizer  # without one no prompt can be made
    models[name] = ServedModel(
      name, directory, loaded[directory], int(time.time())
    )
  settings = service.settings
  scheduler = Scheduler(
    loaded,
    max_new_tokens=settings.max_tokens,
    max_queue=settings.max_queue,
    searches=warm_searches(settings),
  )
  logger.info('compiling all programs: a minute or two a model on a CPU')
  scheduler.start()
  service.open(models, scheduler)
  while service.health() is Health.WARMING:
    time.sleep(0.1)
  seconds = time.monotonic() - begun
  logger.info('%s after %.1f s', service.health().value, seconds)


def warm_searches(settings: Settings) -> list[Options]:
  """The beam searches whose programs are compiled before the start."""
  if settings.beams == 1:
    return []
  return [Options(num_beams=settings.beams, max_new_tokens=settings.max_tokens)]


def _listening(host: str, port: int) -> socket.socket:
  family = socket.AF_INET6 if ':' in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=2048)
  except (OSError, OverflowError) as error:
    raise explained(
      error,
      f'port {port} of {host}',
      'choose others with --port and --host',
      'cannot be listened on',
    ) from error

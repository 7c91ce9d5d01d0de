"""How the server is run: what the flags of `mmicl serve` say."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Settings:
  """The settings of the HTTP side; those of the models are elsewhere.

  host, port: where it listens. api_keys: none means that no key is wanted.
  allowed_hosts: names beside localhost for the header Host. cors_origins: pages
  of other servers that may ask. media_domains: servers that images may be
  fetched from. max_queue: choices that may wait besides those being answered;
  None: 4 * rows. beams: of the searches that are compiled before the start; 1
  means none. Seconds: request_timeout in the queue, body_timeout until a body
  has arrived, shutdown_timeout after SIGTERM. max_body, max_image and
  decoded_bytes: bytes of a request, of an image file, and of all images that
  are being decoded. max_pixels: of an image. body_budget: bytes of all bodies
  that are held.
  """

  host: str = '127.0.0.1'
  port: int = 8000
  api_keys: tuple[str, ...] = ()
  allowed_hosts: tuple[str, ...] = ()
  cors_origins: tuple[str, ...] = ()
  media_domains: tuple[str, ...] = ()
  http_media: bool = False
  max_queue: int | None = None
  max_tokens: int = 64
  beams: int = 1
  request_timeout: float = 120.0
  body_timeout: float = 60.0
  shutdown_timeout: float = 30.0
  max_body: int = 64 << 20
  max_image: int = 10 << 20
  max_pixels: int = 40_000_000
  body_budget: int = 512 << 20
  decoded_bytes: int = 1 << 30
  metrics_prefix: str = 'mmicl_'
  metrics_port: int | None = None
  log_prompts: bool = False

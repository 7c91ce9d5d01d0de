"""Frames of a video, uniformly from its inside, by PyAV."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

from PIL import Image

from mmicl_jax.data.build.items import Bad
from mmicl_jax.errors import UserError

# The share of what its header tells that a whole file has; some lie a little.
_WHOLE = 0.9


def pyav() -> Any:
  """PyAV. Raises UserError if it is not installed."""
  try:
    import av
  except ImportError as error:
    raise UserError(
      "videos need PyAV: pip install 'mmicl_jax[video]' (or av)"
    ) from error
  return av


def frames(path: str, count: int) -> Iterator[Image.Image]:
  """The `count` frames at the times duration x i / (count + 1), i = 1..count.

  Each is the last frame that is shown at or before its time, and no frame comes
  twice. A file is decoded from its beginning: AVI cannot seek, and WebM does
  not know its number of frames. Raises Bad if the video cannot be decoded, or
  has too few frames.
  """
  av = pyav()
  try:
    times, duration = _timed(av, path)
    if len(times) < count:
      raise Bad('broken_video')
    chosen = _chosen(times, duration, count)
    wanted, found = set(chosen), {}
    with av.open(path) as container:
      for i, frame in enumerate(container.decode(video=0)):
        if i in wanted:
          found[i] = frame.to_image()
          if len(found) == len(wanted):
            break
    if len(found) < len(wanted):
      raise Bad('broken_video')
  except (
    av.error.FFmpegError,
    OSError,
    ValueError,
    IndexError,
    EOFError,
  ) as error:
    raise Bad('broken_video') from error
  return iter([found[i] for i in chosen])


def _timed(av, path: str) -> tuple[list[float], float]:
  """When each frame is shown, in seconds from the first one, and how long the
  video lasts. Raises Bad for a file that was cut off."""
  times: list[float] = []
  with av.open(path) as container:
    stream = container.streams.video[0]
    rate, told = stream.average_rate, container.duration or 0
    alone = len(container.streams) == 1
    counted = stream.frames if container.format.name == 'avi' else 0
    for i, frame in enumerate(container.decode(video=0)):
      time = frame.time
      if time is None:
        time = i / float(rate) if rate else float(i)
      times.append(time)
  if not times or len(times) <= _WHOLE * counted:
    raise Bad('broken_video')
  times.sort()
  times = [time - times[0] for time in times]
  step = times[-1] / (len(times) - 1) if len(times) > 1 else 1.0
  shown, told = times[-1] + step, told / av.time_base
  if alone and shown < _WHOLE * told:
    raise Bad('broken_video')
  # A stream of sound may be longer than the pictures, and a header may lie.
  return times, min(told, shown) if told > 0.5 * shown else shown


def _chosen(times: list[float], duration: float, count: int) -> list[int]:
  """Indices of the frames, strictly ascending."""
  chosen: list[int] = []
  for i in range(1, count + 1):
    at = duration * i / (count + 1)
    index = max(bisect_right(times, at + 1e-6) - 1, 0)
    first = chosen[-1] + 1 if chosen else 0
    last = len(times) - (count - i) - 1  # leave room for those that follow
    chosen.append(min(max(index, first), last))
  return chosen

"""Frames of a video, uniformly from its inside, by PyAV."""

from bisect import bisect_right
from collections.abc import Iterator

from PIL import Image

from mmicl_jax.data.build.items import Bad
from mmicl_jax.errors import UserError


def frames(path: str, count: int) -> Iterator[Image.Image]:
  """The `count` frames at the times duration x i / (count + 1), i = 1..count.

  Each is the last frame that is shown at or before its time, and no frame comes
  twice. A file is decoded from its beginning: AVI cannot seek, and WebM does
  not know its number of frames. Raises Bad if the video cannot be decoded, or
  has too few frames; UserError without PyAV.
  """
  try:
    import av
  except ImportError as error:
    raise UserError(
      "videos need PyAV: pip install 'mmicl_jax[video]' (or av)"
    ) from error

  try:
    times = _times(av, path)
    if len(times) < count:
      raise Bad('broken_video')
    chosen = _chosen(times, _duration(av, path, times), count)
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


def _times(av, path: str) -> list[float]:
  """When each frame is shown, in seconds from the first one."""
  times: list[float] = []
  with av.open(path) as container:
    rate = container.streams.video[0].average_rate
    for i, frame in enumerate(container.decode(video=0)):
      time = frame.time
      if time is None:
        time = i / float(rate) if rate else float(i)
      times.append(time)
  if not times:
    raise Bad('broken_video')
  times.sort()
  return [time - times[0] for time in times]


def _duration(av, path: str, times: list[float]) -> float:
  """In seconds: the container's, unless its frames say otherwise."""
  step = times[-1] / (len(times) - 1) if len(times) > 1 else 1.0
  shown = times[-1] + step
  with av.open(path) as container:
    told = container.duration
  if told is None or told <= 0:
    return shown
  told = told / av.time_base
  # A stream of sound may be longer than the pictures, and a header may lie.
  return min(told, shown) if told > 0.5 * shown else shown


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

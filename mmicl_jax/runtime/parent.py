"""Worker processes that end with the process that started them."""

import multiprocessing
import os
import threading


def end_with_parent(*told: int) -> None:
  """Ends a worker when its parent dies, for which it would wait for ever.

  told: what pools say to a worker that starts; nothing of it matters.
  """
  del told
  parent = multiprocessing.parent_process()

  def watch() -> None:
    if parent is not None:
      parent.join()
      os._exit(1)

  threading.Thread(target=watch, daemon=True).start()

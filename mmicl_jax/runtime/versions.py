"""Which release of a package is installed."""

import importlib.metadata


def version(package: str) -> str | None:
  """The installed version of a package, or None."""
  try:
    return importlib.metadata.version(package)
  except importlib.metadata.PackageNotFoundError:
    return None

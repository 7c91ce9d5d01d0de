"""The version of the package: in setup.py, and repeated where others read it.

python tools/release.py              prints the version
python tools/release.py --set 0.3.0  writes it, and a section of the changelog
python tools/release.py --tag v0.3.0 prints that section; exits with 1 if the
                                     tag is not the version, or it has none, or
                                     if pages do not say where the repository is
"""

import argparse
import datetime
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Where the version stands: the first is read, the others repeat it.
PLACES = {
  'setup.py': r"(?<=\n  version=')[^']*(?=',\n)",
  'CITATION.cff': r'(?<=\nversion: ).*(?=\n)',
}
UNRELEASED = '## [Unreleased]\n'
# Stands for the owner of the repository: RELEASING.md.
_NOBODY = re.compile(rb'github(\.com)?/OWNER/')
_PAGES = ('*.md', 'docs/*.md', 'notebooks/*')


def read(name: str, root: Path = ROOT) -> str:
  return (root / name).read_text(encoding='utf-8')


def version(name: str = 'setup.py', root: Path = ROOT) -> str:
  """The version that a file of PLACES says."""
  [found] = re.findall(PLACES[name], read(name, root))
  return found


def section(wanted: str, root: Path = ROOT) -> str | None:
  """What the changelog says of a version, without its heading."""
  pattern = rf'^## \[{re.escape(wanted)}\][^\n]*\n(.*?)(?=^## |\Z)'
  found = re.search(pattern, read('CHANGELOG.md', root), re.M | re.S)
  return found[1].strip() if found else None


def without_owner(root: Path = ROOT) -> list[str]:
  """The files that name the repository as if nobody owned it."""
  paths = {path for pattern in _PAGES for path in root.glob(pattern)}
  files = sorted(path for path in paths if path.is_file())
  found = [path for path in files if _NOBODY.search(path.read_bytes())]
  return [str(path.relative_to(root)) for path in found]


def set_version(new: str, today: datetime.date, root: Path = ROOT) -> None:
  """Writes a version to all places; what is unreleased becomes its section.

  Raises SystemExit if it is none, or if there is nothing to release.
  """
  if not re.fullmatch(r'\d+\.\d+\.\d+((a|b|rc)\d+)?', new):
    sys.exit(f'{new} is not a version: give one as 0.3.0')
  if section(new, root) is not None:
    sys.exit(f'CHANGELOG.md has a section of {new} already')
  if not section('Unreleased', root):
    sys.exit('CHANGELOG.md has nothing under [Unreleased]')
  for name, pattern in PLACES.items():
    text, count = re.subn(pattern, new, read(name, root))
    assert count == 1, name
    (root / name).write_text(text, encoding='utf-8')
  log = read('CHANGELOG.md', root)
  log = log.replace(UNRELEASED, f'{UNRELEASED}\n## [{new}] - {today}\n', 1)
  (root / 'CHANGELOG.md').write_text(log, encoding='utf-8')


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--set', metavar='VERSION', help='write this version')
  parser.add_argument('--tag', help='check a tag, print its section')
  args = parser.parse_args()
  if args.set is not None:
    set_version(args.set, datetime.date.today())
  elif args.tag is not None:
    notes = section(version())
    if args.tag != f'v{version()}' or not notes:
      sys.exit(f'{args.tag}: setup.py says {version()}, with its section')
    if pages := without_owner():
      sys.exit(
        f'OWNER is nobody, in {", ".join(pages)}: see RELEASING.md, Once'
      )
    print(notes)
    return 0
  print(version())
  return 0


if __name__ == '__main__':
  sys.exit(main())

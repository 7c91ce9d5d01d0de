"""Looks for links of the Markdown pages that lead nowhere.

  python tools/links.py             files and headings of this repository
  python tools/links.py --external  other people's pages, too

Prints each broken link with its file and line; exits with 1 if there is one.
"""

import argparse
import concurrent.futures
import functools
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r'(?<!`)\[[^\]\[]*\]\(([^()\s]+)\)')
# Servers that answer programs otherwise than people, though the page is there.
_GONE = (404, 410)


def pages(root: Path = ROOT) -> list[Path]:
  """The Markdown files of the repository and its docs."""
  found = [*root.glob('*.md'), *(root / 'docs').rglob('*.md')]
  return sorted(found)


def links(page: Path) -> Iterator[tuple[int, str]]:
  """(line, target) of a page's links outside of code blocks."""
  inside = False
  for number, line in enumerate(page.read_text('utf-8').splitlines(), 1):
    if line.lstrip().startswith('```'):
      inside = not inside
    elif not inside:
      for target in _LINK.findall(line):
        yield number, target


@functools.cache
def anchors(page: Path) -> set[str]:
  """The names of a page's headings, as GitHub makes them."""
  found: set[str] = set()
  for title in re.findall(r'^#+ (.+)$', page.read_text('utf-8'), re.M):
    plain = re.sub(r'[^\w\- ]', '', title.lower())
    found.add(plain.strip().replace(' ', '-'))
  return found


def broken_here(page: Path, target: str) -> bool:
  """Whether a link to a file of the repository leads nowhere."""
  name, _, anchor = target.partition('#')
  place = (page.parent / name).resolve() if name else page
  if not place.exists():
    return True
  return bool(anchor) and place.suffix == '.md' and anchor not in anchors(place)


def broken_elsewhere(url: str) -> bool:
  """Whether a page of somebody else is gone, or cannot be reached."""
  request = urllib.request.Request(url, headers={'User-Agent': 'Mozilla/5.0'})
  for _ in range(2):
    try:
      with urllib.request.urlopen(request, timeout=30):
        return False
    except urllib.error.HTTPError as error:
      return error.code in _GONE
    except OSError:
      continue
  return True


def broken(external: bool, root: Path = ROOT) -> list[str]:
  """Each broken link, as 'FILE:LINE: TARGET'."""
  found, urls = [], {}
  for page in pages(root):
    for number, target in links(page):
      where = f'{page.relative_to(root)}:{number}: {target}'
      if target.startswith(('http://', 'https://')):
        urls.setdefault(target.partition('#')[0], where)
      elif not target.startswith('mailto:') and broken_here(page, target):
        found.append(where)
  if external:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      gone = pool.map(broken_elsewhere, urls)
      found += [w for w, bad in zip(urls.values(), gone, strict=True) if bad]
  return found


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--external', action='store_true')
  found = broken(parser.parse_args().external)
  print('\n'.join(found) or 'all links lead somewhere')
  return int(bool(found))


if __name__ == '__main__':
  sys.exit(main())

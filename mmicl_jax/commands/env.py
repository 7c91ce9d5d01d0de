"""`mmicl env`: what an issue report needs to say about a machine."""

import argparse
from typing import Any

from mmicl_jax.runtime import show
from mmicl_jax.runtime.environment import environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--json', action='store_true', help='print JSON')
  parser.epilog = 'example:\n  mmicl env\n  mmicl env --json'


def main(args: argparse.Namespace) -> int:
  found = environment()
  if args.json:
    show.print_json(found)
  else:
    print('\n'.join(_lines(found)))
  return 0


def _lines(found: dict[str, Any]) -> list[str]:
  ours, jax = found['mmicl_jax'], found['jax']
  memory = {n: f'{x / 2**30:.1f} GiB' for n, x in found['memory'].items()}
  lines = [
    f'mmicl_jax {ours["version"]} in {ours["folder"]}',
    f'Python    {found["python"]}',
    f'system    {found["system"]}',
    f'CPU       {found["cpu"]["model"]}, {found["cpu"]["cores"]} cores',
    f'memory    {", ".join(f"{x} {n}" for n, x in memory.items())}',
    f'JAX       backend {jax["backend"]}, {jax["processes"]} process(es), '
    f'compilation cache {jax["compilation_cache"] or "off"}',
  ]
  for device in jax['devices']:
    limit = device['memory']
    room = '' if limit is None else f', {limit / 2**30:.1f} GiB'
    lines.append(f'device    {device["id"]}: {device["kind"]}{room}')
  for title in ('packages', 'variables'):
    lines += ['', f'{title}:' + (' none' if not found[title] else '')]
    lines += [f'  {name} {value}' for name, value in found[title].items()]
  return lines

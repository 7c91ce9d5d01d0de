"""What deploy/ says: documents, containers, and commands of mmicl."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import build_deps
import yaml

ROOT = build_deps.ROOT
DEPLOY = ROOT / 'deploy'
# Variables that Slurm and the user set for the scripts.
SLURM = {
  'DATA': 'train.jsonl',
  'MODEL_DIR': 'runs/xl',
  'CHECKPOINT': 'model',
  'INPUT': 'test.jsonl',
  'SLURM_NTASKS': '16',
  'SLURM_ARRAY_TASK_ID': '3',
  'SLURM_ARRAY_TASK_COUNT': '4',
}


def documents(path):
  """The documents of a YAML file in deploy/."""
  text = (DEPLOY / path).read_text(encoding='utf-8')
  return [found for found in yaml.safe_load_all(text) if found]


def document(path, kind):
  [found] = [d for d in documents(path) if d['kind'] == kind]
  return found


def nodes(value):
  """All mappings inside a document, itself included."""
  if isinstance(value, dict):
    yield value
    value = list(value.values())
  if isinstance(value, list):
    for each in value:
      yield from nodes(each)


def yaml_files():
  return sorted(str(p.relative_to(DEPLOY)) for p in DEPLOY.rglob('*.yaml'))


def in_yaml(path):
  """The arguments of `mmicl` in a file's containers and Ray entrypoints."""
  for document in documents(path):
    for node in nodes(document):
      given = node.get('args') or node.get('command')
      if 'image' in node and isinstance(given, list) and given[0] != 'ray':
        # As the kubelet does for the variables that a Job brings.
        yield [a.replace('$(JOB_COMPLETION_INDEX)', '3') for a in given]
      if 'entrypoint' in node:
        program, *argv = shlex.split(node['entrypoint'])
        assert program == 'mmicl', path
        yield argv


def dockerfile():
  """(instruction, value) of deploy/Dockerfile, with lines put together."""
  text = (DEPLOY / 'Dockerfile').read_text(encoding='utf-8')
  text = re.sub(r'^#.*\n', '', text, flags=re.M).replace('\\\n', ' ')
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return [tuple(line.split(None, 1)) for line in lines]


def stage(name):
  """The instructions of one stage."""
  found, inside = [], False
  for instruction, value in dockerfile():
    if instruction == 'FROM':
      inside = value.endswith(f' AS {name}')
    if inside:
      found.append((instruction, value))
  assert found, name
  return found


def docker_command(name):
  [command] = [json.loads(v) for i, v in stage(name) if i == 'CMD']
  return command


def in_comments(path):
  """`mmicl` commands that a file's comments show."""
  for line in (DEPLOY / path).read_text(encoding='utf-8').splitlines():
    for found in re.findall(r"(?:^#   |--wrap ')mmicl ([^']*)", line):
      yield shlex.split(found)


def run_script(path, folder, programs, *argv, **variables):
  """Runs a script of Slurm's with programs in place of srun and mmicl.

  programs: {name: its text in bash}. Returns the completed process.
  """
  folder.mkdir(exist_ok=True)
  for name, text in programs.items():
    place = folder / name
    place.write_text(f'#!/bin/bash\n{text}\n')
    place.chmod(0o755)
  env = {k: v for k, v in os.environ.items() if not k.startswith('SLURM_')}
  env |= {'PATH': f'{folder}:{env["PATH"]}', **variables}
  return subprocess.run(
    ['bash', DEPLOY / path, *argv], env=env, capture_output=True, text=True
  )


def in_script(path, folder: Path, **variables):
  """The arguments that a script of Slurm's hands to `mmicl`."""
  say = f'exec {sys.executable} -c "import json, sys; '
  say += 'print(json.dumps(sys.argv[1:]))" "$@"'
  run = 'while [ "$1" != mmicl ]; do shift; done; exec "$@"'
  variables = {**SLURM, 'OUT': str(folder / 'parts'), **variables}
  found = run_script(path, folder, {'srun': run, 'mmicl': say}, **variables)
  assert found.returncode == 0, found.stderr
  return json.loads(found.stdout)


def sbatch(path):
  """The options that a script asks Slurm for."""
  text = (DEPLOY / path).read_text(encoding='utf-8')
  return dict(
    found.partition('=')[::2]
    for found in re.findall(r'^#SBATCH --(\S+)', text, re.M)
  )

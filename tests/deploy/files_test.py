"""The files of deploy/ ask for what the code has, and fit together."""

import json
import math
import re
import subprocess

import deploy_files
import pytest
import yaml
from deploy_files import DEPLOY, ROOT, document
from packaging.specifiers import SpecifierSet

from mmicl_jax.__main__ import parse
from mmicl_jax.commands import serve
from mmicl_jax.commands.model_arguments import parse_shard
from mmicl_jax.configure import gin_files
from mmicl_jax.inference import on_ray
from mmicl_jax.serve.health import Health, health_routes
from mmicl_jax.serve.hosts import HostCheck
from mmicl_jax.serve.jobs import Counts
from mmicl_jax.serve.metrics import Metrics

SERVER = 'kubernetes/server.yaml'
JOBSET = 'kubernetes/jobset-train.yaml'
SHARDS = 'kubernetes/generate-shards.yaml'
SCRIPTS = sorted(p.relative_to(DEPLOY) for p in DEPLOY.rglob('*.sbatch'))


def arguments(argv):
  """argparse's reading; a wrong argument ends the test."""
  try:
    return parse(argv)
  except SystemExit as error:
    raise AssertionError(argv) from error


def trains(argv):
  """Its arguments and its mesh's size; gin files are read as a run does.

  It has checkpoints on the way, from which it goes on as the pages promise.
  """
  args = arguments(argv)
  with gin_files.apart():
    gin_files.parse_gin(args.gin_file, args.gin_binding)
    query = gin_files.gin.query_parameter
    assert query('SAVE_EVERY/macro.value') < query('TRAIN_STEPS/macro.value')
    names = ('data', 'fsdp', 'tensor')
    mesh = 'mmicl_jax.models.partitioning.make_mesh'
    return args, math.prod(query(f'{mesh}.{n}') for n in names)


@pytest.mark.parametrize('path', deploy_files.yaml_files())
def test_commands_in_yaml_are_commands(path):
  found = [*deploy_files.in_yaml(path)]
  assert found, path
  for argv in (*found, *deploy_files.in_comments(path)):
    if arguments(argv).command == 'train':
      trains(argv)


@pytest.mark.parametrize('path', SCRIPTS, ids=str)
def test_scripts_of_slurm_call_commands(path, tmp_path):
  subprocess.run(['bash', '-n', DEPLOY / path], check=True)
  argv = deploy_files.in_script(path, tmp_path)
  args = arguments(argv)
  for shown in deploy_files.in_comments(path):
    arguments(shown)
  asked = deploy_files.sbatch(path)
  if args.command == 'train':
    processes = int(asked['nodes']) * int(asked['ntasks-per-node'])
    assert str(processes) == deploy_files.SLURM['SLURM_NTASKS']
    assert asked['ntasks-per-node'] == asked['gpus-per-node']
    _, devices = trains(argv)
    assert args.multihost and devices == processes
    assert asked['signal'].startswith('TERM@')
  else:
    first, last = asked['array'].split('-')
    count = int(last) + 1
    assert first == '0' and parse_shard(args.shard) == (3, count)
    # One job given anew knows how many there were.
    alone = {'SLURM_ARRAY_TASK_COUNT': '1', 'SHARDS': '4'}
    again = deploy_files.in_script(path, tmp_path, **alone)
    assert again == argv


def test_a_slice_has_its_hosts_and_the_mesh_its_chips():
  job = document(JOBSET, 'JobSet')['spec']['replicatedJobs'][0]
  spec = job['template']['spec']
  pod = spec['template']['spec']
  topology = pod['nodeSelector']['cloud.google.com/gke-tpu-topology']
  chips = math.prod(map(int, topology.split('x')))
  [container] = pod['containers']
  assert container['resources']['limits'] == container['resources']['requests']
  per_host = container['resources']['limits']['google.com/tpu']
  assert spec['parallelism'] == spec['completions'] == chips // per_host
  args, devices = trains(container['args'])
  assert args.multihost and devices == chips * job['replicas']
  assert spec['backoffLimit'] == 0 and pod['restartPolicy'] == 'Never'
  binding = next(b for b in args.gin_binding if b.startswith('MODEL_DIR'))
  assert "'gs://" in binding  # what several hosts can write


def test_every_pod_of_an_indexed_job_has_a_shard():
  spec = document(SHARDS, 'Job')['spec']
  [argv] = deploy_files.in_yaml(SHARDS)
  _, count = parse_shard(arguments(argv).shard)
  assert spec['completions'] == spec['parallelism'] == count
  assert spec['completionMode'] == 'Indexed'


def test_a_ray_cluster_has_room_for_its_actors():
  spec = document('ray/rayjob.yaml', 'RayJob')['spec']
  args = arguments(next(deploy_files.in_yaml('ray/rayjob.yaml')))
  cluster = spec['rayClusterSpec']
  nodes = []
  for group in cluster['workerGroupSpecs']:
    [container] = group['template']['spec']['containers']
    limits = container['resources']['limits']
    nodes += [{'GPU': float(limits['nvidia.com/gpu'])}] * group['replicas']
  needs = on_ray.parse_needs(args.actor_needs)
  assert on_ray.room(nodes, args.actors, needs) == (4, {'GPU': 1})
  # What the head reads and writes, the workers read where it does.
  groups = [cluster['headGroupSpec'], *cluster['workerGroupSpecs']]
  for pod in (group['template']['spec'] for group in groups):
    [container] = pod['containers']
    [mount] = container['volumeMounts']
    for path in (args.checkpoint, args.input, args.output):
      assert path.startswith(f'{mount["mountPath"]}/')
    # The image's user writes what the claim holds.
    assert pod['securityContext']['fsGroup'] == 1000
    assert [v['name'] for v in pod['volumes']] == [mount['name']]
    assert (
      container['image']
      == groups[0]['template']['spec']['containers'][0]['image']
    )


def test_kuberay_finds_what_it_calls_in_the_image():
  """Its probes call wget, and its jobs are handed to Ray's job server."""
  run = next(v for i, v in deploy_files.stage('job') if 'apt-get' in v)
  assert re.search(r'install .*\bwget\b', run)
  setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
  [extras, range_] = re.findall(r"'ray\[([\w,]+)\]([^']*)'", setup)[0]
  assert {'data', 'default'} <= set(extras.split(','))
  cluster = document('ray/rayjob.yaml', 'RayJob')['spec']['rayClusterSpec']
  assert cluster['rayVersion'] in SpecifierSet(range_)


def test_names_of_images_are_valid_and_told():
  """Docker takes lower case only; the page builds each, for one use."""
  page = (ROOT / 'docs/deploy.md').read_text(encoding='utf-8')
  built = dict(re.findall(r'"([\w-]+) (?:serve|job) ([\w,]+)"', page))
  found = {}
  for path in deploy_files.yaml_files():
    text = (DEPLOY / path).read_text(encoding='utf-8')
    for image, extra in re.findall(
      r'image: (?:&\w+ )?(\S+/\S+) .*EXTRA=(\S+)', text
    ):
      [(registry, name)] = re.findall(r'(.+)/([\w-]+):\w+$', image)
      assert image == image.lower() and f'{registry}/' in page, image
      found[name] = extra
  assert found == built and len(built) == 4


def test_the_snippets_of_the_page_serve_under_the_name_that_clients_ask():
  page = (ROOT / 'docs/serving.md').read_text(encoding='utf-8')
  [unit] = re.findall(r'^ExecStart=\S*/mmicl (.*)$', page, re.M)
  [pod] = re.findall(r'```yaml\n(.*?)```', page, re.S)
  [container] = yaml.safe_load(pod)['containers']
  asked = set(re.findall(r"model='(\w+)'", page))
  for argv in (unit.split(), container['args']):
    args = arguments(argv)
    assert args.command == 'serve'
    assert asked == serve.served_names(args.models).keys()


@pytest.fixture
def server():
  """(pod, its container, the arguments) of the Deployment."""
  pod = document(SERVER, 'Deployment')['spec']['template']['spec']
  [container] = pod['containers']
  return pod, container, arguments(container['args'])


def test_probes_ask_paths_that_the_server_has(server):
  _, container, args = server
  paths = {route.path for route in health_routes(lambda: Health.READY)}
  ports = {p['name']: p['containerPort'] for p in container['ports']}
  assert ports == {'http': args.port, 'metrics': args.metrics_port}
  asked = {}
  for name in ('startupProbe', 'readinessProbe', 'livenessProbe'):
    probe = container[name]['httpGet']
    assert probe['path'] in paths and probe['port'] in ports
    asked[name] = probe['path']
  # A server that compiles is alive: only readiness may wait for it.
  assert asked['livenessProbe'] == '/health/live'
  assert asked['readinessProbe'] == asked['startupProbe'] == '/health'
  [endpoint] = document(SERVER, 'PodMonitor')['spec']['podMetricsEndpoints']
  assert endpoint['port'] == 'metrics' and endpoint['path'] == '/metrics'
  [port] = document(SERVER, 'Service')['spec']['ports']
  assert port['targetPort'] == 'http'


def test_a_pod_has_the_time_that_it_needs_to_drain(server):
  pod, container, args = server
  command = container['lifecycle']['preStop']['exec']['command']
  assert command[0] == 'sleep'
  needed = int(command[1]) + args.shutdown_timeout
  assert pod['terminationGracePeriodSeconds'] >= needed + 10


def test_the_names_of_the_service_may_be_asked(server):
  name = document(SERVER, 'Service')['metadata']['name']
  check = HostCheck(lambda: None, server[2].allowed_host)
  for host in (name, f'{name}.default.svc'):
    assert host in check._allowed


def test_selectors_find_the_pods():
  labels = {'app': 'mmicl'}
  deployment = document(SERVER, 'Deployment')['spec']
  assert deployment['template']['metadata']['labels'] == labels
  assert document(SERVER, 'Service')['spec']['selector'] == labels
  for kind in ('PodMonitor', 'PodDisruptionBudget'):
    selector = document(SERVER, kind)['spec']['selector']
    assert selector == {'matchLabels': labels}
  assert deployment['selector'] == {'matchLabels': labels}


def test_the_autoscaler_counts_what_the_server_tells(server):
  scaler = document(SERVER, 'HorizontalPodAutoscaler')['spec']
  deployment = document(SERVER, 'Deployment')
  assert scaler['scaleTargetRef']['name'] == deployment['metadata']['name']
  assert 'replicas' not in deployment['spec']  # two would decide
  metrics = Metrics(server[2].metrics_prefix)
  metrics.open({'mmicl': '/model'}, lambda root: Counts())
  [metric] = scaler['metrics']
  name = metric['pods']['metric']['name']
  assert f'\n{name}{{' in metrics.text().decode()


def test_the_image_serves_as_it_says():
  values = dict(deploy_files.stage('serve'))
  args = arguments(deploy_files.docker_command('serve'))
  assert values['EXPOSE'].split() == [str(args.port), str(args.metrics_port)]
  paths = {route.path for route in health_routes(lambda: Health.READY)}
  [place] = re.findall(r"127\.0\.0\.1:(\d+)([^']*)'", values['HEALTHCHECK'])
  assert place == (str(args.port), '/health/live') and place[1] in paths
  job = dict(deploy_files.stage('job'))
  assert json.loads(job['ENTRYPOINT']) == ['mmicl']
  assert job['USER'] == 'mmicl' and job['STOPSIGNAL'] == 'SIGTERM'


def test_the_image_installs_what_there_is():
  setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
  table = setup[setup.index('EXTRAS = {') :]
  extras = set(re.findall(r"^  '(\w+)':", table, re.M))
  texts = [p.read_text(encoding='utf-8') for p in DEPLOY.rglob('*.*')]
  text = '\n'.join([*texts, (DEPLOY / 'Dockerfile').read_text('utf-8')])
  asked = re.findall(r'\bEXTRA=([a-z][a-z0-9,]*)', text)
  assert len(asked) > 4
  assert {name for each in asked for name in each.split(',') if name} <= extras
  [python] = [
    v.partition('=')[2]
    for i, v in deploy_files.dockerfile()
    if i == 'ARG' and v.startswith('PYTHON=')
  ]
  [range_] = re.findall(r"python_requires='([^']*)'", setup)
  assert python in SpecifierSet(range_)


def test_the_image_is_built_from_all_that_the_wheel_needs():
  lines = (ROOT / '.dockerignore').read_text().splitlines()
  kept = {line[1:] for line in lines if line.startswith('!')}
  assert '*' in lines and all((ROOT / name).exists() for name in kept)
  needed = {'setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE'}
  manifest = (ROOT / 'MANIFEST.in').read_text()
  for line in manifest.splitlines():
    kind, folder, *_ = line.split()
    if kind == 'recursive-include':
      needed.add(folder.split('/')[0])
  assert needed <= kept


def test_compose_runs_the_server_of_the_image():
  service = deploy_files.documents('compose.yaml')[0]['services']['mmicl']
  build = service['build']
  assert (DEPLOY / build['context']).resolve() == ROOT
  assert (ROOT / build['dockerfile']).is_file()
  assert deploy_files.stage(build['target'])
  args = arguments(service['command'])
  assert service['ports'] == [f'127.0.0.1:8000:{args.port}']
  grace = int(service['stop_grace_period'].removesuffix('s'))
  assert grace >= args.shutdown_timeout + 10
  mounted = {
    v.split(':')[-2 if v.endswith(':ro') else -1] for v in service['volumes']
  }
  assert args.checkpoint in mounted and '/cache' in mounted

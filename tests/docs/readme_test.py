"""README.md is short, and leads to files that are there."""

import re

import build_deps

TEXT = (build_deps.ROOT / 'README.md').read_text(encoding='utf-8')


def test_it_is_at_most_200_lines():
  assert TEXT.count('\n') <= 200


def test_each_kind_of_user_has_a_section_with_a_command_and_a_link():
  sections = dict(re.findall(r'^## (.+)\n((?:(?!## ).*\n)*)', TEXT, re.M))
  kinds = 'Ask', 'Fine-tune', 'Evaluate', 'Serve', 'Convert', 'T5X', 'Scale'
  for kind in kinds:
    section = sections[kind]
    assert re.search(r'^```sh\n[^`]*\b(mmicl|t5x)', section, re.M), kind
    assert re.search(r'\]\(docs/[\w/]+\.md', section), kind


def test_a_run_that_is_to_go_on_saves_on_its_way():
  """By default it saves every 1000 steps."""
  for page in ('README.md', 'docs/remote.md', 'notebooks/finetune.md'):
    text = (build_deps.ROOT / page).read_text('utf-8')
    [every] = re.findall(r'SAVE_EVERY=(\d+)', text)
    steps = re.findall(r'TRAIN_STEPS=(\d+)', text)
    assert steps and int(every) < int(steps[0]), page


def test_what_it_links_to_is_there():
  links = re.findall(r'\]\(([^)#]+)', TEXT)
  inside = [link for link in links if '://' not in link]
  assert len(inside) > 15
  for link in inside:
    assert (build_deps.ROOT / link).is_file(), link

"""A small dictionary in the form of WordNet 3.0."""

LICENSE = '  1 WordNet 3.0 Copyright 2006 by Princeton University.  \n'
# Each noun and verb: its senses' numbers, and what is above a sense.
NOUNS = {
  **{'entity': {1: ''}, 'animal': {2: '@1'}, 'dog': {3: '@2', 4: '@1'}},
  **{'mouse': {5: '@2'}, 'place': {6: '@i1'}, 'pug': {7: '@3 @6'}},
  **{'puppy': {8: '@7'}, 'glass': {9: '@1'}, 'glasses': {10: '@1'}},
}
VERBS = {'run': {1: ''}, 'jog': {2: '@1'}, 'think': {3: ''}}


def write_dictionary(folder):
  """The files of a small dictionary."""
  folder.mkdir(parents=True)
  for name, number, words in (('noun', 'n', NOUNS), ('verb', 'v', VERBS)):
    index, data = LICENSE, LICENSE
    for word, senses in words.items():
      offsets = ' '.join(f'{sense:08}' for sense in senses)
      index += (
        f'{word} {number} {len(senses)} 1 @ {len(senses)} 0 {offsets}  \n'
      )
      for sense, above in senses.items():
        pointers = [
          f'{p.rstrip("0123456789")} {int(p.lstrip("@i")):08} {number} 0000'
          for p in above.split()
        ]
        data += f'{sense:08} 03 {number} 01 {word} 0 {len(pointers):03} '
        data += ' '.join([*pointers, '| what it is  \n'])
    (folder / f'index.{name}').write_text(index, newline='\r\n')
    (folder / f'data.{name}').write_text(data, newline='\r\n')
  for name in ('adj', 'adv'):
    (folder / f'index.{name}').write_text(LICENSE)
    (folder / f'data.{name}').write_text(LICENSE)
    (folder / f'{name}.exc').write_text('')
  (folder / 'noun.exc').write_text('mice mouse\n')
  (folder / 'verb.exc').write_text('ran run\n')
  return folder

r"""The rules of the Penn Treebank tokenizer, as far as they decide on tokens.

They describe what Stanford's PTBTokenizer 3.4.1 does with its default options
(longest.py explains the notation). Rules that differ only in where a sentence
ends are one here, since the final period is removed afterwards. The name of a
rule is what becomes of its match; ptb.py has a function for each.
"""

from mmicl_jax.metrics.longest import ScanRule

# Abbreviations keep their period, in any case of letters. Before these a
# longer word wins, as in "dr.who":
_TITLES = (
  'Mr|Mrs|Ms|Drs?|Profs?|Sens?|Reps?|Attys?|Lt|Col|Gen|Messrs|Govs?|Adm|Rev|'
  'Maj|Sgt|Cpl|Pvt|Capt|Ste?|Ave|Pres|Lieut|Hon|Brig|Co?mdr|Pfc|Spc|Supts?|Det|'
  'Mt|Ft|Adj|Adv|Asst|Assoc|Ens|Insp|Mlle|Mme|Msgr|Sfc|Alex|Wm|Jos|vs|cf|Cie|'
  'treas|Ph|a\\.k\\.a|Invt|Elec|Natl|M[ft]g|Dept'
)
# These win when no more than one letter follows, as in "co.u" but not "co.uk".
# Where only one letter is in brackets, that one must be a capital.
_OTHERS = (
  'Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|Mon|Tues?|Wed|Thu|Thurs|Fri|'
  'Ala|Ariz|[A]z|[A]rk|Calif|Colo|Conn|Ct|Dak|[D]el|Fla|Ga|[I]ll|Ind|Kans?|Ky|'
  '[L]a|[M]ass|Md|Mich|Minn|[M]iss|Mo|Mont|Neb|Nev|Okla|[O]re|[P]a|Penn|Tenn|'
  '[T]ex|Va|Vt|[W]ash|Wisc?|Wyo|'
  'Inc|Cos?|Corp|Pp?t[ye]s?|Ltd|Plc|Rt|Bancorp|Bhd|Assn|Univ|Intl|Sys|Bros|Bldg|'
  'Jr|Sr|(Ed|Ph)\\.D|Blvd|Rd|Esq|tel|est|ext|sq|etc|al|seq'
)
# These keep it only before a number.
_NUMBERED = 'ca|figs?|prop|nos?|art|bldg|pp|op'
# After a lone capital these begin a sentence: the period is not the letter's.
_BEGINNINGS = (
  '[A]bout|[A]ccording|[A]dditionally|[A]fter|[A]n|[A]|[A]s|[A]t|[B]ut|'
  '[E]arlier|[H]e|[H]er|[H]ere|[H]owever|[I]f|[I]n|[I]t|[L]ast|[M]any|[M]ore|'
  '[M]r\\.|[M]s\\.|[N]ow|[O]nce|[O]ne|[O]ther|[O]ur|[S]he|[S]ince|[S]o|[S]ome|'
  '[S]uch|[T]hat|[T]he|[T]heir|[T]hen|[T]here|[T]hese|[T]hey|[T]his|[W]e|'
  '[W]hen|[W]hile|[W]hat|[Y]et|[Y]ou'
)

_BLANK = '[ \t\xa0\u2000-\u200a\u3000]'
_LINE_END = '(\r|\r?\n|[\u2028\u2029\x0b\x0c\x85])'
_SPACE = f'({_BLANK}|{_LINE_END})'
_NAME = '[A-Za-z][A-Za-z0-9_:.\\-]*'
_VALUE = '(\'[^\']*\'|"[^"]*")'
_TAG = (
  f'<([!?][A-Za-z\\-][^>\r\n]*|{_NAME}([ ]+({_NAME}|{_NAME}[ ]*=[ ]*{_VALUE}))*'
  f'[ ]*/?|/{_NAME})[ ]*>'
)

_APOS = "(['\x92\u2019]|&apos;)"
_ANY_APOS = f'({_APOS}|[`\x91\u2018\u201b])'
_LETTER = '(\\M|&[aeiouAEIOU](acute|grave|uml);)'
_WORD = f'{_LETTER}({_LETTER}|\\N)*([.!?]{_LETTER}({_LETTER}|\\N)*)*'
_CLITIC = f'{_APOS}([msdMSD]|re|ve|ll)'
_NOT = f'n{_ANY_APOS}t'
_BEFORE_NOT = '[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*'
# Words with an apostrophe that stay whole, many of them borrowed from French.
_WITH_APOS = (
  f'{_APOS}n{_APOS}?|[lLdDjJ]{_APOS}|Dunkin{_APOS}|somethin{_APOS}|ol{_APOS}|'
  f'{_APOS}em|[A-HJ-XZn]{_ANY_APOS}\\L\\L+|{_APOS}[2-9]0s|{_APOS}till?|'
  f'\\L+[aeiouyAEIOUY]{_ANY_APOS}[aeiouA-Z]\\L*|{_APOS}cause|'
  f"cont'd\\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|O{_ANY_APOS}o"
)

_NUMBER = '[-+]?(\\N+|\\N*([.:,\xad\u066b\u066c]\\N+)+)'
_DATE = '\\N{1,2}[-/]\\N{1,2}[-/]\\N{2,4}'
_SMALL = (
  '[\u207a\u207b\u208a\u208b]?'
  '([\u2070\xb9\xb2\xb3\u2074-\u2079]+|[\u2080-\u2089]+)'
)
_FRACTION = '(\\N{1,4}[- \xa0])?\\N{1,4}(\\\\?/|\u2044)\\N{1,4}'
_PHONE = (
  '(\\([0-9]{2,3}\\)[ \xa0]?|(\\+\\+?)?([0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])'
  '[0-9]{3,4}[- \xa0]?[0-9]{3,5}|'
  '((\\+\\+?)?[0-9]{2,4}\\.)?[0-9]{2,4}\\.[0-9]{3,4}\\.[0-9]{3,5}'
)

_URL_END = '[^ \t\n\x0c\r"<>|.!?(){},\\-]'
_URL = f'https?://[^ \t\n\x0c\r"<>|(){{}}]+{_URL_END}'
# The second form's "," to "_" is a range: it leaves out capitals and digits.
_SITE = (
  '(www\\.([^ \t\n\x0c\r"<>|.!?(){},]+\\.)+[a-zA-Z]{2,4}|'
  '([^ \t\n\x0c\r"`\'<>|.!?(){},-_$]+\\.)+(com|net|org|edu))'
  f'(/[^ \t\n\x0c\r"<>|()]+{_URL_END})?'
)
_HOST = '[^ \t\n\x0c\r"<>|(){}.\xa0]+'
_EMAIL = (
  '(&lt;|<)?[a-zA-Z0-9][^ \t\n\x0c\r"<>|()\xa0{}]*@'
  f'({_HOST}\\.)*{_HOST}(&gt;|>)?'
)
_FILE = (
  '(\\M|\\N|&[aeiouAEIOU](acute|grave|uml);)+'
  '(\\.(\\M|\\N|&[aeiouAEIOU](acute|grave|uml);)+)*\\.'
  '(bat|bmp|c|class|cgi|cpp|dll|docx?|exe|gif|gz|h|html?|jar|java|jpe?g|mov|'
  'mp3|pdf|php|pl|png|ppt|ps|py|sql|tar|txt|wav|x|xml|zip)'
)

_ABROAD = (
  '(Canada|Sino|Korean|EU|Japan|non)-U\\.S|U\\.S\\.-(U\\.K|U\\.S\\.S\\.R)'
)
_ACRONYM = f'[A-Za-z](\\.[A-Za-z])*|{_ABROAD}'
_HYPHEN = '[-_\u058a\u2010\u2011]'
_PREFIXED = f'([dDoOlL]{_ANY_APOS}[\\L\\N])?[\\L\\N]+'
_HYPHENATED = f'{_PREFIXED}({_HYPHEN}{_PREFIXED})*'
_ASCII_HYPHENATED = (
  '[A-Za-z0-9][A-Za-z0-9.,\xad]*'
  f'(-([A-Za-z0-9\xad]+|([A-Za-z](\\.[A-Za-z])+|{_ABROAD})\\.))+'
)
_PART = '[A-Za-z0-9]+(-[A-Za-z]+){0,2}'
_SLASHED = f'{_PART}(\\\\?/{_PART}){{1,2}}'
_CAPITALS = '[A-Z]+(([+&]|&amp;)[A-Z]+)+'
_TREEBANK = (
  '-(RRB|LRB|RCB|LCB|RSB|LSB)-|C\\.D\\.s|pro-|anti-|S(&|&amp;)P-500|'
  f'S(&|&amp;)Ls|Cap{_APOS}n|c{_APOS}est'
)

_SMILEY = "[<>]?[:;=][-o*']?[()DPdpO\\\\{@|\\[\\]]"
_EYE = "[-\\^x=~<>']"
_ASIAN_SMILEY = (
  f"{_EYE}_{_EYE}|\\({_EYE}[_.]?{_EYE}\\)|\\([\\^x=~<>']-[\\^x=~<>'`]\\)"
)
_QUOTES = (
  f"{_APOS}|''|[`\u2018\u2019\u201a\u201b\u201c\u201d\x91-\x94\u201e\u201f"
  '\u2039\u203a\xab\xbb]{1,2}'
)
_CURRENCY = (
  '[\xa2-\xa5\x80\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]'
)
_SYMBOL = (
  '[+%&~\\^|\\\\\xa6-\xa9\xac\xae-\xba\xd7\xf7\u0387\u05be\u05c0\u05c3\u05c6'
  '\u05f3\u05f4\u0600-\u0603\u0606-\u060a\u060c\u0614\u061b\u061e\u066a\u066d'
  '\u0703-\u070d\u07f6-\u07f8\u0964\u0965\u0e4f\u1fbd\u2016\u2017\u2020-\u2023'
  '\u2030-\u2038\u203b\u203e-\u2042\u2044\u207a-\u207f\u208a-\u208e'
  '\u2100-\u214f\u2190-\u2bff\u3012\u30fb\uff01-\uff0f\uff1a-\uff20'
  '\uff3b-\uff40\uff5b-\uff65]'
)
_STOPS = '[.\xa1\xbf\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]'
_INSIDE = '[,;:\u3001]'

# Of equally long matches the earlier rule's is taken.
RULES = (
  ScanRule('keep', 'c\\+\\+|[cCfF]#'),
  ScanRule('keep', "cannot|'twas", back=3),
  ScanRule('keep', "'tis|gonna|gotta|lemme|gimme|wanna", back=2),
  ScanRule('keep', _TAG),
  ScanRule('drop', '&(MD|mdash|ndash);|[\x96\x97\u2013-\u2015]'),
  ScanRule('and', '&amp;'),
  ScanRule('keep', '&(HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);'),
  ScanRule('soft', _WORD, _CLITIC),
  ScanRule('soft', _BEFORE_NOT, _NOT),
  ScanRule('soft', _WORD),
  ScanRule('keep', _WITH_APOS),
  ScanRule('keep', f'y{_APOS}', '\\L'),
  ScanRule('keep', f'{_URL}|{_SITE}|{_EMAIL}'),
  ScanRule('keep', f'@[a-zA-Z_][a-zA-Z_0-9]*|#{_LETTER}+'),
  ScanRule('quote', f'{_CLITIC}|{_NOT}', '[^A-Za-z]'),
  ScanRule('keep', _DATE),
  ScanRule('soft', _NUMBER),
  ScanRule('keep', f'{_SMALL}|{_FRACTION}'),
  ScanRule('spell', '[\xbc-\xbe\u2153-\u215e]'),
  ScanRule('and', _TREEBANK),
  ScanRule('keep', f'{_SLASHED}|[A-Z]*\\$|#'),
  ScanRule('spell', _CURRENCY),
  ScanRule('letter', '[A-Za-z]\\.', f'{_SPACE}+({_BEGINNINGS}|{_TAG}){_SPACE}'),
  ScanRule('keep', f'({_NUMBERED})\\.', f'{_SPACE}?\\N'),
  ScanRule('keep', f'({_OTHERS})\\.', '[^][^]'),
  ScanRule('keep', f'({_OTHERS}|{_TITLES}|{_ACRONYM})\\.'),
  ScanRule('keep', _ACRONYM, _SPACE),
  ScanRule('keep', f'{_APOS}[0-9][0-9]', _SPACE),
  ScanRule('keep', _FILE, f'({_SPACE}|[.?!,])'),
  ScanRule('soft', f'{_WORD}\\.', _INSIDE),
  ScanRule('round', _PHONE),
  ScanRule('drop', '"|&quot;'),
  ScanRule('angle', '<|>|&lt;|&gt;'),
  ScanRule('round', _SMILEY, '[^A-Za-z0-9]'),
  ScanRule('round', _ASIAN_SMILEY),
  ScanRule('bracket', '[{}()\\[\\]]'),
  ScanRule('dashes', '-+'),
  ScanRule('drop', '\\.{3,5}|(\\.[ \xa0]){2,4}\\.|[\x85\u2026]'),
  ScanRule('keep', '@+|#+|_+|\\*+|(\\\\\\*){1,3}'),
  ScanRule('keep', f'{_INSIDE}|[?!]+|{_STOPS}|[=/]'),
  ScanRule('soft', f'{_ASCII_HYPHENATED}\\.', _INSIDE),
  ScanRule('soft', _ASCII_HYPHENATED),
  ScanRule('keep', f'{_HYPHENATED}\\.', _INSIDE),
  ScanRule('keep', _HYPHENATED),
  ScanRule('and', f'{_CAPITALS}\\.', _INSIDE),
  ScanRule('and', _CAPITALS),
  ScanRule('drop', "'", '[A-Za-z][^ \t\n\r\xa0]'),
  ScanRule('quote', f'{_CLITIC}|{_NOT}|{_QUOTES}'),
  ScanRule('keep', f'<<|>>|{_SYMBOL}'),
  ScanRule('drop', f'{_BLANK}+|&nbsp;|[^]'),
)

"""The page of all items, with what can be made without a measurement.

``python -m mmworkload.reproducing.page docs/reproduce.md [RESULT ...]`` writes it; results are shown beside.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from mmworkload.files import write_atomic
from mmworkload.reproducing import Reproduction, Sources, items, reproduce
from mmworkload.reproducing.item import MEANING
from mmworkload.reproducing.tables import item_markdown, list_markdown

_HEAD = """\
# Tables and figures of the papers

Written by `python -m mmworkload.reproducing.page docs/reproduce.md`; do not edit it. It shows what can be made without
a GPU; `mmworkload reproduce D4 --measured result/` (a folder of `mmworkload measure -o`) puts measured figures beside.

```console
$ mmworkload reproduce                    # what there is, and what it needs
$ mmworkload reproduce D4                 # one item
$ mmworkload reproduce all -o figures/    # every item as Markdown and CSV
```

The papers are CAL 2022 (Hou et al., *Characterizing and Understanding End-to-End Multi-modal Neural Networks on
GPUs*), MMBench (Xu et al., IISWC 2023), across-stack profiling (Li et al., poster, SC 2019), the generation paper (Lee
et al., arXiv 2410.00215) and MMExit (Hou et al., Euro-Par 2023). What a paper says, and where figures here are from:
"""

_JSON = """\
## JSON

`reproduce --json` prints a list of objects: `id`, `paper`, `figure`, `shows`, `bases` (how its figures are made) and
`needs` (what all of it takes). `reproduce ID --json` prints one object, `reproduce all --json` a list of them:
the fields above, and

| field | type | meaning |
|---|---|---|
| `schema_version` | integer | 2 |
| `platform` | string | what the paper's figures were made on |
| `headlines` | array | what the paper states, see below |
| `tables` | array | `title`, `basis`, `on`, `columns` (`name`, `unit`), `rows` by column name, `notes` |
| `differs` | string | why ours need not be equal |
| `missing` | array | what could not be made: `basis` (empty where nothing here can) and `needs` |

A headline has `key`, `text`, `value` (null where the paper gives no number), `unit`, `source`, `status` (`published` or
`script`) and `ours`, our figures: each `value`, `what` it is of, `basis` (`exact`, `modelled` or `measured`) and `on`
(the graph, a GPU or the measured device).

A `unit` is empty for text; `number` and `count` have none; `share` is a part of one.
"""


def page(found: Sequence[Reproduction]) -> str:
    """The whole page as Markdown."""
    words = "".join(f"- *{word}*: {text}\n" for word, text in MEANING.items())
    return "\n".join([_HEAD, words, list_markdown(one.item for one in found) + "\n", *map(item_markdown, found), _JSON])


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reproduce.md")
    sources = Sources(sys.argv[2:])
    write_atomic(target, page([reproduce(item, sources=sources) for item in items()]))
    print(target)

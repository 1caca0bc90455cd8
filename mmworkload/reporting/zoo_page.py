"""The page of all workloads, from what they declare and from their snapshots.

``python -m mmworkload.reporting.zoo_page docs/workloads.md`` writes it; it needs no torch.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mmworkload.files import write_atomic
from mmworkload.generation.levers import LEVERS
from mmworkload.graph import StageTotals
from mmworkload.models import Family, Parameter, Variant, families
from mmworkload.reporting.about import input_in_words, setting_in_words
from mmworkload.reporting.markdown import literal, table
from mmworkload.reporting.sizes import Sizes, sizes_of
from mmworkload.reporting.units import GAP, plural, si
from mmworkload.straggler import in_order

_HEAD = """# Workloads

Written by `python -m mmworkload.reporting.zoo_page docs/workloads.md` from the workloads' own declarations and from the
graphs in `shapes/`; do not edit it. Sizes are those of one forward pass at the workload's batch and parameters as they
are by default. Multiply-accumulates (MACs) and parameters are counted as [numbers.md](numbers.md) says. What two stages
share of the parameters is in both and counts once in the total.

A *stand-in* is a part that is not the source's own. `mmworkload show NAME` prints what is here and more, for any
parameters.
"""


def page(known: Mapping[str, Family], sizes: Callable[[str], Sizes | None] = sizes_of) -> str:
    """The page as text; ``sizes`` gives those of ``workload/variant``, or None where they are not known."""
    found = {
        name: {item.name: sizes(f"{name}/{item.name}") for item in family.variants}
        for name, family in sorted(known.items())
    }
    blocks = [_HEAD, *_overview(known, found)]
    for name in found:
        blocks += _family(name, known[name], found[name])
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks)


def _overview(known: Mapping[str, Family], found: Mapping[str, Mapping[str, Sizes | None]]) -> Iterator[str]:
    variants = sum(len(items) for items in found.values())
    yield f"{plural(len(found), 'workload')}, {plural(variants, 'variant')}:"
    rows = []
    for name, sizes in found.items():
        family = known[name]
        first = sizes[family.variants[0].name]
        modalities = dict.fromkeys(item.modality for item in first.inputs if item.role == "modality") if first else {}
        rows.append(
            [
                f"[{name}](#{name})",
                literal(family.description),
                ", ".join(map(literal, modalities)) or GAP,
                str(len(family.variants)),
                f"`{family.variants[0].name}`",
                si(first.totals.macs if first else None),
                si(first.totals.params if first else None),
            ]
        )
    yield table(["<workload", "<what it does", "<modalities", ">variants", "<default", ">MACs", ">parameters"], rows)


def _family(name: str, family: Family, sizes: Mapping[str, Sizes | None]) -> Iterator[str]:
    yield f"## {name}"
    yield f"{_sentence(literal(family.description))}"
    dataset = f"[{literal(family.dataset)}]({family.dataset_url})" if family.dataset_url else literal(family.dataset)
    lines = [f"- Data set: {dataset}"] if dataset else []
    lines.append(f"- Batch: {family.default_batch}")
    yield "\n".join(lines)
    yield "### Variants of " + name
    yield _variants(name, family, sizes)
    yield from _remarks(family)
    yield from _figures(family, sizes)
    yield from _parameters(family)
    yield from _generations(name, family)
    yield from _stages("MACs", name, sizes, lambda item: item.totals.macs, lambda item: item.macs)
    yield from _stages("Parameters", name, sizes, lambda item: item.totals.params, lambda item: item.params)


def _variants(name: str, family: Family, sizes: Mapping[str, Sizes | None]) -> str:
    rows = []
    for item in family.variants:
        size = sizes[item.name]
        inputs = ", ".join(input_in_words(entry, "float32") for entry in size.inputs) if size else GAP
        rows.append(
            [
                f"`{name}/{item.name}`" + (", *stand-in*" if item.stand_ins else ""),
                ", ".join(f"`{alias}`" for alias in item.aliases),
                literal(inputs),
                "yes" if item.preprocess else "",
                literal(item.source),
            ]
        )
    return table(["<name", "<further names", "<inputs", "<`--end-to-end`", "<source"], rows)


def _generations(name: str, family: Family) -> Iterator[str]:
    if not family.generations:
        return
    yield f"### Generations of {name}"
    yield (
        "Each runs variants over all its steps ([generation.md](generation.md)); `show`, `simulate` and `export` take"
        f" it. `--set` also takes the levers {', '.join(f'`{lever}`' for lever in LEVERS)}."
    )
    rows = [
        [
            f"`{name}/{item.name}`",
            ", ".join(f"`{alias}`" for alias in item.aliases),
            ", ".join(f"`{phase}`" for phase in item.phases),
            ", ".join(f"`{key}={setting_in_words(value.default)}`" for key, value in item.parameters.items()),
            literal(item.notes),
        ]
        for item in family.generations
    ]
    yield table(["<name", "<further names", "<runs", "<parameters", "<notes"], rows)


def _remarks(family: Family) -> Iterator[str]:
    """Notes and stand-ins, each once with the variants that it is about."""
    for title, remarks in (
        ("Notes", _byliteral(family, lambda item: [item.notes] if item.notes else [])),
        ("Stand-ins", _byliteral(family, lambda item: item.stand_ins)),
    ):
        if remarks:
            lines = [
                f"- {', '.join(f'`{name}`' for name in names)}: {literal(text)}" for text, names in remarks.items()
            ]
            yield f"{title}:\n\n" + "\n".join(lines)


def _figures(family: Family, sizes: Mapping[str, Sizes | None]) -> Iterator[str]:
    """Ratios from papers beside ours."""
    lines = [
        f"- `{item.name}`: {literal(figure.beside(size.stages))}"
        for item in family.variants
        for figure in item.figures
        if (size := sizes[item.name]) is not None
    ]
    if lines:
        yield "Beside the papers:\n\n" + "\n".join(lines)


def _byliteral(family: Family, texts: Callable[[Variant], Iterable[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in family.variants:
        for text in texts(item):
            found.setdefault(text, []).append(item.name)
    return found


def _parameters(family: Family) -> Iterator[str]:
    """One row for each parameter; where variants declare it differently, one for each way."""
    found: dict[tuple[str, Parameter], list[str]] = {}
    for item in family.variants:
        for key, parameter in item.parameters.items():
            found.setdefault((key, parameter), []).append(item.name)
    if not found:
        return
    names = list(dict.fromkeys(key for key, _ in found))
    rows = []
    for (key, parameter), variants in sorted(found.items(), key=lambda entry: names.index(entry[0][0])):
        everywhere = len(variants) == len(family.variants)
        rows.append(
            [
                f"`{key}`",
                f"`{setting_in_words(parameter.default)}`",
                literal(parameter.bounds),
                literal(parameter.help),
                "all" if everywhere else ", ".join(f"`{variant}`" for variant in variants),
            ]
        )
    yield "Parameters (`--set NAME=VALUE`):"
    yield table(["<name", "<default", "<bounds", "<what it is", "<of"], rows)


def _stages(
    title: str,
    name: str,
    sizes: Mapping[str, Sizes | None],
    total: Callable[[Sizes], int],
    part: Callable[[StageTotals], int],
) -> Iterator[str]:
    """A row for each variant, a column for each stage that any of them has."""
    # Encoders come before what joins them, whichever variant has which.
    stages = in_order(dict.fromkeys(stage for size in sizes.values() if size for stage in size.stages))
    rows = []
    for variant, size in sizes.items():
        if size is None:
            rows.append([f"`{variant}`", GAP, *("" for _ in stages)])
            continue
        cells = [f"{part(size.stages[stage]):,}" if stage in size.stages else "" for stage in stages]
        rows.append([f"`{variant}`", f"{total(size):,}", *cells])
    yield f"### {title} of {name}"
    yield table(["<variant", ">total", *(f">{literal(stage or '(none)')}" for stage in stages)], rows)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/workloads.md")
    write_atomic(target, page(families()))
    print(target)

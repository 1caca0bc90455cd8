"""The compact text of a graph: what it looks like, that it is lossless and small, and that damage is named."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmworkload.errors import FormatError
from mmworkload.graph import Coverage, InputInfo, LayerGraph
from mmworkload.layer import Layer, Tensor, Work
from mmworkload.problem import gemm


def tensor(name: str, *shape: int, kind: str = "activation", storage: str = "", dtype: str = "float32") -> Tensor:
    bits = {"float32": 32, "int64": 64, "bool": 8}[dtype]
    return Tensor(name, shape, dtype, bits, kind, storage or name)  # type: ignore[arg-type]


def stack(depth: int) -> LayerGraph:
    """An embedding, ``depth`` blocks of a linear layer, a ReLU in place and a sum, and a tied head on the host."""
    tensors = [
        tensor("ids", 1, 4, kind="input", dtype="int64"),
        tensor("embed.weight", 10, 8, kind="weight"),
        tensor("embed:out", 1, 4, 8),
    ]
    square = Work(gemm(4, 8, 8))
    common = {"stage": "encoder/text", "modality": "text", "rule": "only text reaches it"}
    layers = [
        Layer(
            "embed",
            "embedding",
            "Movement",
            "embed",
            reads=(("embed.weight", 128), ("ids", 32)),
            writes=(("embed:out", 128),),
            **common,
        )
    ]
    before = "embed:out"
    for k in range(depth):
        path = f"block.{k}"
        tensors += [
            tensor(f"{path}.linear.weight", 8, 8, kind="weight"),
            tensor(f"{path}.linear:out", 1, 4, 8),
            tensor(f"{path}.relu:out", 1, 4, 8, storage=f"{path}.linear:out"),
            tensor(f"{path}:add:out", 1, 4, 8),
        ]
        read = ((before, 128), (f"{path}.linear.weight", 256))
        wrote = ((f"{path}.linear:out", 128),)
        layers += [
            Layer(
                f"{path}.linear", "linear", "Gemm", f"{path}.linear", reads=read, writes=wrote, work=(square,), **common
            ),
            Layer(
                f"{path}.relu",
                "relu",
                "Relu",
                f"{path}.relu",
                reads=wrote,
                writes=((f"{path}.relu:out", 128),),
                vector_ops=32,
                **common,
            ),
            Layer(
                f"{path}:add",
                "add",
                "Elewise",
                path,
                reads=((f"{path}.relu:out", 128), (before, 128)),
                writes=((f"{path}:add:out", 128),),
                vector_ops=32,
                **common,
            ),
        ]
        before = f"{path}:add:out"
    tensors += [tensor("tied", 10, 8, kind="weight", storage="embed.weight"), tensor("result", 1, 10)]
    layers.append(
        Layer(
            "head",
            "linear",
            "Gemm",
            "head",
            "head",
            reads=((before, 32), ("tied", 320)),
            writes=(("result", 40),),
            work=(Work(gemm(1, 10, 8), 2, sequential=True),),
            vector_ops=3,
            placement="host",
            assumptions=("the last word only",),
            dead=True,
            rule="rule head",
        )
    )
    coverage = [
        Coverage("lowered", f"aten.{layer.op}", layer.module, 1, layer.macs, layer.bytes)
        for layer in layers
        if layer.op != "relu"
    ]
    coverage += [
        Coverage("lowered", "aten.relu_", layer.module, 1, 0, layer.bytes) for layer in layers if layer.op == "relu"
    ]
    coverage += [Coverage("ignored", "aten.view", "block.0", 3, 0, 0, "gives a view of its input")]
    return LayerGraph(
        model="lines.py:stack",
        variant="stack",
        batch=1,
        dtype="float32",
        layers=tuple(layers),
        tensors={item.name: item for item in tensors},
        inputs=(InputInfo("ids", (1, 4), "int64", "text"),),
        outputs=("result",),
        built_params=80 + 64 * depth,
        versions={"torch": "2.15.0"},
        coverage=tuple(coverage),
        notes=("stand-in: a stack for a network",),
    )


TEXT = """\
schema_version: 2
model: "lines.py:stack"
variant: "stack"
batch: 1
dtype: "float32"
route: "export"
notes:
- "stand-in: a stack for a network"
versions:
  "torch": "2.15.0"
built_params: 848
total_params: 848
total_macs: 3232
inputs:
- {"tensor": "ids", "shape": [1, 4], "dtype": "int64", "modality": "text", "role": "modality"}
stages:
  "encoder/text": {"layers": 37, "macs": 3072, "useful_macs": 3072, "outer_macs": 0, "params": 848, "weight_bytes": \
3392, "activation_bytes": 10912, "vector_ops": 768}
  "head": {"layers": 1, "macs": 160, "useful_macs": 160, "outer_macs": 0, "params": 80, "weight_bytes": 320, \
"activation_bytes": 72, "vector_ops": 3}
problems: |
  p0 mac N=4 M=8 C=8 | Inputs input 32 [N:4, C:8] | Weights weight 32 [M:8, C:8] | Outputs output 32 [N:4, M:8]
  p1 mac M=10 C=8 | Inputs input 32 [C:8] | Weights weight 32 [M:10, C:8] | Outputs output 32 [M:10]
operators: |
  embedding Movement 0 aten.embedding
  linear Gemm 0 aten.linear
  relu Relu 1 aten.relu_
  add Elewise 1 aten.add
rules: |
  r0 encoder/text text "only text reaches it"
  r1 head "" "rule head"
tensors: |
layers: |
  embed embedding r0 <- .weight [10,8] bytes=128 ids [1,4] kind=input dtype=int64 -> [1,4,8]
  block.0.linear linear r0 p0 <- embed:out .weight [8,8] -> [1,4,8]
  block.0.relu relu r0 <- ..linear:out -> [1,4,8] storage=..linear:out
  block.0:add add r0 <- .relu:out embed:out -> [1,4,8]
  repeat 11:
    block.{1+1}.linear linear r0 p0 <- ...{0+1}:add:out .weight [8,8] -> [1,4,8]
    block.{1+1}.relu relu r0 <- ..linear:out -> [1,4,8] storage=..linear:out
    block.{1+1}:add add r0 <- .relu:out ..{0+1}:add:out -> [1,4,8]
  head linear r1 p1*2/sequential vector=3 placement=host assume="the last word only" dead <- block.11:add:out \
bytes=32 tied [10,8] storage=embed.weight -> [1,10] name=result
coverage: |
  ignored aten.view block.0 "gives a view of its input" calls=3
outputs: |
  result
counts:
  "problems": 2
  "operators": 4
  "rules": 2
  "tensors": 0
  "layers": 38
  "coverage": 1
  "outputs": 1
"""


# --- what it looks like ---------------------------------------------------------------------------------------------


def test_a_stack_of_blocks_is_a_few_lines() -> None:
    graph = stack(12)
    assert graph.to_text(".yaml") == TEXT
    assert LayerGraph.from_text(TEXT) == graph


def test_the_text_is_yaml_and_plain_ascii() -> None:
    import yaml

    data = yaml.safe_load(TEXT)
    assert (data["schema_version"], data["total_macs"], data["counts"]["layers"]) == (2, 12 * 256 + 2 * 80, 38)
    assert data["stages"]["head"]["params"] == 80
    assert data["inputs"][0]["shape"] == [1, 4]
    assert data["layers"].startswith("embed embedding r0")
    odd = replace(stack(1), model="π 🙂", notes=("two\nlines",))
    assert odd.to_text(".yaml").isascii()
    assert yaml.safe_load(odd.to_text(".yaml"))["model"] == "π 🙂"
    assert LayerGraph.from_text(odd.to_text(".yaml")) == odd


def test_a_change_of_a_layer_is_a_change_of_its_line_and_of_the_sums() -> None:
    graph = stack(12)
    head = replace(graph.layers[-1], vector_ops=4)
    changed = replace(graph, layers=(*graph.layers[:-1], head)).to_text(".yaml").splitlines()
    differing = [line for line, old in zip(changed, TEXT.splitlines(), strict=True) if line != old]
    assert [line.split()[0] for line in differing] == ['"head":', "head"]
    assert '"vector_ops": 4' in differing[0]
    assert "vector=4" in differing[1]


def test_the_order_of_tensors_and_coverage_comes_back_too() -> None:
    graph = stack(3)
    again = LayerGraph.from_text(graph.to_text(".yaml"))
    assert list(again.tensors) == list(graph.tensors)
    assert again.coverage == graph.coverage
    assert again.to_text(".json") == graph.to_text(".json")
    part = graph.only(["head"])
    assert LayerGraph.from_text(part.to_text(".yaml")).to_text(".json") == part.to_text(".json")
    shuffled = replace(
        graph, tensors=dict(reversed(graph.tensors.items())), coverage=tuple(sorted(graph.coverage, key=str))
    )
    assert list(shuffled.tensors) == list(graph.tensors)
    assert [item.treatment for item in shuffled.coverage] == [item.treatment for item in graph.coverage]


def test_the_text_of_the_documentation_is_that_of_its_json() -> None:
    document = (Path(__file__).resolve().parents[1] / "docs" / "json.md").read_text()
    (example,) = re.findall(r"```json\n(.*?)```", document, re.DOTALL)
    (text,) = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)
    assert LayerGraph.from_dict(json.loads(example)).to_text(".yaml") == text


def test_a_deep_network_is_small_and_quick() -> None:
    graph = stack(1000)
    start = time.process_time()
    text = graph.to_text(".yaml")
    written = time.process_time()
    again = LayerGraph.from_text(text)
    read = time.process_time()
    assert again == graph
    assert len(text) < 2500 < len(graph.to_text(".json")) // 500
    assert written - start < 3
    assert read - written < 1


# --- lossless -------------------------------------------------------------------------------------------------------


def test_coverage_that_does_not_follow_from_the_layers_is_told() -> None:
    graph = stack(2)
    view = graph.coverage[-1]
    lowered = graph.coverage[:-1]
    for coverage in (
        (),
        (view,),
        lowered[:-1],
        (*lowered, *lowered[:1], view),
        tuple(replace(item, calls=2) for item in lowered),
        tuple(replace(item, operator="aten.add") for item in lowered),
        tuple(replace(item, treatment="unknown", reason="no lowering is registered") for item in lowered),
        (*lowered, Coverage("lowered", "aten.add", "not.there", 1, 0, 0), replace(view, macs=1)),
    ):
        changed = replace(graph, coverage=coverage)
        assert LayerGraph.from_text(changed.to_text(".yaml")) == changed


def test_names_that_look_like_something_else_come_back() -> None:
    names = [
        "<-",
        "->",
        "dead",
        "kind=input",
        "[1,2]",
        "p0",
        "s0",
        "a b",
        ".weight",
        "..x",
        "{1+1}",
        'say "x"',
        "\\",
        "",
    ]
    tensors = {name: tensor(name, 2, kind="input") for name in names}
    tensors |= {f"{name}!": tensor(f"{name}!", 2, storage=name) for name in names}
    layers = tuple(
        Layer(name, name, "Other", name, name, name, ((name, 8),), ((f"{name}!", 8),), assumptions=(name,), rule=name)
        for name in names
    )
    coverage = tuple(Coverage("lowered", name, name, 1, 0, 0, name) for name in names)
    graph = LayerGraph("m", "", 1, "float32", layers, tensors, (), tuple(names), coverage=coverage, notes=tuple(names))
    assert LayerGraph.from_text(graph.to_text(".yaml")) == graph


MODULES = st.sampled_from(["", "a", "a.b", "a.b.c", "a.b.c.d", "a.bc", "b.0", "b.1", "@1", "a:b", "x=1"])
SUFFIXES = st.sampled_from(["", ":out", ".weight", ":add:out", "@1", "@1:out", ".0:out", "_b", "..c", ".1"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.builds("{}{}".format, MODULES, SUFFIXES), min_size=2, max_size=12, unique=True),
    st.lists(st.tuples(MODULES, SUFFIXES, st.sampled_from(["add", "linear", "out"])), max_size=6, unique=True),
    st.integers(0, 2**32),
)
def test_names_and_modules_of_any_relation_come_back(
    tensors: list[str], layers: list[tuple[str, str, str]], seed: int
) -> None:
    choice = random.Random(seed)
    left = list(tensors)
    known = [left.pop(0)]
    nodes = []
    for name in dict.fromkeys(f"{module}{suffix}" for module, suffix, _ in layers):
        module, _, op = next(item for item in layers if f"{item[0]}{item[1]}" == name)
        read = choice.sample(known, min(len(known), 2))
        wrote = [left.pop(0) for _ in range(choice.randrange(3)) if left]
        known += wrote
        nodes.append(
            Layer(
                name,
                op,
                module=module,
                reads=tuple((item, choice.choice([4, 8])) for item in read),
                writes=tuple((item, choice.choice([4, 8])) for item in wrote),
                vector_ops=choice.choice([0, 2, 3]),
            )
        )
    table = {name: tensor(name, 2, storage=choice.choice([name, tensors[0]])) for name in tensors}
    coverage = tuple(
        Coverage("lowered", f"aten.{node.op}", node.module, 1, 0, node.bytes) for node in nodes if choice.random() < 0.7
    )
    graph = LayerGraph("m", "", 1, "float32", tuple(nodes), table, coverage=coverage)
    again = LayerGraph.from_text(graph.to_text(".yaml"))
    assert again == graph
    assert list(again.tensors) == list(graph.tensors)


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "schema_version: 2",
            "schema_version: 1",
            "schema_version 1 cannot be read by this version, which reads 2; trace",
        ),
        ("schema_version: 2\n", "", "not a layer graph: there is no schema_version"),
        ("batch: 1\n", "", "not a complete layer graph: 'batch' is missing"),
        ("batch: 1", "batch: one", "batch: 'one' is not a count"),
        ("batch: 1", "batch: [1]", "'batch' is missing or not one value"),
        ("notes:", "notes: none\nother:", "'notes' is missing or not a list of texts"),
        ('"torch": "2.15.0"', '"torch": [2]', "'versions' is missing or not texts with names"),
        ("total_macs: 3232", "total_macs: 3233", "total_macs: 3233 in the header, but the layers have 3232"),
        ("total_params: 848", "total_params: 847", "total_params: 847 in the header, but the layers have 848"),
        ('"layers": 37, ', '"layers": 36, ', "layers of encoder/text: 36 in the header, but the layers have 37"),
        ('"encoder/text": {', '"encoder/txt": {', "layers of encoder/txt: 37 in the header, but the layers have None"),
        ('"shape": [1, 4], ', "", "inputs are a list with dtype, modality, role, shape, tensor each"),
        ('"shape": [1, 4]', '"shape": [1, x]', "'x' is not a count"),
        ('"layers": 38', '"layers": 39', "layers: 38 entries, where counts has 39"),
        ('  "layers": 38\n', "", "layers: 38 entries, where counts has None"),
        ("repeat 11:", "repeat 12:", "layers: 41 entries, where counts has 38"),
        ("repeat 11:", "repeat 999999999:", "layers: line 3[789]: the text stands for more than 16000000 characters"),
        ("    block.{1+1}.relu", "   block.{1+1}.relu", "layers: line 38: ' block"),
        ("block.{1+1}.linear linear", "block.{1}.linear linear", "layers: 'block.1.linear linear .*two layers|twice"),
        ("{0+1}:add:out .weight", "{0-1}:add:out .weight", "layers: line 37: a step leads below zero, to -1"),
        ("p0 <- embed", "p7 <- embed", r"layers: 'block.0.linear .*': there is no problem 'p7'"),
        ("  p1 mac M=10 C=8", "  p1 mac M=x C=8", "problems: 'p1 mac M=x.*': 'M=x' is not a dimension"),
        ("  p1 mac", "  p0 mac", "problems: 'p0 mac.*': 'p0' is there twice"),
        ("linear r1 p1", "linear r9 p1", "layers: 'head .*': there is no rule 'r9'"),
        ("  add Elewise", "  sub Elewise", "layers: 'block.0:add add .*': there is no operator 'add'"),
        ("relu Relu 1 aten.relu_", "relu Relu 1", "operators: 'relu Relu 1': 3 words, where 4 belong"),
        ("relu Relu 1 aten", "relu Relu x aten", "operators: .*: 'x' is not a count"),
        ("<- embed:out .weight", "<- embd:out .weight", "there is no tensor 'embd:out'"),
        ("block.0:add add r0 <- .relu", "block.0:add add r0 <- .relv", "there is no tensor 'block.0.relv:out'"),
        ("tied [10,8]", "tied [10;8]", r"'\[10;8\]' is not a shape like \[1,64\]"),
        ("tied [10,8]", "block.3:add:out [10,8]", "'block.3:add:out' is there twice"),
        ("-> [1,10] name=result", "-> name=result", "'name=result' is not understood here"),
        ("dtype=int64", "type=int64", "'type=int64' is not understood here"),
        ("dtype=int64", "dtype=int64 dtype=int64", "'dtype' is there twice"),
        ("ids [1,4] kind=input", "ids [1,4] kind=inputs", "the kind 'inputs'"),
        ("placement=host", "placement=moon", "the placement 'moon' is neither device nor host"),
        ("vector=3", "vector=-3", "'-3' is neither a plain word"),
        ("p1*2/sequential", "p1*2/parallel", r"'p1\*2/parallel' is not understood here"),
        ('assume="the last word only"', 'assume="the last word only', "layers: 'head .*': a quotation mark is missing"),
        ("  result", "  result result", "outputs: 'result result': 2 words, where 1 belong"),
        ("  result", "  results", "the output 'results' is not a tensor"),
        ("ignored aten.view", "skipped aten.view", "treatment 'skipped' is not one of"),
        ("ignored aten.view block.0", "ignored", "coverage: .*: 'calls=3' is neither a plain word nor a JSON string"),
        ("calls=3", "calls=many", "coverage: .*: 'many' is not a count"),
        ("Movement 0", "Motion 0", "category 'Motion' is not one of"),
        ("layers: |", "layers:", "not YAML: line|'layers' is missing"),
        ('"lines.py:stack"', '"lines.py:stack', "not YAML: line"),
        ("notes:", "notes: " + "[" * 200 + "]" * 200, "nested too deeply"),
        # Since 6.0.4 PyYAML's parser, which reads ahead, complains before this reader can.
        ("notes:", "notes: " + "[" * 5000, "nested too deeply|line .*: exceeded maximum nesting depth"),
    ],
)
def test_damage_is_one_error_that_names_the_line_or_the_entry(old: str, new: str, message: str) -> None:
    assert TEXT.count(old) >= 1
    with pytest.raises(FormatError, match=message) as caught:
        LayerGraph.from_text(TEXT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


def test_a_text_that_is_cut_off_is_never_read() -> None:
    for end in range(len(TEXT) - 1):
        with pytest.raises(FormatError):
            LayerGraph.from_text(TEXT[:end])


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, len(TEXT)),
    st.integers(0, 30),
    st.text(alphabet="{}[]\"'\\ :;,=<>-+*/.@|p0s19ab\n\t#&!%\x00π", max_size=6),
)
def test_any_damage_gives_an_error_or_a_graph(start: int, length: int, inserted: str) -> None:
    try:
        graph = LayerGraph.from_text(TEXT[:start] + inserted + TEXT[start + length :])
    except FormatError:
        return
    assert LayerGraph.from_text(graph.to_text(".yaml")) == graph


def test_sums_may_be_left_out() -> None:
    short = re.sub(r'^(total_.*|stages:|  "(encoder/text|head)": .*)\n', "", TEXT, flags=re.MULTILINE)
    assert len(short.splitlines()) == len(TEXT.splitlines()) - 5
    assert LayerGraph.from_text(short) == stack(12)


def test_the_old_yaml_is_refused_by_its_version() -> None:
    data = {**stack(1).to_dict(), "schema_version": 1}
    old = "\n".join(f"{key}: {json.dumps(value)}" for key, value in data.items())
    with pytest.raises(FormatError, match="schema_version 1 cannot be read by this version, which reads 2; trace the"):
        LayerGraph.from_text(old)

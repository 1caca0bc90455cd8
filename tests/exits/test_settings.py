"""Settings of exits as they stand in a model's name."""

from __future__ import annotations

import pytest

from mmworkload.errors import MmworkloadError, UnknownNameError
from mmworkload.exits import ExitSettings, split_exits


def test_a_name_without_exits_is_left_alone() -> None:
    for name in ("av-mnist/concat", "av-mnist/concat?channels=8", "graph.yaml", "a+exitsb/c"):
        assert split_exits(name) == (name, None)


def test_settings_of_the_model_stay_with_the_model() -> None:
    base, settings = split_exits("av-mnist/concat?channels=8+exits?per_modality=1&p=image:0.5,audio:0.25&rest=last")
    assert base == "av-mnist/concat?channels=8"
    assert settings == ExitSettings(per_modality=1, p={"image": (0.5,), "audio": (0.25,)}, rest="last")


@pytest.mark.parametrize(
    "query",
    ["", "per_modality=3", "place=macs&p=0.1", "at=image:2:3,audio:2:4&order=audio,image", "batch=each&parts=paths"],
)
def test_a_query_reads_back_as_it_is_written(query: str) -> None:
    settings = split_exits(f"x/y+exits?{query}")[1]
    assert settings is not None
    assert settings.query == query
    assert split_exits(f"x/y+exits?{settings.query}")[1] == settings


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("p=1.5", "between 0 and 1"),
        ("p=image:0.5:x", "give a number"),
        ("p=image:,", "give a number"),
        ("at=image:3:2", "count up from 1"),
        ("at=image:0", "count up from 1"),
        ("at=image", "write modality:VALUE"),
        ("per_modality=0", "1 to 64"),
        ("per_modality=two", "give a number"),
        ("classes=1", "at least 2 classes"),
        ("order", "has no value"),
    ],
)
def test_an_impossible_value_is_named(query: str, said: str) -> None:
    with pytest.raises(MmworkloadError, match=said):
        split_exits(f"x/y+exits?{query}")


@pytest.mark.parametrize("query", ["colour=red", "place=time", "rest=never", "batch=all", "parts=layers"])
def test_an_unknown_setting_or_choice_is_named(query: str) -> None:
    with pytest.raises(UnknownNameError, match=query.partition("=")[2 if "colour" not in query else 0]):
        split_exits(f"x/y+exits?{query}")

"""Medical segmentation: where a brain tumour is, voxel by voxel, from four MRI scans.

MMBench's paper takes the task from mmFormer; its Table 3 says U-Net encoders and transformer fusion. Its public code is
mmFormer itself, whose encoders hold a transformer each behind the U-Net's convolutions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mmworkload.models import Family, InputSpec, Parameter, Variant
from mmworkload.workloads.blocks.stages import drop_parameter, fusion_parameter, stages

if TYPE_CHECKING:
    import torch

TABLE = "MMBench (IISWC 2023), Table 3"
CODE = "MMBench (IISWC 2023), applications/Medical-Segmentation/mmformer.py"
MMFORMER = "mmFormer (Zhang et al., MICCAI 2022)"

# In the order of the public code, which calls T1c t1ce.
SCANS = ("flair", "t1c", "t1", "t2")
# One scan of the data set: slices, rows, columns. They are stored as 16-bit integers; MRI has no unit.
STORED = (155, 240, 240)
BRIGHTEST = 4096

# A deepest map of 1 x 1 x 1 cannot be reflected at its edge, and no cube is larger than the fewest slices.
SIZE = Parameter(128, "side of the cube that is cut from each scan (patch_size 8 of the code: 128 / 16)", 32, 144, 16)
LAYERS = Parameter(1, "blocks of the transformer over all scans", high=96)
INTRA_LAYERS = Parameter(1, "blocks of the transformer over each scan", high=96)
DROP = drop_parameter(SCANS)


def _networks() -> Any:
    return importlib.import_module("mmworkload.workloads.medical_seg.networks")


def _inputs(
    scans: Sequence[str], masked: bool, raw: bool, batch: int, size: int, drop: tuple[str, ...] = ()
) -> tuple[InputSpec, ...]:
    shape = STORED if raw else (size, size, size)
    specs = [
        InputSpec(name, (batch, 1, *shape), "int16" if raw else "float32", high=BRIGHTEST)
        for name in scans
        if name not in drop
    ]
    if masked:
        specs.append(InputSpec("mask", (batch, len(scans)), "bool", role="mask"))
    return tuple(specs)


def _preprocess(size: int) -> torch.nn.Module:
    return _networks().PrepareScans(size)


def _variant(
    name: str,
    scans: Sequence[str],
    source: str,
    build: Callable[..., torch.nn.Module],
    parameters: Mapping[str, Parameter],
    masked: bool = False,
    **more: Any,
) -> Variant:
    return Variant(
        name=name,
        source=source,
        build=build,
        inputs=partial(_inputs, scans, masked, False),
        raw=partial(_inputs, scans, masked, True),
        preprocess=_preprocess,
        stages=stages(*scans),
        parameters={"size": SIZE, **parameters},
        **more,
    )


FAMILY = Family(
    description="a brain tumour segmented in four MRI scans",
    dataset="BraTS 2018 (Menze et al., TMI 2015; Bakas et al., Scientific Data 2017)",
    dataset_url="https://www.med.upenn.edu/sbia/brats2018/data.html",
    variants=(
        _variant(
            "transformer",
            SCANS,
            f"{TABLE} (U-Net encoders, transformer fusion); sizes of {CODE}",
            lambda size, layers, drop: _networks().transformer(SCANS, size, 0, layers, False, drop),
            {"layers": LAYERS, "drop": DROP},
            notes="Table 3 to the letter: the encoders are mmFormer's convolutions alone, without its transformer over"
            " each scan, and there is one output. The network that MMBench's code runs is transformer-mmbench.",
        ),
        _variant(
            "transformer-mmbench",
            SCANS,
            f"{MMFORMER}; {CODE}",
            lambda size, intra_layers, layers, drop: _networks().transformer(
                SCANS, size, intra_layers, layers, True, drop
            ),
            {"intra_layers": INTRA_LAYERS, "layers": LAYERS, "drop": DROP},
            masked=True,
            aliases=("mmformer", "mmbench"),
            notes="The mask zeroes features of missing scans and saves no work; drop leaves encoders out. The four"
            " auxiliary outputs run in inference too. Positions are read in the encoders and again in the fusion.",
        ),
        _variant(
            "concat-intraformer",
            SCANS,
            f"{MMFORMER}, without its transformer over all scans; the way back to maps from {CODE} (*_decode_conv)",
            lambda size, intra_layers, drop: _networks().concat_attended(SCANS, size, intra_layers, drop),
            {"intra_layers": INTRA_LAYERS, "drop": DROP},
            masked=True,
        ),
        _variant(
            "concat",
            SCANS,
            f"the U-Net encoders and the decoder of {CODE}; no transformer",
            lambda fusion, drop: _networks().concat(SCANS, fusion, drop),
            {"fusion": fusion_parameter(), "drop": DROP},
            aliases=("late",),
            notes="Neither paper nor code has it: mmFormer without transformers. `fusion` joins the deepest maps, place"
            " by place; the maps of the other levels are concatenated.",
        ),
        _variant(
            "early",
            SCANS,
            f"3-D U-Net (Cicek et al., MICCAI 2016) on stacked scans, the usual input of BraTS; encoder and Decoder_sep"
            f" of {CODE}",
            lambda size, drop: _networks().early(SCANS, size, drop),
            {"drop": DROP},
            aliases=("ef",),
        ),
        _variant(
            "flair",
            ("flair",),
            f"{CODE}: one encoder and Decoder_sep, as in training",
            lambda: _networks().single("flair"),
            {},
            aliases=("t1c", "t1", "t2"),
            notes="The networks of the four scans are the same: t1c, t1 and t2 are this one under other names.",
        ),
    ),
)

"""Peak memory against numbers computed by hand."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from mmworkload.measuring.memory import highest, peak_memory, storage_bytes  # noqa: E402
from mmworkload.measuring.program import bind  # noqa: E402
from mmworkload.models import resolve  # noqa: E402
from mmworkload.tracing import trace_model  # noqa: E402

MODELS = Path(__file__).with_name("user_models.py")
CPU = torch.device("cpu")


def memory(name):
    model = resolve(name)
    return peak_memory(bind(trace_model(model), model.build("cpu"), CPU), CPU)


def test_the_peak_is_the_highest_running_sum():
    assert highest([4, 8, -4, 2, -10, 9]) == 12
    assert highest([-4, 2]) == 0
    assert highest([]) == 0


def test_shared_memory_counts_once():
    base = torch.zeros(10)
    assert storage_bytes([base, base[2:4], torch.zeros(3, dtype=torch.int64), 1.5, None]) == 40 + 24


def test_a_chain_of_activations_holds_two_at_a_time():
    """Input 512 x 512 floats, 1 MiB; each ReLU's output lives until the next one is there. torch's allocator records
    the sizes that tensors ask for, so the value is exact."""
    mib = 2**20
    assert memory(f"{MODELS}:three_relus") == {"model": 0, "data": mib, "intermediates": 2 * mib, "total": 3 * mib}


def test_model_and_data_of_av_mnist():
    """Parameters in float32, the running statistics of the batch norms, and one image and one spectrogram."""
    taken = memory("av-mnist/concat")
    module = resolve("av-mnist/concat").build("meta").module
    parameters = sum(item.numel() for item in module.parameters())
    # Per channel a mean and a variance (float32), per batch norm a counter (int64).
    widths = [6 * 2**i for i in range(4)] + [6 * 2**i for i in range(6)]
    assert parameters == 260922
    assert taken["model"] == 4 * parameters + 8 * sum(widths) + 8 * len(widths)
    assert taken["data"] == 4 * (28 * 28 + 112 * 112)
    assert taken["total"] == taken["model"] + taken["data"] + taken["intermediates"]

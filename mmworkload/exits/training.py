"""Joint training of a network with exits (MMExit, Hou et al., Euro-Par 2023, section 4) on a task of known difficulty.

Run it: ``python -m mmworkload.exits.training``. It trains a small two-modal network by the paper's alternating scheme
and by its two baselines, and prints who leaves where; the exit rates and accuracies that it finds are settings of
``+exits``.

The task: ``easy`` samples show their class in modality ``a``, ``medium`` ones in ``b`` only, and of ``hard`` ones each
modality has a number whose sum (modulo the classes) is the class, so that neither alone says anything.

The paper contradicts itself: Algorithm 1 and eq. 17 train the last exits and the fusion in even epochs, its last
equation in odd ones. Algorithm 1 is taken. The ``gradient`` of eq. 15 is not defined further: it is the mean norm of
the loss's gradient with respect to an exit's logits, which is large where an answer is far from its label, as the paper
argues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

CLASSES = 4
LEVELS = ("easy", "medium", "hard")
MODALITIES = ("a", "b")
SCHEMES = ("mmexit", "eloss", "sloss")
EXITS = 2
WIDTH = {"a": 24, "b": 96}
# Averaging of gradients (alpha of eq. 15), and the temperature (tau of eq. 16) of the first and the last epoch.
_ALPHA = 0.9
_HOT, _COLD = 1.0, 0.2

Key = tuple[str, int]


class ExitNetwork(nn.Module):
    """Two encoders of three blocks, an exit behind the first two, and a fusion by concatenation.

    ``forward`` gives the fusion's scores, ``all_scores`` those of every exit too.
    """

    def __init__(self) -> None:
        super().__init__()
        features = 2 * CLASSES + 1
        self.encoders = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    nn.Sequential(nn.Linear(features if block == 0 else width, width), nn.ReLU()) for block in range(3)
                )
                for name, width in WIDTH.items()
            }
        )
        self.exits = nn.ModuleDict(
            {
                f"{name}{number}": nn.Linear(WIDTH[name], CLASSES)
                for name in MODALITIES
                for number in range(1, EXITS + 1)
            }
        )
        self.head = nn.Sequential(nn.Linear(sum(WIDTH.values()), 64), nn.ReLU(), nn.Linear(64, CLASSES))

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ends = []
        for name, x in (("a", a), ("b", b)):
            for block in self.encoders[name].children():
                x = block(x)
            ends.append(x)
        return self.head(torch.cat(ends, dim=-1))

    def all_scores(self, a: torch.Tensor, b: torch.Tensor) -> tuple[dict[Key, torch.Tensor], torch.Tensor]:
        """(modality, number of the exit) to its logits, and the fusion's."""
        scores: dict[Key, torch.Tensor] = {}
        ends = []
        for name, x in (("a", a), ("b", b)):
            for number, block in enumerate(self.encoders[name].children(), 1):
                x = block(x)
                if number <= EXITS:
                    scores[name, number] = self.exits[f"{name}{number}"](x)
            ends.append(x)
        return scores, self.head(torch.cat(ends, dim=-1))


@dataclass(frozen=True)
class Samples:
    """Inputs [n, 2 * classes + 1], labels [n] and levels [n] (an index of :data:`LEVELS`)."""

    a: torch.Tensor
    b: torch.Tensor
    labels: torch.Tensor
    levels: torch.Tensor


def make_samples(count: int, generator: torch.Generator, shares: Sequence[float] = (0.5, 0.3, 0.2)) -> Samples:
    """``shares`` of the levels. A modality shows a class in its first features, a summand in its next, or noise."""
    levels = torch.multinomial(torch.tensor(shares), count, replacement=True, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    summand = torch.randint(0, CLASSES, (count,), generator=generator)
    other = (labels - summand) % CLASSES
    inputs = {}
    for name, level, part in (("a", 0, summand), ("b", 1, other)):
        x = 0.25 * torch.randn(count, 2 * CLASSES + 1, generator=generator)
        shows, splits = levels == level, levels == 2
        x[shows, labels[shows]] += 2
        x[splits, CLASSES + part[splits]] += 2
        inputs[name] = x
    return Samples(inputs["a"], inputs["b"], labels, levels)


@dataclass(frozen=True)
class Taken:
    """What inference with exits does, modalities in the given order.

    ``rates``: of the samples that get to each exit, the share that leaves; ``accuracies`` of those that leave (0 when
    none does). ``leaves``: level to the share of its samples that leaves in each modality, or in the ``fusion``.
    """

    scheme: str
    accuracy: float
    rates: Mapping[Key, float]
    accuracies: Mapping[Key, float]
    leaves: Mapping[str, Mapping[str, float]]

    def settings(self) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
        """``p`` and ``accuracy`` of :class:`mmworkload.exits.ExitSettings`."""

        def grouped(values: Mapping[Key, float]) -> dict[str, tuple[float, ...]]:
            return {name: tuple(values[name, number] for number in range(1, EXITS + 1)) for name in MODALITIES}

        return grouped(self.rates), grouped(self.accuracies)


def weights(gradients: Mapping[Key, float], considered: Sequence[Key], temperature: float) -> dict[Key, float]:
    """Eq. 16: a softmax over the averaged gradients of the exits considered, over ``m_i - j + 1``."""
    exponentials = {key: torch.tensor(gradients[key] / temperature).exp().item() for key in considered}
    total = sum(exponentials.values())
    return {key: value / ((EXITS - key[1] + 1) * total) for key, value in exponentials.items()}


def train(scheme: str, samples: Samples, *, epochs: int = 30, batch: int = 32, seed: int = 0) -> ExitNetwork:
    """A trained network. ``mmexit``: section 4.3; ``eloss``: all exits alike; ``sloss``: fixed weights that grow."""
    torch.manual_seed(seed)
    network = ExitNetwork()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    last = [(name, EXITS) for name in MODALITIES]
    early = [(name, number) for name in MODALITIES for number in range(1, EXITS)]
    gradients = dict.fromkeys([*early, *last], 0.0)
    for epoch in range(1, epochs + 1):
        temperature = _HOT + (_COLD - _HOT) * epoch / epochs
        for chosen in torch.randperm(len(samples.labels)).split(batch):
            labels = samples.labels[chosen]
            scores, fused = network.all_scores(samples.a[chosen], samples.b[chosen])
            losses = {key: functional.cross_entropy(logits, labels) for key, logits in scores.items()}
            final = functional.cross_entropy(fused, labels)
            if scheme == "mmexit":
                for key, logits in scores.items():
                    error = logits.detach().softmax(dim=-1) - functional.one_hot(labels, CLASSES)
                    gradients[key] = _ALPHA * gradients[key] + (1 - _ALPHA) * error.norm(dim=-1).mean().item()
                even = epoch % 2 == 0
                weight = weights(gradients, last if even else early, temperature)
                loss = sum((share * losses[key] for key, share in weight.items()), final if even else final * 0)
            elif scheme == "eloss":
                loss = sum(losses.values(), final)
            else:
                loss = sum((key[1] / (EXITS + 1) * item for key, item in losses.items()), final)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


@torch.no_grad()
def infer(
    network: ExitNetwork,
    samples: Samples,
    *,
    scheme: str = "",
    order: Sequence[str] = MODALITIES,
    threshold: float = 0.2,
) -> Taken:
    """Every sample leaves at the first exit whose normalised entropy (eq. 2) is at most ``threshold``."""
    scores, fused = network.all_scores(samples.a, samples.b)
    here = torch.ones(len(samples.labels), dtype=torch.bool)
    answers = fused.argmax(dim=-1)
    where = ["fusion"] * len(samples.labels)
    rates, accuracies = {}, {}
    for name in order:
        for number in range(1, EXITS + 1):
            y = scores[name, number].softmax(dim=-1)
            entropy = -(y * y.clamp_min(1e-30).log()).sum(dim=-1) / torch.tensor(float(CLASSES)).log()
            leave = here & (entropy <= threshold)
            rates[name, number] = leave.sum().item() / max(1, here.sum().item())
            right = (y.argmax(dim=-1) == samples.labels)[leave]
            accuracies[name, number] = right.float().mean().item() if len(right) else 0.0
            answers = torch.where(leave, y.argmax(dim=-1), answers)
            for index in leave.nonzero().flatten().tolist():
                where[index] = name
            here &= ~leave
    leaves = {}
    for level, label in enumerate(LEVELS):
        own = [place for place, found in zip(where, samples.levels.tolist(), strict=True) if found == level]
        leaves[label] = {place: own.count(place) / max(1, len(own)) for place in (*MODALITIES, "fusion")}
    accuracy = (answers == samples.labels).float().mean().item()
    return Taken(scheme, accuracy, rates, accuracies, leaves)


def build() -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """For tracing the network without its exits, which ``+exits`` adds: ``path/training.py:build``."""
    features = 2 * CLASSES + 1
    return ExitNetwork(), {name: torch.zeros(1, features) for name in MODALITIES}


def main() -> None:
    """Trains all schemes and prints accuracy and who leaves where; MACs under the measured exit rates."""
    import mmworkload
    from mmworkload.exits import ExitSettings, with_exits

    generator = torch.Generator().manual_seed(1)
    learn, test = make_samples(4000, generator), make_samples(4000, generator)
    graph = mmworkload.trace(f"{__file__}:build")
    print("scheme  accuracy  MACs     " + "  ".join(f"{level}: a, b, fusion" for level in LEVELS))
    for scheme in SCHEMES:
        taken = infer(train(scheme, learn), test, scheme=scheme)
        p, accuracy = taken.settings()
        network = with_exits(graph, ExitSettings(p=p, accuracy=accuracy, at={"a": (1, 2), "b": (1, 2)}, order="a,b"))
        change = network.workload().total_macs / graph.total_macs - 1
        shares = "  ".join(", ".join(f"{share:.3f}" for share in taken.leaves[level].values()) for level in LEVELS)
        print(f"{scheme:6}  {taken.accuracy:.4f}    {change:+.1%}   {shares}")


if __name__ == "__main__":
    main()

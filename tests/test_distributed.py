"""Parts of a batch in several processes: batch statistics, gradients, losses and weights are those of the whole."""

import copy
import threading
from contextlib import contextmanager

import pytest
import torch
from test_training import trainer
from torch import nn

from cgcnn import distributed, job
from cgcnn.batch_norm import BatchNorm
from cgcnn.csgnn import CSGConfig, EdgeIsomorphism
from cgcnn.labels import DataError
from cgcnn.layers import GatedConvolution
from cgcnn.losses import AdaptiveWeights
from cgcnn.prediction import raw_outputs

ATOM, EDGE = 4, 3
SEED_STEP = distributed.seed_step  # which `Threads` replace


class Threads:
    """Threads that take each other for processes: a sum over them waits for all, as between processes."""

    def __init__(self, monkeypatch, count: int) -> None:
        self.count, self.own = count, threading.local()
        self.barrier, self.values = threading.Barrier(count, timeout=20), [None] * count
        monkeypatch.setattr(job, "count", lambda: count)
        monkeypatch.setattr(job, "rank", lambda: self.own.rank)
        monkeypatch.setattr(distributed, "_all_sum", self.sum)
        monkeypatch.setattr(distributed, "_joined", True)
        monkeypatch.setattr(distributed, "_is_nccl", lambda: False)
        monkeypatch.setattr(distributed, "same_everywhere", lambda model: None)
        monkeypatch.setattr(distributed, "seed_step", lambda seed, step: None)
        self.dividing = distributed.dividing
        monkeypatch.setattr(distributed, "dividing", self.divided)

    @contextmanager
    def divided(self, rows: int):
        """What is a state of each process is one of all threads: they enter and leave together."""
        self.barrier.wait()
        with self.dividing(rows):
            self.barrier.wait()
            yield
            self.barrier.wait()
        self.barrier.wait()

    def sum(self, values):
        self.values[self.own.rank] = values.clone()
        self.barrier.wait()
        total = sum(self.values)
        self.barrier.wait()
        return values.copy_(total)

    def run(self, function) -> list:
        """What function(rank) gives in each."""
        found, errors = [None] * self.count, []

        def one(rank):
            self.own.rank = rank
            try:
                found[rank] = function(rank)
            except BaseException as error:
                errors.append(error)
                self.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise next((e for e in errors if not isinstance(e, threading.BrokenBarrierError)), errors[0])
        return found


@pytest.fixture
def threads(monkeypatch):
    return lambda count: Threads(monkeypatch, count)


def graphs(count: int):
    """`count` graphs of some atoms: atoms (N, ·), edges (E, ·), centres and neighbours (E,)."""
    torch.manual_seed(3)
    for k in range(count):
        atoms, edges = 3 + k, 7 + 2 * k
        centres = torch.randint(atoms, (edges,)).sort().values
        yield (
            torch.randn(atoms, ATOM).double(),
            torch.rand(edges, EDGE).double(),
            centres,
            torch.randint(atoms, (edges,)),
        )


def together(parts):
    """Graphs side by side."""
    parts = list(parts)
    first = torch.tensor([0, *(len(part[0]) for part in parts)]).cumsum(0)[:-1]
    moved = [(a, e, c + f, n + f) for (a, e, c, n), f in zip(parts, first.tolist(), strict=True)]
    return tuple(torch.cat(columns) for columns in zip(*moved, strict=True))


def passed(layer, graph) -> dict:
    """Output, gradients of a sum of its squares, and what the pass leaves in the layer."""
    atoms, edges, centres, neighbours = graph
    atoms, edges = atoms.clone().requires_grad_(), edges.clone().requires_grad_()
    out = layer(atoms, edges, centres, neighbours)
    (out * out.cos()).sum().backward()
    sums = {f"d {name}": p.grad for name, p in layer.named_parameters()}
    return {"out": out.detach(), "atoms": atoms.grad, "edges": edges.grad}, sums, layer.state_dict()


class Alone(nn.Module):
    """A batch norm by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = BatchNorm(ATOM)

    def forward(self, atoms, edges, centres, neighbours):
        return self.norm(atoms) + 0 * edges.sum()


LAYERS = {
    "norm": Alone,
    "gated": lambda: GatedConvolution(ATOM, EDGE),
    "isomorphism": lambda: EdgeIsomorphism(CSGConfig(atom_fea_len=ATOM), EDGE),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("count", [2, 3])
def test_a_layer_on_parts_is_the_layer_on_the_whole(name, count, threads):
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    parts = list(graphs(4))
    whole = passed(copy.deepcopy(layer), together(parts))
    shares = [parts[rank::count] for rank in range(count)]
    copies = [copy.deepcopy(layer) for _ in shares]
    team = threads(count)

    def one(rank):
        with distributed.dividing(len(parts)):
            return passed(copies[rank], together(shares[rank]))

    found = team.run(one)
    order = [k for rank in range(count) for k in range(len(parts))[rank::count]]
    for kind, of in (("out", 0), ("atoms", 0), ("edges", 1)):
        pieces = torch.cat([each[0][kind] for each in found]).split([len(parts[k][of]) for k in order])
        sorted_pieces = [piece for _, piece in sorted(zip(order, pieces, strict=True), key=lambda pair: pair[0])]
        torch.testing.assert_close(torch.cat(sorted_pieces), whole[0][kind], rtol=1e-11, atol=1e-12)
    for key, value in whole[1].items():
        torch.testing.assert_close(sum(f[1][key] for f in found), value, rtol=1e-10, atol=1e-11, msg=key)
    for one in found:
        for key, value in whole[2].items():
            torch.testing.assert_close(one[2][key], value, rtol=1e-12, atol=1e-12, msg=key)


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"swa": 1}, {"ema": 0.5, "clip": 0.1}, {"adaptive": 0.5}, {"batch_size": 5}, {"max_edges": 30}],
    ids=str,
)
def test_training_in_parts_is_training(options, count, threads):
    """SGD; the batches have 4, 4 and 3 crystals, of 5, 5 and 1 the last is alone and joins."""
    options = dict(options)
    update = options.pop("adaptive", None)

    def fit():
        return trainer(adaptive=AdaptiveWeights(update) if update else None, **options)

    alone = fit()
    alone.run()
    many = [fit() for _ in range(count)]
    threads(count).run(lambda rank: many[rank].run())
    for one in many:
        for name, value in alone.best_state.items():
            torch.testing.assert_close(one.best_state[name], value, rtol=1e-4, atol=2e-6, msg=name)
            assert torch.equal(one.best_state[name], many[0].best_state[name]), name
        for mine, theirs in zip(one.history, alone.history, strict=True):
            assert mine.losses == pytest.approx(theirs.losses, rel=1e-5)
            assert mine.weights == pytest.approx(theirs.weights, rel=1e-5)
        assert one.steps == alone.steps


def test_every_crystal_has_one_process_and_edges_are_shared(threads):
    sizes = torch.tensor([900, 1, 500, 400, 20, 30, 40, 700, 600, 50, 10])
    rows = torch.arange(100, 111)

    def one(rank):
        with distributed.dividing(len(rows)):
            return distributed.part(rows, sizes)

    found = threads(3).run(one)
    assert torch.cat(found).sort().values.tolist() == rows.tolist()
    edges = [int(sizes[part - 100].sum()) for part in found]
    assert max(edges) - min(edges) < 900 // 2


def test_too_few_crystals_are_not_divided(threads):
    rows, sizes = torch.arange(2), torch.ones(2)

    def one(rank):
        with distributed.dividing(len(rows)):
            return distributed.is_divided(), distributed.part(rows, sizes).tolist()

    assert threads(3).run(one) == [(False, [0, 1])] * 3


def test_a_weight_that_no_process_used_stays_without_gradient(threads):
    def one(rank):
        used, idle, half = (nn.Parameter(torch.zeros(2)) for _ in range(3))
        used.grad = torch.ones(2)
        half.grad = None if rank else torch.ones(2)
        with distributed.dividing(2):
            extra = distributed.sum_gradients([used, idle, half], {"loss": torch.tensor(1.5)})
        return used.grad.tolist(), idle.grad, half.grad.tolist(), extra["loss"].item()

    assert threads(2).run(one) == [([2, 2], None, [1, 1], 3.0)] * 2


def test_one_that_asks_is_heard_by_all(threads):
    assert threads(3).run(lambda rank: distributed.largest(2 * (rank == 1))) == [2] * 3
    assert threads(3).run(lambda rank: distributed.largest(0)) == [0] * 3


def test_random_numbers_differ_where_a_batch_is_divided_and_only_there(threads, monkeypatch):
    seeds, team = {}, threads(2)
    monkeypatch.setattr(distributed, "seed_step", SEED_STEP)
    monkeypatch.setattr(torch, "manual_seed", lambda seed: seeds.setdefault(rows, []).append(seed))
    for rows in (1, 2):

        def one(rank, rows=rows):
            with distributed.dividing(rows):
                distributed.seed_step(7, 3)

        team.run(one)
    assert len(set(seeds[1])) == 1 and len(set(seeds[2])) == 2


def test_parts_of_unequal_numbers_of_batches_ask_equally_often(threads):
    """A stop in one process is one of all, at the same batch."""
    one = trainer()
    lengths = one.collator.length["edges"].tolist()
    alone = raw_outputs(one.model, one.collator, one.rows, batch_size=64)
    calls = [[], []]
    team = threads(2)

    def predict(rank):
        model = copy.deepcopy(one.model)
        options = {"batch_size": 64, "max_edges": max(lengths) + 1}
        ask = lambda: calls[rank].append(distributed.largest(int(rank == 0 and len(calls[0]) == 1)))  # noqa: E731
        return raw_outputs(model, one.collator, one.rows, check_stop=ask, **options)

    found = team.run(predict)
    assert calls[0] == calls[1] and calls[0][:3] == [0, 1, 0]
    for each in found:
        for name, values in alone.items():
            torch.testing.assert_close(each[name], values, rtol=1e-4, atol=1e-6)


def test_processes_that_read_other_data_are_refused(threads):
    threads(2).run(lambda rank: distributed.check_same(b"ids", b"labels"))
    with pytest.raises(DataError, match="other crystals, labels or flags"):
        threads(2).run(lambda rank: distributed.check_same(b"ids", b"labels"[rank:]))


def test_within_by_itself_a_process_shares_nothing(threads):
    def one(rank):
        with distributed.by_itself(), distributed.dividing(9):
            return distributed.is_divided(), distributed.largest(rank)

    assert threads(1).run(one) == [(False, 0)]


def test_a_row_alone_is_normalised_by_the_running_statistics():
    norm = BatchNorm(3)
    norm(torch.randn(50, 3) * 4 + 2)
    before = copy.deepcopy(norm.state_dict())
    row = torch.randn(1, 3)
    assert torch.equal(norm(row), norm.eval()(row))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(job, "count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(DataError, match="4 processes, and 2 GPUs: see --nproc-per-node"):
        job.device("cuda")


def test_alone_nothing_is_summed():
    values = torch.ones(3)
    assert distributed.summed(values) is values
    assert torch.equal(distributed.from_each(values), values[None])
    assert not distributed.is_divided()
    assert job.count() == 1 and job.is_first() and job.may_speak()


def test_what_torchrun_cannot_share_is_refused(monkeypatch):
    monkeypatch.setattr(job, "count", lambda: 2)
    with pytest.raises(DataError, match=r"predict\.py is no training run"):
        job.refuse_several("predict.py")

"""What is meant for GPUs: bfloat16, compiled networks, graphs in their memory, checkpoints; most of it on a CPU."""

import pytest
import torch
from helpers import predict, refused, result_file, root_folder, same_weights, table, train, weights
from torch import nn

from cgcnn.cli import train_command
from cgcnn.precision import autocast, full
from cgcnn.training import Trainer

SMALL = ("--epochs", 2, "--batch-size", 5, "--threads", 1, "--val-size", 3, "--test-size", 3)
NETWORKS = {
    "cgcnn": ("--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 2, "--pooling", "attention"),
    "csgann": ("--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 1, "--pooling", "set2set", "--learnable-edges"),
    "csginn": ("--atom-fea-len", 8, "--h-fea-len", 8, "--n-conv", 1),
    "ecnet": ("--hidden-channels", 8, "--n-filters", 8, "--tower-h1", 8, "--tower-h2", 4),
    "crystalformer": ("--model-dim", 16, "--head-num", 2, "--num-layers", 2, "--ff-dim", 16, "--embedding-dim", 12),
}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return root_folder(tmp_path_factory.mktemp("data") / "root")


@pytest.mark.parametrize("model", NETWORKS)
def test_bfloat16_learns_what_float32_learns(model, folder, tmp_path):
    """Weights stay float32; the loss of the second epoch differs by as much as products of 8 bits do."""
    words = ("--model", model, *NETWORKS[model], *SMALL)
    for name in ("float32", "bf16"):
        train(folder, tmp_path / name, *words, "--precision", name)
    losses = [
        table(result_file(tmp_path / name, "split1_history.csv")).filter(like="loss") for name in ("float32", "bf16")
    ]
    assert losses[1].to_numpy().ravel().tolist() == pytest.approx(losses[0].to_numpy().ravel().tolist(), rel=0.05)
    one, other = (weights(tmp_path / name / "model_best.pth.tar")[0] for name in ("float32", "bf16"))
    assert {value.dtype for value in other.values() if value.is_floating_point()} == {torch.float32}
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_products_are_in_bfloat16_and_sums_are_not():
    layer, rows = nn.Linear(3, 2), torch.randn(4, 3)
    with autocast("cpu", "bf16"):
        assert layer(rows).dtype == torch.bfloat16
        assert full(layer(rows)).dtype == torch.float32
    with autocast("cpu", "float32"):
        assert layer(rows).dtype == torch.float32


@pytest.mark.parametrize("model", ["cgcnn", "crystalformer"])
def test_a_compiled_network_is_the_same_network(model, folder, tmp_path, monkeypatch):
    """Traced as for the compiler, and run as it was traced."""
    traced = []

    def eager(network, **options):
        traced.append(network)
        network._compiled_call_impl = torch.compile(network._call_impl, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", eager)
    words = ("--model", model, *NETWORKS[model], *SMALL)
    train(folder, tmp_path / "compiled", *words, "--compile")
    train(folder, tmp_path / "plain", *words)
    assert traced
    assert same_weights(tmp_path / "compiled" / "model_best.pth.tar", tmp_path / "plain" / "model_best.pth.tar")
    assert predict(tmp_path / "compiled" / "model_best.pth.tar", folder, tmp_path / "new.csv").status == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_data_on_a_gpu_needs_one(folder, tmp_path):
    assert "--data-on-gpu" in refused(train_command, folder, "--data-on-gpu", "--out-dir", tmp_path)


def train_on_gpu(folder, out, *words):
    assert train_command([str(word) for word in (folder, "--out-dir", out, *words)]) == 0


@needs_gpu
@pytest.mark.parametrize("model", NETWORKS)
def test_a_gpu_learns_what_a_cpu_learns(model, folder, tmp_path):
    """From data in its memory, or copied; its checkpoint goes on without it, and predicts without it."""
    words = ("--model", model, *NETWORKS[model], *SMALL)
    train(folder, tmp_path / "cpu", *words)
    for name in ("data-on-gpu", "no-data-on-gpu"):
        train_on_gpu(folder, tmp_path / name, *words, f"--{name}")
        mine, theirs = (table(result_file(tmp_path / out, "split1_history.csv")) for out in ("cpu", name))
        assert theirs["val_score"].tolist() == pytest.approx(mine["val_score"].tolist(), rel=1e-2)
    checkpoint = tmp_path / "data-on-gpu" / "checkpoint.pth.tar"
    train(folder, tmp_path / "data-on-gpu", "--resume", checkpoint, "--epochs", 3)
    assert predict(tmp_path / "data-on-gpu" / "model_best.pth.tar", folder, tmp_path / "new.csv").status == 0
    resumed = ("--resume", tmp_path / "cpu" / "checkpoint.pth.tar", "--no-disable-cuda", "--epochs", 3)
    train_on_gpu(folder, tmp_path / "cpu", *resumed)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_run_with_its_data_on_a_gpu_goes_on_without(folder, tmp_path):
    train(folder, tmp_path, *SMALL, *NETWORKS["csginn"])
    path = tmp_path / "checkpoint.pth.tar"
    content = torch.load(path, weights_only=True)
    content["args"] |= {"data_on_gpu": True, "disable_cuda": False}
    content["training"]["trainer"]["cuda_rng"] = [torch.get_rng_state()] * 4
    torch.save(content, path)
    train(folder, tmp_path, "--resume", path, "--epochs", 3)


def test_a_full_gpu_is_told(folder, tmp_path, monkeypatch):
    def full(trainer):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …")

    monkeypatch.setattr(Trainer, "run", full)
    line = refused(train_command, folder, "--out-dir", tmp_path, *SMALL)
    assert "the GPU's memory is full (CUDA out of memory. Tried to allocate 2.00 GiB." in line
    assert "--no-data-on-gpu" in line and line.count("\n") == 1

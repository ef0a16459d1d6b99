"""With --swa the averaged network and that of the best epoch are both tested, told, written and kept."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers import predict, read_rows, result_file, root_folder, same_weights, table, train, weights

import cgcnn
from cgcnn import training
from cgcnn.fitting import Epoch
from cgcnn.resume import SplitResult
from cgcnn.tested import candidates, which

COMMON = ["--val-size", "3", "--test-size", "3", "--batch-size", "4"]
LEARNS = ["--optim", "Adam", "--lr", 0.003, "--scheduler", "const"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return root_folder(tmp_path_factory.mktemp("root") / "data")


def state(number: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(number)}


def trained(averaged: list[bool], others: list, score: float = 1.0, scores=(3.0, 1.0, 2.0)) -> SplitResult:
    history = [Epoch({}, {}, each, {}, 0.0, 0.0) for each in scores]
    states = [state(k) for k in range(len(averaged))]
    return SplitResult(states, history, score, others=others, averaged=averaged)


def test_the_two_of_a_single_network():
    result = trained([True], [state(9)])
    assert candidates(result) == {"averaged": result.states, "epoch": result.others}
    assert which(result) == "averaged network (best on validation)"
    assert which(result, "epoch") == "network of epoch 2 (for comparison)"
    result = trained([False], [state(9)])
    assert candidates(result) == {"averaged": result.others, "epoch": result.states}
    assert which(result) == "network of epoch 2 (best on validation)"
    assert which(result, "averaged") == "averaged network (for comparison)"


def test_the_two_of_an_ensemble_are_of_one_kind_each():
    """The second network has no average: patience ended it before."""
    result = trained([True, False, False], [state(7), None, state(8)])
    found = {name: [each["w"].item() for each in states] for name, states in candidates(result).items()}
    assert found == {"averaged": [0, 1, 8], "epoch": [7, 1, 2]}
    assert which(result) == "mean of 3 networks (best on validation)"
    assert which(trained([True, True], [state(5), state(6)])) == "mean of 2 averaged networks (best on validation)"
    assert which(result, "averaged") == "mean of 3 averaged networks (for comparison)"


def test_without_averages_there_is_nothing_to_compare():
    assert candidates(trained([False, False], [None, None])) == {}
    before = trained([False], [None]).to_dict()
    del before["others"], before["averaged"]  # as an earlier version wrote it
    assert candidates(SplitResult.from_dict(before)) == {}


def spoil(model, batches) -> None:
    """In the place of the last thing that happens to an average."""
    with torch.no_grad():
        model.heads[0].bias += 100
    model.eval()


@pytest.mark.parametrize("is_spoilt", [False, True])
def test_both_are_tested_and_kept(is_spoilt, root, tmp_path, monkeypatch):
    if is_spoilt:
        monkeypatch.setattr(training, "refresh_statistics", spoil)
    ran = train(root, tmp_path, "--epochs", 4, "--swa", 2, *LEARNS, *COMMON)
    both = table(result_file(tmp_path, "swa.csv"))
    assert both.network.tolist() == ["averaged", "epoch"]
    assert both.split.tolist() == [1, 1]
    assert both.is_saved.sum() == 1
    assert ran.out.count("MAE") == 4  # two targets of two networks
    assert ran.out.index("(best on validation)") < ran.out.index("(for comparison)")
    (kept,), (beside,) = both[both.is_saved].index, both[~both.is_saved].index
    assert both.Val_Score[kept] <= both.Val_Score[beside]
    assert both.network[kept] == "epoch" or not is_spoilt
    metrics = table(result_file(tmp_path, "metrics.csv"))
    assert metrics.iloc[0, 1:].tolist() == pytest.approx(both.loc[kept, metrics.columns[1:]].tolist(), nan_ok=True)
    other = result_file(tmp_path, f"{both.network[beside]}_model.pt")
    assert not list(tmp_path.rglob(f"*_{both.network[kept]}_model.pt"))
    assert not same_weights(other, result_file(tmp_path, "trained_model.pt"))
    # the file predicts what its row says
    predict(other, root, tmp_path / "p.csv")
    labels = table(tmp_path / "test_results.csv").set_index("cif_id")
    predicted = table(tmp_path / "p.csv").set_index("cif_id").loc[labels.index]
    error = (predicted.band_gap_pred - labels.band_gap_target).abs().mean()
    assert error == pytest.approx(both["BandGap_MAE"][beside], rel=1e-4)
    assert cgcnn.load_model(other).trained.domain is not None


def test_the_average_is_the_mean_after_every_step_of_the_last_epochs(root, tmp_path, monkeypatch):
    plain, seen = training.Trainer._step, []

    def _step(trainer, *words):
        plain(trainer, *words)
        seen.append(trainer.model.heads[0].weight.detach().clone())

    monkeypatch.setattr(training.Trainer, "_step", _step)
    train(root, tmp_path, "--epochs", 3, "--swa", 2, *LEARNS, "--no-is-validate", *COMMON[2:])
    steps = len(seen) // 3
    (state,) = weights(result_file(tmp_path, "trained_model.pt"))
    torch.testing.assert_close(state["heads.0.weight"], torch.stack(seen[steps:]).mean(0))
    (state,) = weights(result_file(tmp_path, "epoch_model.pt"))
    assert torch.equal(state["heads.0.weight"], seen[-1])


def test_the_rate_that_follows_the_steps_rests_while_they_are_averaged(root, tmp_path):
    """10 training crystals: three steps an epoch; the rate in the history is that of an epoch's last step."""
    words = ["--epochs", 4, "--lr", 0.01, "--scheduler", "inverse_sqrt_nowarmup", "--sch-params", 5, *COMMON]
    plain = [0.01 * (5 / (5 + t)) ** 0.5 for t in (2, 5, 8, 11)]
    for name, swa, rates in (("plain", 0, plain), ("swa", 2, [*plain[:2], *[0.01 * (5 / 11) ** 0.5] * 2])):
        train(root, tmp_path / name, *words, "--swa", swa)
        assert table(result_file(tmp_path / name, "split1_history.csv")).lr.tolist() == pytest.approx(rates)
    train(root, tmp_path / "const", *words[:4], "--scheduler", "const", "--swa", 2, *COMMON)
    assert table(result_file(tmp_path / "const", "split1_history.csv")).lr.tolist() == [0.01] * 4


def test_every_split_and_an_ensemble(root, tmp_path):
    train(root, tmp_path, "--epochs", 2, "--swa", 1, "--num-splits", 2, "--ensemble", 2, *LEARNS, *COMMON)
    both = table(result_file(tmp_path, "swa.csv"))
    assert both[["split", "network"]].values.tolist() == [[k, n] for k in (1, 2) for n in ("averaged", "epoch")]
    for split, rows in both.groupby("split"):
        for name, is_saved in zip(rows.network, rows.is_saved, strict=True):
            found = list((tmp_path / "result").glob(f"*_split{split}_{name}_model.pt"))
            assert len(found) == (0 if is_saved else 1)
            assert all(len(weights(path)) == 2 for path in found)


def test_without_validation_the_average_is_the_model(root, tmp_path):
    ran = train(root, tmp_path, "--epochs", 2, "--swa", 1, "--no-is-validate", "--test-size", 3, *LEARNS)
    assert "averaged network (last epochs, no validation)" in ran.out
    assert "network of epoch 2 (last epoch, no validation)" in ran.out
    assert table(result_file(tmp_path, "swa.csv")).is_saved.tolist() == [True, False]


def test_patience_may_end_before_there_is_an_average(root, tmp_path):
    ran = train(root, tmp_path, "--epochs", 30, "--swa", 1, "--patience", 1, "--lr", 0, *COMMON)
    assert "for comparison" not in ran.out
    assert not list(tmp_path.rglob("*_swa.csv"))


def test_nothing_more_is_written_without_swa(root, tmp_path):
    train(root, tmp_path, "--epochs", 1, *COMMON)
    assert not [path for path in (tmp_path / "result").iterdir() if path.name.endswith(("swa.csv", "epoch_model.pt"))]


def test_the_files_of_an_earlier_run_are_moved(root, tmp_path):
    for _ in range(2):
        train(root, tmp_path, "--epochs", 2, "--swa", 1, *LEARNS, *COMMON)
    moved = {path.name for path in (tmp_path / "result" / "previous").rglob("*")}
    assert any(name.endswith("_swa.csv") for name in moved)
    assert sum(name.endswith(("_averaged_model.pt", "_epoch_model.pt")) for name in moved) == 1


def test_from_python(root, tmp_path):
    result = cgcnn.fit(root, epochs=2, swa=1, out_dir=tmp_path, batch_size=4, val_size=3, test_size=3)
    assert result.swa.network.tolist() == ["averaged", "epoch"]
    written = pd.read_csv(result_file(tmp_path, "swa.csv"))
    assert list(written.columns) == list(result.swa.columns)
    assert len(read_rows(result_file(tmp_path, "metrics.csv"))) == 2

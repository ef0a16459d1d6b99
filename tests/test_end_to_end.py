"""From a folder of crystals to files, numbers and a model that predicts: the printed commands, end to end."""

import ast
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import (
    REPOSITORY,
    copy_folder,
    predict,
    read_rows,
    result_file,
    root_folder,
    run,
    same_weights,
    table,
    train,
    write_cif,
    write_rows,
)

import cgcnn
from cgcnn.cli import train_command

TARGETS = ["work_function_target", "work_function_pred", "band_gap_target", "band_gap_pred"]
CATEGORY = ["material_type_target", "material_type_pred", "metal_prob", "semiconductor_prob"]
NOVELTY = ["unlike_training", "distance_to_training"]
COMMON = ["--val-ratio", 0.2, "--test-ratio", 0.2, "--batch-size", 4]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return root_folder(tmp_path_factory.mktemp("root") / "data")


@pytest.fixture(scope="module")
def regression(tmp_path_factory) -> tuple[Path, Path]:
    """data/sample-regression and what its printed command leaves behind."""
    folder = tmp_path_factory.mktemp("regression")
    data = copy_folder("data/sample-regression", folder / "data")
    train(data, folder / "out", "--task", "regression", "--epochs", 3)
    return data, folder / "out"


@pytest.fixture(scope="module")
def full(tmp_path_factory, root) -> Path:
    """A run of root_dir with everything that spec and seed name at once."""
    out = tmp_path_factory.mktemp("full")
    words = ["--auxiliary-tasks", "--aux-task3-weight", 0.05, "--conditional-loss", "--adaptive-weights"]
    train(root, out, "--epochs", 3, "--pooling", "attention", "--num-splits", 2, *words, *COMMON)
    return out


def regression_metrics(target: pd.Series, prediction: pd.Series) -> tuple[float, float]:
    known = target.notna()
    target, prediction = target[known], prediction[known]
    if not len(target):
        return math.nan, math.nan
    spread = ((target - target.mean()) ** 2).sum()
    r2 = 1 - ((target - prediction) ** 2).sum() / spread if spread > 0 else math.nan
    return (target - prediction).abs().mean(), r2


def metric_columns(out: Path) -> list[str]:
    """The columns of metrics.csv that belong to the test part."""
    return [column for column in table(result_file(out, "metrics.csv")) if not column.startswith("Val_")]


def labelled_salts(folder: Path) -> Path:
    """64 crystals of CsCl type whose target is a sum over their elements: easy to learn, impossible to know."""
    folder.mkdir()
    first = {"Li": 0.0, "Na": 1.0, "K": 2.0, "Rb": 3.0, "Ca": 4.0, "Sr": 5.0, "Cu": 6.0, "Ag": 7.0}
    second = {"F": 0.0, "Cl": 1.5, "Br": 3.0, "I": 4.5, "O": -2.0, "S": -3.5, "Se": -5.0, "Te": -6.5}
    rows = [["cif_id", "energy", "high"]]
    for a, x in first.items():
        for b, y in second.items():
            write_cif(folder / f"{a}{b}.cif", [(a, "0 0 0"), (b, "0.5 0.5 0.5")])
            rows.append([f"{a}{b}", x + y, int(x + y > 2)])
    write_rows(folder / "id_prop.csv", rows)
    return folder


# the printed commands, shortened


def test_sample_regression_writes_the_unnamed_table(regression):
    data, out = regression
    results = table(out / "test_results.csv")
    assert list(results) == ["cif_id", "target", "prediction"]
    assert len(results) == max(1, len(read_rows(data / "id_prop.csv")) // 10)
    labels = {row[0]: float(row[1]) for row in read_rows(data / "id_prop.csv")}
    assert results.target.tolist() == pytest.approx([labels[i] for i in results.cif_id])
    assert metric_columns(out) == ["Split", "target_MAE", "target_R^2"]
    assert {"checkpoint.pth.tar", "model_best.pth.tar", "test_results.csv", "result"} == {
        p.name for p in out.iterdir()
    }


def test_sample_classification_writes_the_probability_of_class_1(tmp_path):
    data = copy_folder("data/sample-classification", tmp_path / "data")
    train(data, tmp_path, "--task", "classification", "--epochs", 3, "--test-ratio", 0.3)
    results = table(tmp_path / "test_results.csv")
    assert list(results) == ["cif_id", "target", "prediction"]
    assert results.prediction.between(0, 1).all()
    assert set(results.target) == {0, 1}
    row = table(result_file(tmp_path, "metrics.csv")).iloc[0]
    assert row["target_ACC"] == pytest.approx(((results.prediction > 0.5) == results.target).mean())
    chosen = np.where(results.target == 1, results.prediction, 1 - results.prediction)
    assert row["target_Loss"] == pytest.approx(-np.log(chosen).mean(), rel=1e-4)
    assert predict(tmp_path / "model_best.pth.tar", data, tmp_path / "p.csv").status == 0
    assert list(table(tmp_path / "p.csv")) == ["cif_id", "target", "prediction", *NOVELTY]


def test_vacancy_data_learns_an_energy_and_a_class(tmp_path):
    data = copy_folder("vacancy_data", tmp_path / "data", take=slice(0, None, 2))
    words = ["--task", "multi", "--cls-weight", 0.5, "--epochs", 3, "--batch-size", 128, "--lr", 0.001]
    train(data, tmp_path, *words)
    results = table(tmp_path / "test_results.csv")
    columns = ["formation_energy_target", "formation_energy_pred"]
    columns += ["defect_label_target", "defect_label_pred", "defect_label_prob"]
    assert list(results) == ["cif_id", *columns]
    assert (results.defect_label_pred == (results.defect_label_prob > 0.5)).all()
    row = table(result_file(tmp_path, "metrics.csv"))
    energy, label = ["formation_energy_MAE", "formation_energy_R^2"], ["ACC", "F1", "AUC", "Loss"]
    assert metric_columns(tmp_path) == ["Split", *energy, *(f"defect_label_{name}" for name in label)]
    assert row["formation_energy_MAE"][0] == pytest.approx(regression_metrics(*(results[c] for c in columns[:2]))[0])
    output = tmp_path / "p.csv"
    assert predict(tmp_path / "model_best.pth.tar", data, output).status == 0
    assert list(table(output)) == ["cif_id", *columns, *NOVELTY]


@pytest.mark.parametrize("name", ["unnamed", "named"])
def test_vacancy_table_without_header_has_the_same_names(name, tmp_path):
    data = copy_folder("vacancy_data", tmp_path / "data", take=slice(0, 12))
    if name == "unnamed":
        write_rows(data / "id_prop.csv", read_rows(data / "id_prop.csv")[1:])
    train(data, tmp_path, "--task", "multi", "--epochs", 1)
    assert "defect_label_prob" in table(tmp_path / "test_results.csv")


def test_root_dir_writes_every_file(full):
    results = full / "result"
    start = "step_attention_adaptive_cond_cls0.60_ratio1.00_thresh0.50_task2w0.50_aux+_aux1w0.10_aux2w0.10_aux3w0.05"
    run_id = f"{start}_minbg0.015_lr0.01_e3_wd0.0"
    endings = [
        "metrics.csv",
        "mae.csv",
        "baselines.csv",
        "config.toml",
        "trained_model.pt",
        "overall_timing_summary.csv",
    ]
    endings += ["adaptive_weights_summary.csv", "report.html"]
    for k in (1, 2):
        endings += [f"split{k}_{e}" for e in ("trained_model.pt", "timing.csv", "ids.csv", "history.csv")]
    expected = {f"{run_id}_{ending}" for ending in endings} | {"log", "predictions"}
    assert {path.name for path in results.iterdir()} == expected
    assert sorted(path.name for path in (results / "predictions").iterdir()) == [
        f"{run_id}_predictions.csv",
        f"{run_id}_validation.csv",
    ]
    logs = sorted(path.name for path in (results / "log").iterdir())
    assert [name.rpartition("_split")[0] for name in logs] == [run_id, run_id]
    assert [path.read_text().count(" train ") for path in sorted((results / "log").iterdir())] == [3, 3]


def test_root_dir_tables_have_the_columns_of_the_description(full):
    metrics = table(result_file(full, "metrics.csv"))
    names = ["WorkFunc_MAE", "WorkFunc_R^2", "BandGap_MAE", "BandGap_R^2"]
    assert metric_columns(full)[:5] == ["Split", *names]
    assert {"MaterialType_ACC", "MaterialType_Loss"} <= set(metrics)
    assert metrics.Split.tolist() == [1, 2]
    predictions = table(result_file(full, "predictions.csv"))
    assert list(predictions) == ["cif_id", *TARGETS, *CATEGORY, "split"]
    assert list(table(full / "test_results.csv")) == ["cif_id", *TARGETS, *CATEGORY]
    lines = result_file(full, "mae.csv").read_text().splitlines()
    body = [line.split(",") for line in lines if not line.startswith("#")]
    assert "# pooling = attention" in lines
    assert body[0] == ["Split", "WorkFunc_MAE", "BandGap_MAE"]
    assert [row[0] for row in body[1:]] == ["1", "2", "Average", "Std Dev"]
    gaps = metrics.BandGap_MAE
    assert float(body[3][2]) == pytest.approx(gaps.mean())
    assert float(body[4][2]) == pytest.approx(gaps.std(ddof=0))
    adaptive = table(result_file(full, "adaptive_weights_summary.csv"))
    assert list(adaptive) == ["split", "epoch", "work_function_weight", "band_gap_weight"]
    assert len(adaptive) == 6
    assert (adaptive.work_function_weight + adaptive.band_gap_weight).tolist() == pytest.approx([1.0] * 6)
    timing = table(result_file(full, "split1_timing.csv"))
    assert timing.epoch.tolist() == ["total", "mean", "fastest", "slowest", "1", "2", "3"]
    assert timing.seconds[4:].sum() == pytest.approx(timing.seconds[0])
    assert table(result_file(full, "overall_timing_summary.csv")).epochs.tolist() == [3, 3]


def test_metrics_are_those_of_the_predictions(full):
    metrics, predictions = table(result_file(full, "metrics.csv")), table(result_file(full, "predictions.csv"))
    for k, part in predictions.groupby("split"):
        row = metrics[metrics.Split == k].iloc[0]
        for short, name in (("WorkFunc", "work_function"), ("BandGap", "band_gap")):
            mae, r2 = regression_metrics(part[f"{name}_target"], part[f"{name}_pred"])
            assert row[f"{short}_MAE"] == pytest.approx(mae, nan_ok=True)
            assert row[f"{short}_R^2"] == pytest.approx(r2, nan_ok=True, rel=1e-5)
        assert (part.metal_prob + part.semiconductor_prob).tolist() == pytest.approx([1.0] * len(part))
        hits = part.material_type_pred == part.material_type_target
        assert row["MaterialType_ACC"] == pytest.approx(hits.mean())


def test_the_gap_follows_the_metal_rule(full):
    predictions = table(result_file(full, "predictions.csv"))
    metal = predictions.metal_prob > 0.5
    assert (predictions.band_gap_pred[metal] == 0).all()
    assert (predictions.band_gap_pred[~metal] >= 0.015).all()


def test_several_splits_differ_and_the_plain_name_is_the_best_on_validation(full):
    splits = [table(result_file(full, f"split{k}_ids.csv")) for k in (1, 2)]
    tests = [set(s.cif_id[s.split == "test"]) for s in splits]
    assert tests[0] != tests[1]
    best = [table(result_file(full, f"split{k}_history.csv")).val_score.min() for k in (1, 2)]
    winner = 1 + int(np.argmin(best))
    assert set(table(full / "test_results.csv").cif_id) == tests[winner - 1]
    plain = [p for p in (full / "result").glob("*_trained_model.pt") if "_split" not in p.name]
    assert same_weights(plain[0], result_file(full, f"split{winner}_trained_model.pt"))
    assert same_weights(plain[0], full / "model_best.pth.tar")


def test_folds_test_every_crystal_once(root, tmp_path):
    train(root, tmp_path, "--folds", 3, "--epochs", 1)
    predictions = table(result_file(tmp_path, "predictions.csv"))
    assert sorted(predictions.cif_id) == sorted(row[0] for row in read_rows(root / "id_prop.csv")[1:])
    assert predictions.split.nunique() == 3


def test_ensemble_is_the_mean_of_its_networks(root, tmp_path):
    train(root, tmp_path, "--ensemble", 2, "--epochs", 2, *COMMON)
    model = cgcnn.load_model(tmp_path / "model_best.pth.tar")
    assert len(model.trained.networks) == 2
    files = [root / f"{i}.cif" for i in table(tmp_path / "test_results.csv").cif_id]
    whole = model.predict(files)
    networks, singles = model.trained.networks, []
    for network in networks:
        model.trained.networks = [network]
        singles.append(model.predict(files).band_gap_pred)
    assert (singles[0] - singles[1]).abs().max() > 1e-3
    assert whole.band_gap_pred.to_numpy() == pytest.approx(((singles[0] + singles[1]) / 2).to_numpy())


def test_the_split_that_was_written_can_be_fed_back(root, tmp_path):
    train(root, tmp_path / "one", "--epochs", 1, "--seed", 9, *COMMON)
    written = result_file(tmp_path / "one", "split1_ids.csv")
    train(root, tmp_path / "two", "--epochs", 1, "--split-file", written)
    one, two = (table(tmp_path / name / "test_results.csv") for name in ("one", "two"))
    assert set(one.cif_id) == set(two.cif_id)
    assert written.read_bytes() == result_file(tmp_path / "two", "split1_ids.csv").read_bytes() or (
        sorted(read_rows(written)) == sorted(read_rows(result_file(tmp_path / "two", "split1_ids.csv")))
    )


@pytest.mark.parametrize("header", [True, False])
def test_three_classes_have_a_probability_each(header, tmp_path):
    data = copy_folder("data/sample-classification", tmp_path / "data")
    rows = [[row[0], k % 3] for k, row in enumerate(read_rows(data / "id_prop.csv"))]
    write_rows(data / "id_prop.csv", [["cif_id", "kind"], *rows] if header else rows)
    train(data, tmp_path, "--task", "classification", "--epochs", 2, "--class-weights", "balanced")
    results = table(tmp_path / "test_results.csv")
    name, classes = ("kind", "kind") if header else ("", "class")
    expected = ["target", "prediction"] if not header else [f"{name}_target", f"{name}_pred"]
    probabilities = [f"{classes}_prob_{k}" for k in range(3)]
    assert list(results) == ["cif_id", *expected, *probabilities]
    assert results[probabilities].sum(axis=1).to_numpy() == pytest.approx(np.ones(len(results)))
    assert (results[expected[1]] == results[probabilities].to_numpy().argmax(axis=1)).all()


def test_targets_chosen_by_name_and_kind(root, tmp_path):
    rows = read_rows(root / "id_prop.csv")
    data = shutil.copytree(root, tmp_path / "data")
    table_rows = [[*row, "is_metal" if k == 0 else k % 2] for k, row in enumerate(rows)]
    write_rows(data / "id_prop.csv", table_rows)
    words = ["--targets", "band_gap", "is_metal:class", "--task-weights", "band_gap=0.9"]
    ran = train(data, tmp_path, "--epochs", 1, *words)
    assert list(table(tmp_path / "test_results.csv")) == [
        "cif_id", "band_gap_target", "band_gap_pred", "is_metal_target", "is_metal_pred", "is_metal_prob",
    ]  # fmt: skip
    assert "band_gap (eV)" in ran.out


def test_the_end_table_counts_known_labels_and_shows_the_baseline(root, tmp_path):
    ran = train(root, tmp_path, "--epochs", 2, "--val-size", 3, "--test-size", 8)
    results = table(tmp_path / "test_results.csv")
    labels = {row[0]: row[1:] for row in read_rows(root / "id_prop.csv")[1:]}
    split = table(result_file(tmp_path, "split1_ids.csv"))
    training = split.cif_id[split.split == "train"]
    for k, name in enumerate(("work_function", "band_gap")):
        (line,) = [line for line in ran.out.splitlines() if line.startswith(f"{name} (eV)")]
        known = results[f"{name}_target"].dropna()
        mean = np.mean([float(labels[i][k]) for i in training if labels[i][k]])
        mae, _ = regression_metrics(results[f"{name}_target"], results[f"{name}_pred"])
        words = line.split()
        assert int(words[2]) == len(known)
        assert float(words[4]) == pytest.approx(mae, abs=1e-4)
        assert words[7:9] == ["training", "mean"] and words[10] == "composition"
        assert float(words[9]) == pytest.approx((known - mean).abs().mean(), abs=1e-4)
    assert results.work_function_target.isna().any()
    assert "whole run" in ran.out


# learning


def test_an_easy_property_is_learned_and_a_class_with_it(tmp_path):
    data = labelled_salts(tmp_path / "data")
    words = ["--targets", "energy", "high:class", "--optim", "Adam", "--epochs", 60, "--batch-size", 16]
    train(data, tmp_path, *words, "--test-ratio", 0.25, "--scheduler", "cosine")
    row = table(result_file(tmp_path, "metrics.csv")).iloc[0]
    results = table(tmp_path / "test_results.csv")
    spread = (results.energy_target - results.energy_target.mean()).abs().mean()
    assert row["energy_R^2"] > 0.8
    assert row["energy_MAE"] < spread / 2
    assert row["high_ACC"] > 0.85
    assert row["high_AUC"] > 0.9


def test_test_labels_change_no_prediction(root, tmp_path):
    train(root, tmp_path / "one", "--epochs", 2, *COMMON)
    results = table(tmp_path / "one" / "test_results.csv")
    data = shutil.copytree(root, tmp_path / "data")
    held_out = set(results.cif_id)
    rows = read_rows(root / "id_prop.csv")
    write_rows(data / "id_prop.csv", [[r[0], "99", "88"] if r[0] in held_out else r for r in rows])
    train(data, tmp_path / "two", "--epochs", 2, *COMMON)
    changed = table(tmp_path / "two" / "test_results.csv")
    assert (changed.work_function_target == 99).all()
    assert changed[["cif_id", "work_function_pred", "band_gap_pred"]].equals(
        results[["cif_id", "work_function_pred", "band_gap_pred"]]
    )


def test_normaliser_is_that_of_the_training_part(root, tmp_path):
    train(root, tmp_path, "--epochs", 1, *COMMON)
    split = table(result_file(tmp_path, "split1_ids.csv"))
    labels = table(root / "id_prop.csv").set_index("cif_id").loc[split.cif_id[split.split == "train"]]
    for name, scale in cgcnn.load_model(tmp_path / "model_best.pth.tar").trained.normalizers.items():
        assert scale.mean == pytest.approx(labels[name].mean())
        assert scale.std == pytest.approx(labels[name].std(ddof=0))


def test_no_normalize_learns_on_the_unit_itself(root, tmp_path):
    train(root, tmp_path, "--epochs", 1, "--no-normalize", *COMMON)
    scales = cgcnn.load_model(tmp_path / "model_best.pth.tar").trained.normalizers.values()
    assert {(scale.mean, scale.std) for scale in scales} == {(0.0, 1.0)}


def test_a_crystal_without_any_label_trains_nothing_and_counts_nowhere(root, tmp_path):
    """Blank labels are masked: their crystals may stand in every part."""
    data = shutil.copytree(root, tmp_path / "data")
    rows = read_rows(root / "id_prop.csv")
    rows[3][1:] = ["", "nan"]
    write_rows(data / "id_prop.csv", rows)
    split = [
        ["cif_id", "split"],
        *([r[0], "test" if k < 5 else "val" if k < 8 else "train"] for k, r in enumerate(rows[1:])),
    ]
    write_rows(tmp_path / "split.csv", split)
    train(data, tmp_path / "out", "--epochs", 1, "--split-file", tmp_path / "split.csv")
    results = table(tmp_path / "out" / "test_results.csv").set_index("cif_id")
    assert results.loc[rows[3][0], ["work_function_target", "band_gap_target"]].isna().all()
    assert results.loc[rows[3][0], ["work_function_pred", "band_gap_pred"]].notna().all()
    row = table(result_file(tmp_path / "out", "metrics.csv")).iloc[0]
    assert row["WorkFunc_MAE"] == pytest.approx(
        regression_metrics(results.work_function_target, results.work_function_pred)[0]
    )


def test_blank_labels_are_no_part_of_the_training_loss(root, tmp_path):
    """Labels of 10⁴ in half of the rows, no normaliser, no steps: the mean squared error is 10⁸, not half of it."""
    data = shutil.copytree(root, tmp_path / "data")
    rows = read_rows(data / "id_prop.csv")
    write_rows(data / "id_prop.csv", [rows[0], *([r[0], 1e4 if k % 2 else "", 1] for k, r in enumerate(rows[1:]))])
    train(data, tmp_path, "--epochs", 1, "--lr", 0, "--no-normalize")
    loss = table(result_file(tmp_path, "split1_history.csv")).work_function_train_loss[0]
    assert loss == pytest.approx(1e8, rel=0.01)


def test_the_model_is_that_of_the_best_epoch(root, tmp_path):
    train(root, tmp_path, "--epochs", 12, "--lr", 0.1, *COMMON)
    history = table(result_file(tmp_path, "split1_history.csv"))
    best = history.val_score.idxmin()
    assert best < 11
    split = table(result_file(tmp_path, "split1_ids.csv"))
    assert predict(tmp_path / "model_best.pth.tar", root, tmp_path / "p.csv").status == 0
    part = table(tmp_path / "p.csv").set_index("cif_id").loc[split.cif_id[split.split == "val"]]
    mae, _ = regression_metrics(part.band_gap_target, part.band_gap_pred)
    assert history["val_band_gap MAE"][best] == pytest.approx(mae, rel=1e-4)
    assert history["val_band_gap MAE"][11] != pytest.approx(mae, rel=1e-4)


@pytest.mark.parametrize(
    "words",
    [
        ["--scheduler", "cosine", "--T-max", 2, "--eta-min", 0.001],
        ["--scheduler", "one-cycle"],
        ["--scheduler", "step", "--lr-milestones", 1, 2],
        ["--scheduler", "inverse_sqrt_nowarmup", "--sch-params", 5],
        ["--optim", "Adam"],
        ["--optim", "AdamW", "--weight-decay", 0.01],
        ["--momentum", 0.5],
        ["--ema", 0.9],
        ["--swa", 2],
        ["--clip-grad", 0.01],
        ["--pooling", "attention"],
        ["--readout", "classic"],
        ["--n-h", 2, "--n-conv", 1, "--atom-fea-len", 16, "--h-fea-len", 24],
        ["--dropout", 0.3],
        ["--loss", "l1"],
        ["--loss", "huber"],
        ["--neighbors", "classic"],
        ["--transforms", "work_function=log", "band_gap=scaling"],
        ["--task-weights", "work_function=0.1", "band_gap=0"],
        ["--task1-weight", 0.2],
        ["--adaptive-weights", "--adaptive-weight-update", 0.5],
        ["--auxiliary-tasks"],
        ["--conditional-loss", "--metal-weight", 0],
        ["--start-epoch", 1],
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_every_choice_changes_the_result(words, root, tmp_path, plain_run):
    train(root, tmp_path, "--epochs", 3, *COMMON, *words)
    results = table(tmp_path / "test_results.csv")
    numbers = results[["work_function_pred", "band_gap_pred"]]
    assert np.isfinite(numbers).all(axis=None)
    assert np.abs(numbers - plain_run[["work_function_pred", "band_gap_pred"]]).max(axis=None) > 1e-6
    assert predict(tmp_path / "model_best.pth.tar", root, tmp_path / "p.csv").status == 0
    again = table(tmp_path / "p.csv").set_index("cif_id").loc[results.cif_id, numbers.columns]
    assert again.to_numpy() == pytest.approx(numbers.to_numpy(), abs=1e-5, rel=1e-5)


@pytest.fixture(scope="module")
def plain_run(root, tmp_path_factory) -> pd.DataFrame:
    out = tmp_path_factory.mktemp("plain")
    train(root, out, "--epochs", 3, *COMMON)
    return table(out / "test_results.csv")


def test_balanced_class_weights_act(tmp_path):
    data = copy_folder("vacancy_data", tmp_path / "data", take=slice(0, 20))
    for name in ("none", "balanced"):
        train(data, tmp_path / name, "--task", "multi", "--epochs", 2, "--class-weights", name)
    one, two = (table(tmp_path / name / "test_results.csv") for name in ("none", "balanced"))
    assert (one.defect_label_prob - two.defect_label_prob).abs().max() > 1e-6


def test_workers_change_nothing(root, tmp_path, plain_run):
    train(root, tmp_path, "--epochs", 3, "--workers", 1, *COMMON)
    assert table(tmp_path / "test_results.csv").equals(plain_run)


def test_print_freq_changes_nothing_but_the_log(root, tmp_path, plain_run):
    train(root, tmp_path, "--epochs", 3, "--print-freq", 1, *COMMON)
    assert table(tmp_path / "test_results.csv").equals(plain_run)
    (log,) = (tmp_path / "result" / "log").iterdir()
    assert log.read_text().count(" batch ") >= 6


def test_the_log_and_the_history_have_the_same_losses(root, tmp_path):
    """16 crystals with blank labels in batches of 4, 4 and 2: the last line of an epoch is the epoch's loss."""
    train(root, tmp_path, "--epochs", 2, "--print-freq", 3, "--val-size", 3, "--test-size", 3, "--batch-size", 4)
    (log,) = (tmp_path / "result" / "log").iterdir()
    lines = [line for line in log.read_text().splitlines() if " batch 3 " in line]
    logged = [ast.literal_eval(line.partition(" loss ")[2]) for line in lines]
    history = table(result_file(tmp_path, "split1_history.csv"))
    for name in ("work_function", "band_gap"):
        assert [losses[name] for losses in logged] == pytest.approx(history[f"{name}_train_loss"].tolist())


def test_a_weight_of_zero_stays_zero_when_the_others_adapt(root, tmp_path):
    words = ["--auxiliary-tasks", "--adaptive-weights", "--adaptive-weight-update", 0.3]
    train(root, tmp_path, "--epochs", 2, *words, "--task-weights", "work_function=0", *COMMON)
    adaptive = table(result_file(tmp_path, "adaptive_weights_summary.csv"))
    assert adaptive.work_function_weight.tolist() == [0, 0]
    assert adaptive.band_gap_weight.tolist() == [0.5, 1]


def test_the_metal_rule_has_no_part_in_the_choice_of_an_epoch(root, tmp_path):
    """It turns every gap to 0 with one threshold, and none with the other."""
    scores = []
    for threshold in (0, 1):
        out = tmp_path / str(threshold)
        train(root, out, "--epochs", 2, "--conditional-loss", "--metal-threshold", threshold, *COMMON)
        scores.append(table(result_file(out, "split1_history.csv")).filter(like="val_"))
    assert scores[0].equals(scores[1])
    assert (table(tmp_path / "0" / "test_results.csv").band_gap_pred == 0).all()
    assert (table(tmp_path / "1" / "test_results.csv").band_gap_pred >= 0.015).all()


def test_patience_ends_a_run_that_gets_no_better(root, tmp_path):
    train(root, tmp_path, "--epochs", 30, "--patience", 2, "--lr", 0, *COMMON)
    history = table(result_file(tmp_path, "split1_history.csv"))
    best = history.val_score.idxmin()
    assert len(history) == best + 3 < 30


def test_patience_counts_from_the_start_epoch(root, tmp_path):
    train(root, tmp_path, "--start-epoch", 5, "--epochs", 30, "--patience", 3, "--lr", 0, *COMMON)
    history = table(result_file(tmp_path, "split1_history.csv"))
    assert len(history) == history.val_score.idxmin() + 4 < 25


def test_rates_of_the_schedulers_are_in_the_history(root, tmp_path):
    rates = {}
    for name, words in {
        "step": ["--lr-milestones", 1, 3],
        "cosine": ["--eta-min", 0.002],
    }.items():
        train(root, tmp_path / name, "--scheduler", name, "--epochs", 4, "--lr", 0.01, *words)
        rates[name] = table(result_file(tmp_path / name, "split1_history.csv")).lr.tolist()
    assert rates["step"] == pytest.approx([0.01, 0.001, 0.001, 0.0001])
    cosine = [0.002 + 0.008 * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates["cosine"] == pytest.approx(cosine)


@pytest.mark.parametrize("words", [[], ["--task", "multi"], ["--conditional-loss"]])
def test_without_a_test_part_there_is_still_a_model(words, root, tmp_path):
    data = root if "multi" not in words else copy_folder("vacancy_data", tmp_path / "data", take=slice(0, 10))
    train(data, tmp_path, "--epochs", 1, "--test-ratio", 0, *words)
    assert len(table(tmp_path / "test_results.csv")) == 0
    assert predict(tmp_path / "model_best.pth.tar", data, tmp_path / "p.csv").status == 0


def test_auxiliary_tasks_without_a_table_are_computed_and_said(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    (data / "ax.csv").unlink()
    ran = train(data, tmp_path, "--epochs", 1, "--auxiliary-tasks")
    assert "ax.csv: not there" in ran.out
    assert list(table(tmp_path / "test_results.csv")) == ["cif_id", *TARGETS]


def test_missing_categories_are_masked_and_said(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    rows = read_rows(data / "all.csv")
    write_rows(data / "all.csv", [rows[0], [rows[1][0], "unknown"], *rows[3:]])
    ran = train(data, tmp_path, "--epochs", 1, "--conditional-loss")
    assert "2 of 16 crystals have no category" in ran.out


# what was there before


def test_a_second_run_moves_the_first_to_previous(root, tmp_path):
    train(root, tmp_path, "--epochs", 1)
    before = {p.name: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and "log" not in p.parts}
    ran = train(root, tmp_path, "--epochs", 1, "--seed", 3)
    (folder,) = (tmp_path / "result" / "previous").iterdir()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert str(folder) in ran.out
    assert (tmp_path / "test_results.csv").read_bytes() != before["test_results.csv"]
    train(root, tmp_path, "--epochs", 1, "--run-name", "other")
    assert len(list((tmp_path / "result" / "previous").iterdir())) == 2
    assert len(list((tmp_path / "result").glob("*_metrics.csv"))) == 2


# predict.py


def test_a_list_of_ids_alone_is_predicted(regression, tmp_path):
    data, out = regression
    listed = copy_folder("data/sample-regression", tmp_path / "listed")
    ids = [row[0] for row in read_rows(data / "id_prop.csv")]
    write_rows(listed / "id_prop.csv", [["cif_id"], *([crystal_id] for crystal_id in reversed(ids))])
    assert predict(out / "model_best.pth.tar", listed, tmp_path / "p.csv").status == 0
    predicted = table(tmp_path / "p.csv")
    assert predicted.cif_id.tolist()[: len(ids)] == ids[::-1]
    assert predicted.target.isna().all() and predicted.prediction.notna().all()


def test_prediction_repeats_the_test_results_and_knows_the_labels(regression, tmp_path):
    data, out = regression
    ran = predict(out / "model_best.pth.tar", data, tmp_path / "p.csv")
    assert ran.status == 0
    predicted = table(tmp_path / "p.csv")
    assert predicted.cif_id.tolist() == [row[0] for row in read_rows(data / "id_prop.csv")]
    assert predicted.target.tolist() == pytest.approx([float(row[1]) for row in read_rows(data / "id_prop.csv")])
    results = table(out / "test_results.csv").set_index("cif_id")
    same = predicted.set_index("cif_id").loc[results.index]
    assert same.prediction.to_numpy() == pytest.approx(results.prediction.to_numpy(), rel=1e-5)
    for model in (out / "checkpoint.pth.tar", result_file(out, "trained_model.pt")):
        assert predict(model, data, tmp_path / "q.csv", "--batch-size", 3).status == 0
    again = table(tmp_path / "q.csv")
    assert again.prediction.to_numpy() == pytest.approx(predicted.prediction.to_numpy(), rel=1e-5)


def test_prediction_of_a_folder_without_labels(regression, tmp_path):
    data, out = regression
    bare = tmp_path / "bare"
    bare.mkdir()
    for path in data.glob("*.cif"):
        shutil.copy(path, bare)
    assert predict(out / "model_best.pth.tar", bare, tmp_path / "p.csv").status == 0
    predicted = table(tmp_path / "p.csv")
    assert predicted.cif_id.tolist() == sorted(path.stem for path in data.glob("*.cif"))
    assert predicted.target.isna().all()
    assert predicted.prediction.notna().all()


def test_prediction_of_one_file_in_every_format(regression, tmp_path):
    from pymatgen.core import Structure

    data, out = regression
    cif = sorted(data.glob("*.cif"))[0]
    structure = Structure.from_file(cif)
    structure.to(filename=str(tmp_path / "POSCAR"), fmt="poscar")
    structure.to(filename=str(tmp_path / "a.vasp"), fmt="poscar")
    (tmp_path / "b.json").write_text(json.dumps(structure.as_dict()))
    numbers = []
    for path in (cif, tmp_path / "POSCAR", tmp_path / "a.vasp", tmp_path / "b.json"):
        assert predict(out / "model_best.pth.tar", path, tmp_path / "p.csv").status == 0
        row = table(tmp_path / "p.csv").iloc[0]
        assert row.cif_id == path.stem
        numbers.append(row.prediction)
    assert numbers == pytest.approx([numbers[0]] * 4, rel=1e-4)


def test_broken_crystals_are_listed_and_the_others_predicted(regression, tmp_path):
    data, out = regression
    broken = shutil.copytree(data, tmp_path / "broken")
    (broken / "empty.cif").write_text("")
    (broken / "text.cif").write_text("no crystal\n")
    write_cif(broken / "alien.cif", [("Xx", "0 0 0")])
    with open(broken / "id_prop.csv", "a", encoding="utf-8") as file:
        file.write("lost,1.0\n")
    ran = predict(out / "model_best.pth.tar", broken, tmp_path / "p.csv")
    assert ran.status == 3
    failed = table(tmp_path / "p_failed.csv").set_index("cif_id").reason
    assert set(failed.index) == {"empty", "text", "alien", "lost"}
    assert failed.str.len().min() > 5
    assert "\n" not in "".join(failed)
    assert len(table(tmp_path / "p.csv")) == len(list(data.glob("*.cif")))
    # a run without failures leaves no list of an earlier one behind
    assert predict(out / "model_best.pth.tar", data, tmp_path / "p.csv").status == 0
    assert not (tmp_path / "p_failed.csv").exists()


def test_a_folder_of_broken_crystals_alone_gives_an_empty_table(regression, tmp_path):
    _, out = regression
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.cif").write_text("nothing")
    assert predict(out / "model_best.pth.tar", tmp_path / "bad", tmp_path / "p.csv").status == 3
    assert (tmp_path / "p.csv").read_text() == f"cif_id,target,prediction,{','.join(NOVELTY)}\n"


def test_an_earlier_prediction_is_moved_aside(regression, tmp_path):
    data, out = regression
    (tmp_path / "p.csv").write_text("mine\n")
    ran = predict(out / "model_best.pth.tar", data, tmp_path / "p.csv")
    (moved,) = (tmp_path / "result" / "previous").rglob("p.csv")
    assert moved.read_text() == "mine\n"
    assert str(moved.parent) in ran.out


def test_a_classifier_predicts_a_folder_with_other_labels(tmp_path):
    data = copy_folder("data/sample-classification", tmp_path / "data")
    train(data, tmp_path, "--task", "classification", "--epochs", 1)
    rows = read_rows(data / "id_prop.csv")
    write_rows(data / "id_prop.csv", [[row[0], 1.17] for row in rows])
    ran = predict(tmp_path / "model_best.pth.tar", data, tmp_path / "p.csv")
    assert ran.status == 0
    assert "id_prop.csv" in ran.out
    assert table(tmp_path / "p.csv").target.isna().all()


# Python


def test_python_calls_do_what_the_commands_do(root, tmp_path, capsys):
    from pymatgen.core import Structure

    result = cgcnn.fit(
        root, epochs=2, out_dir=tmp_path / "one", batch_size=4, optim="Adam", lr_milestones=[1], ema=0.5
    )
    words = ["--epochs", 2, "--batch-size", 4, "--optim", "Adam", "--lr-milestones", 1, "--ema", 0.5]
    train(root, tmp_path / "two", *words)
    one, two = tmp_path / "one" / "test_results.csv", tmp_path / "two" / "test_results.csv"
    assert one.read_bytes() == two.read_bytes()
    assert result.exit_status == 0
    assert result.model_path == result_file(tmp_path / "one", "trained_model.pt")
    assert result.predictions.cif_id.tolist() == table(one).cif_id.tolist()
    assert result.metrics.BandGap_MAE[0] == pytest.approx(
        table(result_file(tmp_path / "two", "metrics.csv")).BandGap_MAE[0]
    )
    files = sorted(root.glob("*.cif"))
    predicted = cgcnn.load_model(result.model_path).predict(
        [Structure.from_file(f) for f in files], [f.stem for f in files]
    )
    assert list(predicted) == ["cif_id", "work_function_pred", "band_gap_pred", *NOVELTY]
    predicted = predicted.drop(columns="unlike_training")
    assert predict(result.model_path, root, tmp_path / "p.csv").status == 0
    command = table(tmp_path / "p.csv").set_index("cif_id").loc[predicted.cif_id, list(predicted)[1:]]
    assert predicted.set_index("cif_id").to_numpy() == pytest.approx(command.to_numpy(), rel=1e-4, abs=1e-5)


def test_python_prediction_without_ids_and_without_structures(regression):
    data, out = regression
    model = cgcnn.load_model(out / "model_best.pth.tar")
    assert model.predict(sorted(data.glob("*.cif"))[:2]).cif_id.tolist() == ["0", "1"]
    empty = model.predict([])
    assert list(empty) == ["cif_id", "prediction", *NOVELTY]
    assert len(empty) == 0


# a second folder's faults must not stop a run that was told to go on


def test_bad_structures_can_be_skipped(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    bad = sorted(data.glob("*.cif"))[:2]
    bad[0].write_text("no crystal")
    bad[1].unlink()
    ran = run(train_command, data, "--out-dir", tmp_path, "--epochs", 1, "--on-bad-structure", "skip")
    assert ran.status == 0, ran.err
    assert "2 of 16 crystals are left out" in ran.out
    assert bad[0].stem in ran.out
    assert len(table(result_file(tmp_path, "split1_ids.csv"))) == 14


def test_every_skipped_crystal_is_written_with_its_reason(root, tmp_path):
    data = shutil.copytree(root, tmp_path / "data")
    files = [write_bad(data / f"bad{k:02}.cif") for k in range(12)]
    with open(data / "id_prop.csv", "a", encoding="utf-8") as file:
        file.writelines(f"{path.stem},1,1\n" for path in [*files, data / "lost.cif"])
    words = ["--out-dir", tmp_path, "--epochs", 1, "--on-bad-structure", "skip"]
    ran = run(train_command, data, *words)
    assert ran.status == 0, ran.err
    failed = result_file(tmp_path, "failed.csv")
    reasons = table(failed)
    assert list(reasons) == ["cif_id", "reason"]
    assert sorted(reasons.cif_id) == sorted([*(path.stem for path in files), "lost"])
    assert (reasons.reason.str.len() > 5).all()
    assert f"13 crystals are left out, with the reason in {failed}" in ran.out
    assert sum(line.startswith("  ") for line in ran.out.splitlines()) == 10
    # it belongs to the run's files
    assert run(train_command, root, *words).status == 0
    assert not failed.exists()
    assert list((tmp_path / "result" / "previous").rglob(failed.name))


def write_bad(path: Path) -> Path:
    path.write_text("no crystal\n")
    return path


def test_the_whole_of_root_dir_runs(tmp_path):
    """The main job, two epochs of it."""
    data = tmp_path / "root_dir"
    shutil.copytree(REPOSITORY / "root_dir", data, ignore=shutil.ignore_patterns(".cgcnn_cache", "__pycache__"))
    ran = train(data, tmp_path, "--epochs", 2)
    count = len(read_rows(data / "id_prop.csv")) - 1
    assert count >= 120
    assert ran.out.startswith(f"{count} crystals")
    assert len(table(tmp_path / "test_results.csv")) == count // 10

"""Names of a run and of its models, and the model that flags mean."""

import pytest

from cgcnn.arguments import parse_training
from cgcnn.labels import DataError
from cgcnn.naming import alloy_models, find_alloy_model, run_id


def args(words: str):
    return parse_training(["d", *words.split()])


def test_the_id_of_a_run():
    assert run_id(args("")) == "step_mean_fixed_task2w0.50_aux-_minbg0.015_lr0.01_e80_wd0.0"
    assert (
        run_id(args("--split b1 --run-name x")) == "step_mean_fixed_task2w0.50_aux-_minbg0.015_lr0.01_e80_wd0.0_b1_x"
    )
    element = run_id(args("--model ecnet --split a2"))
    assert element == "ecnet_step_fixed_task2w0.50_aux-_minbg0.015_lr0.001_e500_wd0.0_a2"
    with pytest.raises(DataError, match="--run-name"):
        run_id(args("--run-name a/b"))


def test_published_names_of_models():
    found = alloy_models(args("--split a2 --epochs 500"), ["etot", "emix"])
    assert found == ("mtl_2_etot_emix_HEA_500_a2.pt", "mtl_2_etot_emix_HEA_500_a2_best.pt")
    assert alloy_models(args("--split b0 --no-is-validate"), ["e/f (eV)"]) == ("mtl_1_e-f--eV-_HEA_80_b0.pt",)
    assert alloy_models(args(""), ["etot"]) == ()


FILES = (
    "mtl_2_etot_emix_HEA_500_a2.pt",
    "mtl_2_etot_emix_HEA_500_a2_best.pt",
    "mtl_2_etot_emix_HEA_400_b0_best.pt",
    "mtl_1_etot_HEA_500_a1.pt",
)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"targets": ["etot", "emix"], "split": "a2", "epochs": 500}, "mtl_2_etot_emix_HEA_500_a2_best.pt"),
        ({"split": "a2"}, "mtl_2_etot_emix_HEA_500_a2_best.pt"),
        ({"targets": ["etot", "emix"], "epochs": 400}, "mtl_2_etot_emix_HEA_400_b0_best.pt"),
        ({"targets": ["etot"]}, "mtl_1_etot_HEA_500_a1.pt"),  # the last epoch's, where there is no best
    ],
)
def test_the_model_that_flags_mean(tmp_path, given, name):
    for file in FILES:
        (tmp_path / file).touch()
    assert find_alloy_model(tmp_path, given) == tmp_path / name


def test_no_model_or_several(tmp_path):
    for file in FILES:
        (tmp_path / file).touch()
    with pytest.raises(
        DataError, match=r"2 models in .* could be meant, name one: mtl_2_etot_emix_HEA_400_b0_best\.pt"
    ):
        find_alloy_model(tmp_path, {"targets": ["etot", "emix"]})
    with pytest.raises(DataError, match=r"no model mtl_1_ms_HEA_\*_a2\.pt in .*; name its file"):
        find_alloy_model(tmp_path, {"targets": ["ms"], "split": "a2"})

"""Flags that have no effect beside the others are refused in one line, and a sweep leaves them out."""

import pytest
from helpers import refused

from cgcnn.arguments import parse_training
from cgcnn.cli import train_command
from cgcnn.sweep.flags import meaningful


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--residual", "--residual means nothing with --model cgcnn, only with csgcnn or csgann or csginn"),
        ("--model csginn --num-heads 2", "--num-heads means nothing with --model csginn, only with csgann"),
        ("--num-rbf 5", "--num-rbf means nothing with --edge-features gaussian, only with rbf"),
        ("--edge-features rbf --step 0.1", "--step means nothing with --edge-features rbf, only with gaussian"),
        ("--loss-weights 1 0 0", "--loss-weights means nothing with --loss mse, only with weighted"),
        ("--loss weighted --loss-weights 0 0 0", "--loss-weights are all 0"),
        ("--adam-betas 0.9 0.98", "--adam-betas means nothing with --optim SGD, only with Adam or AdamW"),
        ("--sch-params 9", "--sch-params means nothing with --scheduler step, only with inverse_sqrt_nowarmup"),
        ("--model csgann --num-heads 7", "--num-heads 7 cannot share --atom-fea-len 64 evenly"),
    ],
)
def test_what_means_nothing_is_refused(words, said):
    assert said in refused(train_command, "d", *words.split())


def test_what_acts_or_is_the_default_passes():
    words = "d --model csgann --residual --num-heads 8 --edge-features rbf --num-rbf 5"
    parse_training(words.split(" "))
    words = "d --no-residual --num-heads 4 --step 0.2 --loss weighted --loss-weights 1 0 0"
    parse_training(words.split(" "))


def test_a_sweep_leaves_it_out():
    words = ["d", "--optim", "SGD", "--adam-betas", "0.9", "0.98"]
    assert meaningful(words) == ["d", "--optim=SGD"]
    words = ["d", "--model", "cgcnn", "--residual", "--num-heads", "8", "--edge-features", "rbf", "--num-rbf", "5"]
    assert meaningful(words) == ["d", "--model=cgcnn", "--edge-features=rbf", "--num-rbf=5"]
    parse_training(meaningful(words))

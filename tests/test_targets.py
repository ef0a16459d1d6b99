"""The targets of a label table, and the labels that stand beside a model's predictions."""

import math

import numpy as np
import pytest

from cgcnn.labels import read_labels
from cgcnn.targets import target_columns
from cgcnn.tasks import Task, TaskSet

NAN = math.nan


@pytest.mark.parametrize(
    ("text", "tasks", "expected"),
    [
        ("id,q,p\na,1,2\nb,3,4\n", ["p", "q"], [[4, 3], [NAN, NAN], [2, 1]]),
        ("id,p,z\na,1,2\nb,3,4\n", ["p", "q"], [[3, NAN], [NAN, NAN], [1, NAN]]),
        ("a,1,2\nb,3,4\n", ["p", "q"], [[3, 4], [NAN, NAN], [1, 2]]),
        ("a,1\nb,3\n", ["p"], [[3], [NAN], [1]]),
        ("id,other\na,1\nb,3\n", ["p"], [[3], [NAN], [1]]),
        ("id,other\na,1\nb,3\n", ["p", "q"], [[NAN, NAN]] * 3),
    ],
)
def test_labels_for_the_tasks_of_a_model(tmp_path, text, tasks, expected):
    path = tmp_path / "id_prop.csv"
    path.write_text(text)
    found = target_columns(read_labels(path), ["b", "x", "a"], TaskSet(tuple(map(Task, tasks))))
    np.testing.assert_array_equal(found, expected)

"""The commands behind the scripts: status and line of what goes wrong, and a quick --help."""

import resource
import shlex
import subprocess
import sys

import pytest
from helpers import REPOSITORY, finished, refused, script

from cgcnn.cli import predict_command, run_script
from cgcnn.labels import DataError


@pytest.mark.parametrize(
    ("words", "said"), [("", "MODEL"), ("m", "CIFPATH"), ("m d --foo", "--foo"), ("m d -b 0", "batch-size")]
)
def test_bad_flags_of_predict(words, said):
    assert said in refused(predict_command, *shlex.split(words))


@pytest.mark.parametrize("name", ["main.py", "predict.py"])
def test_scripts_end_with_the_status_and_no_traceback(name, tmp_path):
    ran = finished(script(name, "no_such", "no_folder" if name == "predict.py" else "--epochs=1", folder=tmp_path))
    assert ran.status == 2
    assert ran.err.startswith("error: no_such")
    assert "Traceback" not in ran.err


def test_help_is_quick_and_imports_nothing_heavy(tmp_path):
    code = (
        "import sys\nfrom cgcnn.cli import train_command\n"
        "try:\n    train_command(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'torch', 'pymatgen', 'pandas', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    for name in ("main.py", "predict.py"):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ran = finished(script(name, "--help", folder=tmp_path))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ran.status == 0
        assert "usage" in ran.out
        # of a processor: what else the machine does is not counted
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1


def test_fit_refuses_what_the_command_refuses(tmp_path):
    import cgcnn

    for bad in ({"epochs": 0}, {"foo": 1}, {"ema": True}, {"train_ratio": 0.5, "train_size": 3}):
        with pytest.raises(DataError):
            cgcnn.fit(tmp_path, **bad)


def test_a_name_that_cannot_be_written_is_told_in_a_line(capsys):
    def fail(words):
        "odd\udce4".encode()

    assert run_script(fail, []) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and r"odd\udce4" in error and error.count("\n") == 1

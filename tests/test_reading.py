"""Files are read where they are files, and what is quoted of them is a line that can be printed."""

import os
import subprocess
import sys

import pytest

from cgcnn.labels import DataError, read_labels
from cgcnn.reading import LONGEST_LINE, one_line, printable, read_bytes
from cgcnn.structures import StructureError, read_crystal


def test_a_file_is_read(tmp_path):
    (tmp_path / "a").write_bytes(b"x\0y")
    assert read_bytes(tmp_path / "a") == b"x\0y"


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "id_prop.csv")
    with pytest.raises(OSError, match="pipe, socket or device"):
        read_bytes(tmp_path / "id_prop.csv")
    with pytest.raises(DataError, match=r"id_prop\.csv: neither a file nor a folder"):
        read_labels(tmp_path / "id_prop.csv")


def test_a_device_is_not_read(tmp_path):
    (tmp_path / "a.cif").symlink_to("/dev/zero")
    with pytest.raises(StructureError, match="cannot be read: neither a file"):
        read_crystal(tmp_path / "a.cif")


def test_a_folder_and_a_link_to_itself_are_told(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        read_bytes(tmp_path / "loop")
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path)


def test_what_the_shell_pipes_is_read(tmp_path):
    code = "from cgcnn.reading import read_bytes; print(read_bytes('/dev/stdin'))"
    ran = subprocess.run([sys.executable, "-c", code], input=b"a,1", capture_output=True, check=True)
    assert ran.stdout.strip() == b"b'a,1'"


def test_a_line_has_no_control_characters():
    assert one_line("b\x1b[2J\n\udce4") == r"b\x1b[2J\n\udce4"
    assert printable("Nä 日本") == "Nä 日本"


def test_a_long_line_keeps_its_ends():
    line = one_line("table.csv, row 3: gap '" + "x" * 10_000 + "' is not a finite number")
    assert len(line) == LONGEST_LINE
    assert line.startswith("table.csv, row 3: gap 'xxx") and line.endswith("xxx' is not a finite number")
    assert one_line(line) == line


def test_errors_of_data_are_lines_that_can_be_printed():
    assert str(DataError("a\x1b\nb" + "c" * 10_000)).split("\n")[0] == r"a\x1b"
    assert max(map(len, str(DataError("a\n" + "c" * 10_000)).split("\n"))) == LONGEST_LINE
    assert str(StructureError("a\nb")) == r"a\nb"

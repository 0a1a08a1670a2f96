"""Marks of processes: the living are never taken for dead, whatever number they were given."""

import os
import subprocess
import sys

import pytest

from cas import processmark
from cas.processmark import may_be_alive, own_mark

BOOT, NAMESPACE, NUMBER, STARTED = own_mark().decode().split(" ")
OTHER_BOOT = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def dead():
    """Number of a process that has ended and was waited for."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return str(child.pid)


def mark(boot=BOOT, namespace=NAMESPACE, number=NUMBER, started=STARTED):
    return f"{boot} {namespace} {number} {started}".encode()


def test_own_mark_names_boot_namespace_number_and_start():
    assert str(os.getpid()) == NUMBER
    assert NAMESPACE.startswith("pid:[")
    assert STARTED.isdecimal()
    assert may_be_alive(own_mark())


def test_child_has_a_mark_of_its_own_that_dies_with_it():
    told = subprocess.run(
        [sys.executable, "-c", "from cas.processmark import own_mark; print(own_mark().decode())"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    assert told.split(" ")[:2] == [BOOT, NAMESPACE]
    assert told.split(" ")[2] != NUMBER
    assert not may_be_alive(told.encode())


def test_number_that_was_given_again_is_another_process():
    assert not may_be_alive(mark(started=str(int(STARTED) + 1)))


def test_start_that_is_not_known_counts_as_alive():
    assert may_be_alive(mark(started="-"))


def test_start_that_cannot_be_read_counts_as_alive(tmp_path, monkeypatch):
    monkeypatch.setattr(processmark, "_PROC", tmp_path)
    monkeypatch.setattr(processmark, "_namespace", lambda: NAMESPACE)
    monkeypatch.setattr(processmark, "_boot", lambda: BOOT)
    assert may_be_alive(mark(started="1"))


def test_process_of_another_boot_is_dead_whatever_its_namespace():
    assert not may_be_alive(mark(boot=OTHER_BOOT))
    assert not may_be_alive(mark(boot=OTHER_BOOT, namespace="pid:[1]"))


def test_process_of_another_namespace_counts_as_alive(dead):
    assert may_be_alive(mark(namespace="pid:[1]", number=dead))


@pytest.mark.parametrize("boot", [BOOT, "-"], ids=["this boot", "unknown"])
def test_process_that_has_gone_is_dead_although_its_boot_is_unknown(dead, boot):
    assert not may_be_alive(mark(boot=boot, number=dead))
    assert may_be_alive(mark(boot=boot))


@pytest.mark.parametrize(
    "text",
    ["", "one two", "one two three", f"{BOOT} {NAMESPACE} many {STARTED}"],
    ids=["empty", "two words", "three words", "no number"],
)
def test_mark_of_another_form_counts_as_alive(text):
    assert may_be_alive(text.encode())


def test_mark_of_a_number_alone_is_judged_by_it(dead):
    assert may_be_alive(str(os.getpid()).encode())
    assert not may_be_alive(dead.encode())
    assert not may_be_alive(b"9" * 40)


def test_process_of_somebody_else_counts_as_alive(monkeypatch):
    def refuse(number, signal):
        assert (number, signal) == (int(NUMBER), 0)
        raise PermissionError

    monkeypatch.setattr(processmark.os, "kill", refuse)
    assert may_be_alive(own_mark())


def test_command_with_brackets_and_blanks_does_not_shift_the_start(tmp_path, monkeypatch):
    (tmp_path / "77").mkdir()
    fields = " ".join(str(number) for number in range(4, 30))
    (tmp_path / "77" / "stat").write_text(f"77 (a) b (c) S {fields}\n")
    (tmp_path / "78").mkdir()
    (tmp_path / "78" / "stat").write_text("78 (short) S 4 5\n")
    monkeypatch.setattr(processmark, "_PROC", tmp_path)
    assert processmark._start_time(77) == "22"
    assert processmark._start_time(78) is None
    assert processmark._start_time(79) is None

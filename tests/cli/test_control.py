"""Jobs that a command runs, stopped and taken up again: by Ctrl-C, SIGTERM, from elsewhere."""

from __future__ import annotations

import json
import random
import re
import signal
import time

import pytest
from fix_files import write_many
from fix_servers import wait_until

ROWS = 6000


def assert_loaded(look, path):
    """The table has the file's rows, each once, and nothing is left beside it."""
    look.copy(path, "expected", like="t")
    assert look.contents("t") == look.contents("expected")
    assert look.contents("t")[0] == ROWS
    assert look.staging() == []
    look("DROP TABLE expected")


def begun(start, path, *options):
    """A slow load in a pipe, some of it committed."""
    command = start("upload", path, "t", "--max-rate", "2e4", *options)
    command.until("running")
    return command


# ---------------------------------------------------------------------- in a pipe


@pytest.mark.sample(1)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_pauses(start, run, look, many_rows, number):
    """Ctrl-C and SIGTERM pause durably; resume loads the rest."""
    path = many_rows(ROWS)
    command = begun(start, path)
    command.process.send_signal(number)
    code, out, err = command.end()
    assert (code, err) == (3, "")
    assert re.search(r"job 1 is paused: \d+ %, [\d,]+ rows committed; "
                     r"to go on: taskwidgets resume 1$", out.strip())  # fmt: skip
    assert look.state(1) == "paused"
    code, out, err = run("resume", 1)
    assert (code, err) == (0, "")
    assert "resuming job 1 at" in out
    assert_loaded(look, path)


def test_a_second_ctrl_c_in_a_pipe_leaves_it_paused(start, look, many_rows):
    """Where nobody can be asked, nothing is terminated, however often it is pressed."""
    command = begun(start, many_rows(ROWS))
    for _ in range(2):
        command.process.send_signal(signal.SIGINT)
        time.sleep(0.01)
    code, out, err = command.end()
    assert (code, err) == (3, "")
    assert "taskwidgets resume 1" in out
    assert look.state(1) == "paused"


def test_what_is_ignored_stays_ignored(start, look, many_rows):
    """A command under nohup is not stopped by the terminal's end."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        command = start("upload", many_rows(ROWS), "t", "--max-rate", "3e5", fresh=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    command.until("running")
    command.process.send_signal(signal.SIGHUP)
    assert command.end()[0] == 0
    assert look.contents("t")[0] == ROWS


@pytest.mark.sample(1)
@pytest.mark.parametrize("seed", range(2))
def test_ctrl_c_at_any_moment(start, run, look, tmp_path, seed):
    """Stopped again and again at random moments, it ends with each row once."""
    chance = random.Random(seed)
    path = write_many(tmp_path / "many.csv", ROWS)
    arguments = ["upload", path, "t", "--max-rate", "3e5"]
    code = None
    for attempt in range(3):
        command = start(*arguments)
        if attempt == 0:  # this one is in the middle for certain
            command.until("running")
            time.sleep(chance.uniform(0, 0.5))
        else:
            time.sleep(chance.uniform(0.2, 3.5))
        command.process.send_signal(signal.SIGINT)
        code, out, err = command.end()
        made = look("SELECT id, state FROM taskwidgets.jobs")
        assert attempt > 0 or code == 3, (code, out, err)
        if code == 0:
            assert made == [(1, "completed")]
            break
        if code == 3:
            assert made == [(1, "paused")]
            assert "taskwidgets resume 1" in out
            arguments = ["resume", 1, "--max-rate", "3e5"]
        else:  # nothing was begun; -SIGINT: Python itself had not
            assert code in (130, -signal.SIGINT), (code, out, err)
            assert made in ([], [(1, "paused")])
    if code != 0:
        code, out, err = run(*arguments[:-2])
        assert (code, err) == (0, "")
    assert_loaded(look, path)


def test_a_download_is_paused_and_resumed(start, run, look, many_rows, tmp_path):
    """An export stopped by Ctrl-C goes on to the very bytes of one COPY."""
    from fix_exports import copied

    assert run("upload", many_rows(ROWS), "t")[0] == 0
    command = start("download", "t", "out.csv", "--max-rate", "2e4")
    command.until("running")
    command.process.send_signal(signal.SIGINT)
    code, out, _ = command.end()
    assert code == 3
    assert "taskwidgets resume 2" in out
    assert not (tmp_path / "out.csv").exists()
    assert run("resume", 2)[0] == 0
    assert (tmp_path / "out.csv").read_bytes() == copied(look.url, "SELECT * FROM t")


# ---------------------------------------------------------------------- from elsewhere


def test_pause_from_another_terminal(start, run, run_json, look, many_rows):
    """`pause` waits until it is paused; the command that ran it ends with 3; once more is fine."""
    path = many_rows(ROWS)
    command = begun(start, path)
    code, out, err = run("pause", 1)
    assert (code, err) == (0, "")
    assert "job 1 is paused" in out
    code, out, err = command.end()
    assert (code, err) == (3, "")
    assert "taskwidgets resume 1" in out
    assert run_json("pause", 1)["state"] == "paused"
    assert run("resume", 1)[0] == 0
    code, _, err = run("pause", 1)
    assert code == 1
    assert "job 1 is completed and cannot be paused" in err
    assert_loaded(look, path)


def test_terminate_from_another_terminal(start, run, look, many_rows):
    """`terminate --yes` is heard by the process that runs it, which ends with 4."""
    command = begun(start, many_rows(ROWS))
    code, out, err = run("terminate", 1, "--yes")
    assert (code, err) == (0, "")
    assert "terminated" in out
    code, out, err = command.end()
    assert (code, err) == (4, "")
    assert "what it made is undone" in out
    assert look.staging() == []
    assert not look.exists("t")
    assert run("terminate", 1, "--yes")[0] == 0  # it is so already
    code, _, err = run("resume", 1)
    assert code == 1
    assert "terminated" in err


@pytest.mark.parametrize("state", ["paused", "interrupted", "failed"])
def test_terminate_what_rests(start, run, run_json, workspace, look, many_rows, csv_file, state):
    """A job that no process runs is undone by the command itself."""
    if state == "failed":
        assert run("upload", csv_file("a", "x"), "t", "--types", "a=integer")[0] == 1
    else:
        command = begun(start, many_rows(ROWS))
        if state == "paused":
            command.process.send_signal(signal.SIGINT)
        else:
            command.process.kill()
        command.process.communicate()
    assert [record.state for record in workspace.jobs()] == [state]
    assert run_json("terminate", 1, "--yes")["state"] == "terminated"
    assert look.state(1) == "terminated"
    assert look.staging() == []


def test_resume_of_a_job_that_runs_elsewhere(start, run, look, many_rows):
    """It says who has the job; --take-over takes it, and the other ends with an error."""
    path = many_rows(ROWS)
    command = begun(start, path)
    code, out, err = run("resume", 1)
    assert (code, out) == (1, "")
    assert f"process {command.process.pid}" in err
    assert "taskwidgets resume 1 --take-over" in err
    code, out, err = run("resume", 1, "--take-over", "--max-rate", "1e9")
    assert (code, err) == (0, "")
    code, _, err = command.end()
    assert code == 1
    assert "taken over" in err
    assert_loaded(look, path)


def test_a_job_that_is_not_there(run, run_json):
    """A number that no job has is exit code 1, with its number."""
    for command in ("show", "resume"):
        code, out, err = run(command, 7)
        assert (code, out) == (1, "")
        assert err.startswith("taskwidgets: there is no job 7 in <database ")
    assert run_json("terminate", 7, "--yes", code=1)["error"]["type"] == "JobNotFound"


# ---------------------------------------------------------------------- in a terminal


def test_a_bar_in_a_terminal(terminal, look, many_rows):
    """A bar with state, percentage and rows; what it did stays below it."""
    screen = terminal("upload", many_rows(ROWS), "t", "--max-rate", "3e5")
    screen.wait_for("━")
    code, seen = screen.end()
    assert code == 0
    assert re.search(r"job 1 \(many\.csv → t\) +━+", seen)
    assert "100%" in seen
    assert seen.count(f"job 1 (many.csv → t): {ROWS:,} rows") == 1
    assert look.contents("t")[0] == ROWS


def test_ctrl_c_once(terminal, run, look, many_rows):
    """One Ctrl-C pauses, says how to go on, and leaves the terminal as it was."""
    path = many_rows(ROWS)
    screen = terminal("upload", path, "t", "--max-rate", "2e4")
    screen.wait_for("rows/s")
    screen.interrupt()
    code, seen = screen.end()
    assert code == 3
    assert "taskwidgets resume 1" in seen.splitlines()[-1]
    assert screen.seen.count("\x1b[?25h") >= screen.seen.count("\x1b[?25l")  # the cursor is shown
    assert look.state(1) == "paused"
    assert run("resume", 1)[0] == 0
    assert_loaded(look, path)


def test_a_terminal_that_is_closed(terminal, look, many_rows):
    """Its job is paused, durably."""
    screen = terminal("upload", many_rows(ROWS), "t", "--max-rate", "2e4")
    screen.wait_for("rows/s")
    screen.child.ptyproc.fileobj.close()
    wait_until(lambda: look.state(1) not in ("running", "pausing"))
    assert look.state(1) == "paused"


@pytest.mark.sample(1)
@pytest.mark.parametrize("answer", ["y\n", "\n", "\x03"])
def test_ctrl_c_twice_asks(terminal, run, look, many_rows, answer):
    """Only a yes terminates; an empty line and a third Ctrl-C leave it paused."""
    path = many_rows(ROWS)
    screen = terminal("upload", path, "t", "--max-rate", "2e4")
    screen.wait_for("rows/s")
    screen.interrupt()
    screen.wait_for("once more, now, to terminate it")
    screen.interrupt()
    screen.wait_for(r"Terminate job 1 .* \[y/N\]")
    assert look.state(1) == "paused"  # asked of a job that has lost nothing
    screen.press(answer)
    code, seen = screen.end()
    if answer == "y\n":
        assert code == 4
        assert "what it made is undone" in seen
        assert look.state(1) == "terminated"
        assert look.staging() == []
        assert not look.exists("t")
    else:
        assert code == 3
        assert "taskwidgets resume 1" in seen.splitlines()[-1]
        assert look.state(1) == "paused"
        assert run("resume", 1)[0] == 0
        assert_loaded(look, path)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("answer", "state"), [("y\n", "terminated"), ("\n", "paused")])
def test_terminate_asks_in_a_terminal(start, terminal, look, many_rows, answer, state):
    """Without --yes a person is asked, who is told how far the job is."""
    command = begun(start, many_rows(ROWS))
    command.process.send_signal(signal.SIGINT)
    assert command.end()[0] == 3
    screen = terminal("terminate", 1)
    asked = screen.wait_for(r"\[y/N\]")
    assert re.search(r"Terminate job 1 \(many.csv → t\): paused, \d+ %", asked)
    screen.press(answer)
    assert screen.end()[0] == 0
    assert look.state(1) == state


def test_names_stay_text_in_a_terminal(terminal, csv_file, look):
    """A bar with a hostile name has no markup and no sign in it that the terminal obeys."""
    name = "[b]x\x1b[2J\x1b]0;title\x07\n[red]y\u202e.csv"
    path = csv_file("a", *map(str, range(20_000)), name=name)
    screen = terminal("upload", path, '"[b]t"', "--max-rate", "2e5")
    screen.wait_for("rows/s")
    code, seen = screen.end()
    assert code == 0
    assert "[b]x" in seen
    assert "[b]t" in seen
    assert "\x1b[2J" not in screen.seen
    assert "\x1b]0" not in screen.seen
    assert "\x07" not in screen.seen
    assert "\u202e" not in screen.seen
    assert look.contents("[b]t")[0] == 20_000


def test_json_in_a_terminal_has_no_bar(terminal, csv_file):
    """--json is for programs, wherever it is printed."""
    _, seen = terminal("upload", csv_file("a", "1"), "t", "--json").end()
    assert json.loads(seen)["state"] == "completed"

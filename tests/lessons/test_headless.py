"""Runs without a browser: nothing is waited for that will not come, and nothing busy is cut."""

import asyncio
import io
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time

import nbformat
import pytest
import zmq
import zmq.asyncio
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.session import Session
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError

from lessons_lib.course import headless, run
from lessons_lib.paths import REPOSITORY
from lessons_lib.progress import StatusLine, progress_bar

WIDGET_CELL = """
import ipywidgets
from IPython.display import display
_ = ipywidgets.interact(lambda number: display(f"number {number}"), number=(0, 3))
"""


class Terminal(io.StringIO):
    """A terminal that remembers all that was written."""

    def isatty(self):
        return True


def make_notebook(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def run_cells(*sources):
    """Runs cells by the course's client; the client, whose line was written to
    `client.line.stream`.
    """
    client = headless.HeadlessClient(make_notebook(*sources), "09_test", ".")
    client.line = StatusLine(Terminal())
    client.run()
    return client


def record_shell(monkeypatch):
    """The types of all messages sent on shell sockets from here on."""
    types = []
    send = Session.send

    def record(self, stream, message, *arguments, **options):
        if stream.type == zmq.DEALER and not isinstance(message, str):
            types.append(message["header"]["msg_type"])
        return send(self, stream, message, *arguments, **options)

    monkeypatch.setattr(Session, "send", record)
    return types


def test_widgets_are_not_answered(monkeypatch):
    """Failing means `make course` can wait for ever at a widget: an answer to it is sent on the
    socket at which the cell's reply is waited for, and the reply goes unnoticed."""
    types = record_shell(monkeypatch)
    run_cells(WIDGET_CELL, "1 + 1")
    sent = [name for name in types if name not in ("kernel_info_request", "shutdown_request")]
    assert sent == ["execute_request", "execute_request"]


def test_plain_client_does_answer_widgets(monkeypatch):
    """Failing means the test above cannot fail."""
    types = record_shell(monkeypatch)
    NotebookClient(make_notebook(WIDGET_CELL, "1 + 1"), kernel_name="python3").execute()
    assert "comm_msg" in types


def test_what_a_widget_shows_is_an_output_of_its_cell():
    """Failing means the page lacks the figure of a widget."""
    client = run_cells(WIDGET_CELL)
    texts = [
        output["data"]["text/plain"] for output in client.nb.cells[0].outputs if "data" in output
    ]
    assert "'number 1'" in texts
    assert "widgets" in client.nb.metadata  # so that JupyterLab can draw the sliders


def withhold_wake_ups(monkeypatch):
    """Makes every socket deaf: a wait for a message ends when its time is up, never because one
    came.
    """

    async def wait(self, timeout=None, flags=zmq.POLLIN):
        await asyncio.sleep(1e9 if timeout is None else timeout / 1000)
        return self.get(zmq.EVENTS) & flags

    monkeypatch.setattr(zmq.asyncio.Socket, "poll", wait)


def test_run_goes_on_without_a_wake_up(monkeypatch):
    """Failing means one lost wake-up, from whatever cause, stops a run for ever."""
    withhold_wake_ups(monkeypatch)
    monkeypatch.setattr(headless, "LOOK_AGAIN", 0.05)
    client = run_cells("print('alive')")
    assert client.nb.cells[0].outputs[0].text == "alive\n"


def test_plain_channel_waits_for_ever_without_a_wake_up(monkeypatch):
    """Failing means the test above cannot fail."""
    monkeypatch.setattr(headless.PatientChannel, "get_msg", AsyncZMQSocketChannel.get_msg)
    withhold_wake_ups(monkeypatch)
    client = headless.HeadlessClient(make_notebook("print('alive')"), "09_test", ".")

    async def run():
        async with client.async_setup_kernel():
            await asyncio.wait_for(client.async_execute_cell(client.nb.cells[0], 0), timeout=3)

    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(run())


def test_reply_that_never_comes_names_the_cell(monkeypatch):
    """Failing means a lost reply stops the course in silence instead of by name."""
    receive = headless.PatientChannel._recv

    async def lose_replies(self, **options):
        message = await receive(self, **options)
        if message["msg_type"] == "execute_reply" and message["content"]["execution_count"] == 2:
            return await self._recv(**options)
        return message

    monkeypatch.setattr(headless.PatientChannel, "_recv", lose_replies)
    monkeypatch.setattr(headless, "IDLE_LIMIT", 2)
    with pytest.raises(
        run.LessonError, match=r"09_test, cell 2 \(2 \+ 2\): the kernel has finished"
    ):
        run.execute(make_notebook("1 + 1", "2 + 2"), "09_test")


def test_cell_that_does_nothing_for_long_is_ended(monkeypatch):
    """Failing means a kernel that waits for something lost is waited for, for ever."""
    monkeypatch.setattr(headless, "SILENT_LIMIT", 2)
    monkeypatch.setattr(headless, "SILENT_SHARE", 0.05)
    with pytest.raises(headless.SilentKernelError, match="printed and computed nothing"):
        run_cells("import time\ntime.sleep(60)")


@pytest.mark.parametrize(
    "cell",
    [
        "import time\nend = time.monotonic() + 5\nwhile time.monotonic() < end: pass",
        "import time\nfor second in range(5): print(second, flush=True); time.sleep(1)",
    ],
    ids=["computes in silence", "prints and waits"],
)
def test_busy_cell_is_never_cut(monkeypatch, cell):
    """Failing means a training of hours is ended because it took long."""
    monkeypatch.setattr(headless, "SILENT_LIMIT", 2)
    monkeypatch.setattr(headless, "SILENT_SHARE", 0.05)
    client = run_cells(cell, "print('after')")
    assert client.nb.cells[1].outputs[0].text == "after\n"


def test_long_cell_shows_its_seconds_and_its_bar():
    """Failing means a cell that trains for minutes looks like one that hangs."""
    cell = """
import time
from lessons_lib.progress import progress_bar
bar = progress_bar(4, "train", "step")
for step in range(4):
    time.sleep(1.1)
    bar.set_postfix_str(f"loss 0.{step}, 100 tokens/s", refresh=False)
    bar.update()
bar.close()
"""
    lines = run_cells(cell).line.stream.getvalue().split("\r")
    clocks = {line.split(", ")[2][:4] for line in lines if line.startswith("09, cell 1/1")}
    assert {"0:01", "0:02", "0:03", "0:04"} <= clocks
    bars = [line.partition("| ")[2] for line in lines]
    assert any(
        re.fullmatch(r"train: 2/4 \[00:0\d<00:0\d\], loss 0.1, 100 tokens/s *", bar) for bar in bars
    )
    assert max(map(len, lines)) < 80


class Redirected(io.StringIO):
    """What a kernel prints to: no terminal, but with the number of the one that it was started
    from.
    """

    def fileno(self):
        return self.terminal


def test_bar_is_drawn_whatever_the_terminal(monkeypatch):
    """Failing means bars of lessons are blank where `make course` runs under cron, nohup or
    script.
    """
    stream = Redirected()
    _, stream.terminal = pty.openpty()  # a terminal without a size
    monkeypatch.setattr(sys, "stdout", stream)
    bar = progress_bar(4, "train", "step")
    bar.update(4)
    bar.close()
    assert "train: 100% |━━━━━━━━━━━━━━━━━━━━| 4/4 [00:00<00:00]" in stream.getvalue()


def test_log_gets_whole_lines_now_and_then(monkeypatch):
    """Failing means a log of a run is one line of a megabyte."""
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stream = io.StringIO()
    line = StatusLine(stream)
    for number in range(9):
        line.show(f"state {number}")
    line.close()
    assert "\r" not in stream.getvalue()
    assert 2 <= len(stream.getvalue().splitlines()) <= 3


def test_dead_kernel_tells_what_it_ended_with():
    """Failing means nobody can tell a lack of memory from a processor that lacks an instruction."""
    client = headless.HeadlessClient(
        make_notebook("import os, signal\nos.kill(os.getpid(), signal.SIGILL)"), "09_test", "."
    )
    with pytest.raises(DeadKernelError):
        client.run()
    assert client.exit_status == -signal.SIGILL


def test_kernel_that_dies_at_its_start_is_told_as_dead(monkeypatch, tmp_path):
    """Failing means a broken installation ends in nbclient's traceback."""
    (tmp_path / "ipykernel_launcher.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(run.LessonError, match=r"09_test, cell 1 \(1 \+ 1\).*SIGILL"):
        run.execute(make_notebook("1 + 1"), "09_test")


def test_kernels_take_no_ports_from_one_another():
    """Failing means two kernels that start at the same moment may choose one port, and one of them
    dies.
    """
    cell = """
import json
from ipykernel.connect import get_connection_info
print(json.loads(get_connection_info())["transport"])
"""
    assert run_cells(cell).nb.cells[0].outputs[0].text == "ipc\n"


def test_long_temporary_folder_is_no_obstacle(monkeypatch, tmp_path):
    """Failing means a run fails where TMPDIR is long: a socket's path has about 100 characters."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    client = run_cells("print('alive')")
    assert client.nb.cells[0].outputs[0].text == "alive\n"
    assert list(folder.iterdir()) == []


def test_interrupted_run_says_that_it_was(tmp_path):
    """Failing means Ctrl-C is told as a kernel that died, usually of too little memory."""
    begun = tmp_path / "begun"
    cell = f"import pathlib, time\npathlib.Path({str(begun)!r}).touch()\ntime.sleep(60)"
    code = (
        "import nbformat\n"
        "from lessons_lib.course import headless\n"
        f"notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({cell!r})])\n"
        "headless.HeadlessClient(notebook, '09_test', '.').run()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.strip().endswith("KeyboardInterrupt")

"""Runs a notebook's cells in a kernel without a browser, and notices a kernel that no longer
responds.

Contract: a cell may compute for hours. A run ends early only if the kernel has died or no longer
responds. One line of the terminal shows which cell runs, for how long, and what it last printed. No
files are written.
"""

import asyncio
import atexit
import contextlib
import os
import re
import signal
import subprocess
import tempfile
import time
from queue import Empty

import psutil
from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from traitlets import Type

from lessons_lib.progress import StatusLine

LOOK_AGAIN = 1.0  # seconds after which a channel is read, even without a notification
# seconds between the kernel's state "idle" and its reply to the cell
IDLE_LIMIT = 60.0
SILENT_LIMIT = 600.0  # seconds in which the kernel must have printed or computed something
SILENT_SHARE = 0.005  # of one core: a waiting kernel itself uses a tenth of that
LONGEST_SOCKET = 90  # characters of a socket's path; systems allow about 100
DRAWN_BAR = re.compile(r"\s+\d+% \|[^|]*\|(?= )")
CONTROL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class SilentKernelError(Exception):
    """The kernel is alive but no longer responds; the message says what was observed."""


class PatientChannel(AsyncZMQSocketChannel):
    """A channel to the kernel that does not rely on notifications.

    The socket's file descriptor notifies the reader once of all that has arrived. If other code
    uses the socket in between, that notification is lost, and the reader waits for ever although a
    message is there (nbclient's issue 312). So the socket is read again every LOOK_AGAIN seconds.
    """

    async def get_msg(self, timeout: float | None = None) -> dict:
        """The next message; `queue.Empty` after `timeout` seconds, never for None."""
        if timeout is not None:
            return await super().get_msg(timeout)
        while True:
            with contextlib.suppress(Empty):
                return await super().get_msg(LOOK_AGAIN)


class PatientKernelClient(AsyncKernelClient):
    """A client with channels of the class PatientChannel."""

    shell_channel_class = Type(PatientChannel)
    iopub_channel_class = Type(PatientChannel)


class PatientKernelManager(AsyncKernelManager):
    """A kernel manager whose clients are of the class PatientKernelClient."""

    client_factory = Type(PatientKernelClient)


class HeadlessClient(NotebookClient):
    """Executes a notebook in place, as nbclient does.

    `running` is the number of the cell that was run last, from 0. Raises CellExecutionError for a
    failing cell, DeadKernelError, SilentKernelError, and KeyboardInterrupt for an interrupted run.
    """

    kernel_manager_class = Type(PatientKernelManager)

    def __init__(self, notebook: NotebookNode, name: str, folder: str) -> None:
        super().__init__(
            notebook,
            timeout=None,
            kernel_name="python3",
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": folder}},
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
        self.name = name
        self.running = 0
        self.interrupted = False
        self.process: subprocess.Popen | None = None
        self.sockets: tempfile.TemporaryDirectory | None = None
        self.printed = ""
        self.idle_since: float | None = None
        self.heard_at = 0.0
        self.started_at = time.monotonic()
        self.line = StatusLine()

    def on_comm_open_jupyter_widget(self, msg: dict) -> None:
        """Keeps a widget's state, as nbclient does, and never answers the widget.

        nbclient would answer an Output widget on the shell socket while it waits at that socket for
        the cell's reply, and could then miss the reply (see PatientChannel). What a widget shows
        becomes an ordinary output of the cell, so that pages have it.
        """

    def process_message(
        self, msg: dict, cell: NotebookNode, cell_index: int
    ) -> NotebookNode | None:
        """Processes one message of the running cell; remembers its time and the text it printed."""
        self.heard_at = time.monotonic()
        if msg["msg_type"] == "stream":
            self.printed = read_last_line(msg["content"]["text"]) or self.printed
        elif msg["msg_type"] == "status" and msg["content"]["execution_state"] == "idle":
            self.idle_since = self.heard_at
        return super().process_message(msg, cell, cell_index)

    def create_kernel_manager(self) -> PatientKernelManager:
        """A manager that reaches its kernel through socket files of this run.

        A port is chosen before the kernel opens it, and another kernel that starts at the same
        moment may take it. Without socket files (on Windows, with a long TMPDIR) ports are used.
        """
        manager = super().create_kernel_manager()
        self.sockets = tempfile.TemporaryDirectory(prefix="kernel-")
        socket_path = f"{self.sockets.name}/k"
        if os.name == "posix" and len(socket_path) < LONGEST_SOCKET:
            manager.transport = "ipc"
            manager.ip = socket_path
        return manager

    @property
    def exit_status(self) -> int | None:
        """The exit code of the kernel's process, negative for a signal; None if it runs or never
        ran.
        """
        return self.process.poll() if self.process is not None else None

    async def async_start_new_kernel(self, **options: object) -> None:
        """Starts the kernel and keeps its process: the manager forgets it when it dies."""
        await super().async_start_new_kernel(**options)
        self.process = self.km.provisioner.process

    async def async_start_new_kernel_client(self) -> AsyncKernelClient:
        """Waits until the kernel responds. Raises DeadKernelError if it dies first."""
        try:
            return await super().async_start_new_kernel_client()
        except RuntimeError as error:
            # nbclient has ended the kernel, and would do so again at exit
            atexit.unregister(self._cleanup_kernel)
            raise DeadKernelError(str(error)) from error

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, **options: object
    ) -> NotebookNode:
        """Executes one cell, and watches the kernel meanwhile."""
        self.running = cell_index
        self.printed = ""
        self.idle_since = None
        self.heard_at = time.monotonic()
        tasks_before = asyncio.all_tasks()
        execution = asyncio.ensure_future(super().async_execute_cell(cell, cell_index, **options))
        watch = asyncio.ensure_future(self._watch())
        self._cancel_when_interrupted(execution)
        try:
            await asyncio.wait({execution, watch}, return_when=asyncio.FIRST_COMPLETED)
            if watch.done() and not execution.done():
                await watch  # raises SilentKernelError
            return await execution
        finally:
            # nbclient's tasks too, if its execution was cancelled
            for task in asyncio.all_tasks() - tasks_before:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await task

    def run(self) -> None:
        """Executes all cells, in order, and ends the kernel."""
        try:
            self.execute()
        except DeadKernelError:
            if self.interrupted:
                raise KeyboardInterrupt from None
            raise
        finally:
            self.line.close()
            if self.sockets is not None:
                self.sockets.cleanup()

    def _cancel_when_interrupted(self, execution: asyncio.Task) -> None:
        """Ends the cell at Ctrl-C; nbclient's own handler ends the kernel twice, and fails."""

        def interrupt() -> None:
            """Cancels the cell and remembers that the reader did so."""
            self.interrupted = True
            execution.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            # Windows; not the main thread
            with contextlib.suppress(NotImplementedError, RuntimeError):
                asyncio.get_running_loop().add_signal_handler(number, interrupt)

    async def _watch(self) -> None:
        """Shows the cell's progress once per second. Raises SilentKernelError if the kernel no
        longer responds.
        """
        window_start = time.monotonic()
        computed = self._read_cpu_seconds()
        while True:
            self._show()
            await asyncio.sleep(1)
            now = time.monotonic()
            if self.idle_since is not None and now - self.idle_since > IDLE_LIMIT:
                limit = f"{IDLE_LIMIT:.0f} seconds"
                raise SilentKernelError(
                    f"the kernel has finished the cell and sent no reply in {limit}"
                )
            if now - window_start < SILENT_LIMIT:
                continue
            seconds = self._read_cpu_seconds()
            is_idle = seconds - computed < SILENT_SHARE * (now - window_start)
            if is_idle and self.heard_at < window_start:
                limit = f"{SILENT_LIMIT / 60:.0f} minutes"
                raise SilentKernelError(f"the kernel has printed and computed nothing in {limit}")
            window_start = now
            computed = seconds

    def _show(self) -> None:
        minutes, seconds = divmod(int(time.monotonic() - self.started_at), 60)
        number = self.name.partition("_")[0]
        cell = f"cell {self.running + 1}/{len(self.nb.cells)}"
        self.line.show(f"{number}, {cell}, {minutes}:{seconds:02d} | {self.printed}")

    def _read_cpu_seconds(self) -> float:
        """The seconds that the kernel and its child processes have computed so far."""
        try:
            kernel = psutil.Process(self.process.pid)
            processes = [kernel, *kernel.children(recursive=True)]
            seconds = [sum(process.cpu_times()[:4]) for process in processes]
            return sum(seconds)
        except (AttributeError, psutil.Error):
            return 0.0


def read_last_line(text: str) -> str:
    """The last line of printed text that is not blank, as a terminal would show it.

    Of a progress bar it has the numbers alone, which fit on a line of 80 columns.

    >>> read_last_line("train:  10% |━  | 1/9 [00:01<00:08]\\rtrain:  20% |━━  | 2/9 [00:02<00:07]")
    'train: 2/9 [00:02<00:07]'
    """
    lines = [line.strip() for line in re.split(r"[\r\n]", CONTROL_CODES.sub("", text))]
    last = next((line for line in reversed(lines) if line), "")
    return DRAWN_BAR.sub("", last)

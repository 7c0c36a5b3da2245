"""The process inside the sandbox: runs a student's cells, then answers calls of their functions.

It is started as a script; the interpreter's own libraries are visible, the course is not. It reads
one JSON object per line: {"run": source, "limit": seconds} or {"call": name, "args": […],
"kwargs": {…}, "limit": seconds}. It answers each with one line: {"value": …} or {"error": text}.
The student's code shares this process. It may break the process or write replies itself, so
`sandbox` trusts no reply.
"""

import base64
import importlib
import json
import numbers
import os
import resource
import signal
import sys

import numpy as np

GIGABYTE = 2**30
LONGEST = 4096  # entries along one dimension of an array
LIMITS = {
    resource.RLIMIT_AS: 8 * GIGABYTE,
    resource.RLIMIT_FSIZE: GIGABYTE // 8,
    resource.RLIMIT_NOFILE: 256,
    resource.RLIMIT_CORE: 0,
}


class OutOfTime(BaseException):
    """Raised in the student's code; no `except Exception` stops it."""


def pack(value: object) -> object:
    """A value as JSON: arrays and tensors by type, shape and bytes, tuples and sets by name."""
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        return {"tensor": pack(value.detach().cpu().numpy())["array"]}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, numbers.Number) and not isinstance(value, bool | int | float):
        value = float(value)  # a Fraction, a wide float; TypeError for a complex number
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()
        return {"array": [value.dtype.str, list(value.shape), data]}
    if isinstance(value, dict):
        return {"dict": [[pack(key), pack(entry)] for key, entry in value.items()]}
    if isinstance(value, list):
        return [pack(entry) for entry in value]
    for kind in (tuple, set):
        if isinstance(value, kind):
            return {kind.__name__: [pack(entry) for entry in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is not a number, text, list, dict, array or tensor")


def unpack(value: object) -> object:
    """The value that `pack` packed. ValueError or TypeError for anything else."""
    if isinstance(value, list):
        return [unpack(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    (kind, content), *more = value.items()
    if more or kind not in ("tensor", "array", "dict", "tuple", "set"):
        raise ValueError(f"unknown kind of value {kind!r}")
    if kind in ("tensor", "array"):
        name, shape, data = content
        dtype = np.dtype(str(name))
        if dtype.kind not in "biufcU":
            raise ValueError(f"arrays of {dtype} are not allowed")
        if max(shape, default=0) > LONGEST:  # an empty array may claim any shape
            raise ValueError(f"arrays longer than {LONGEST} are not allowed")
        array = np.frombuffer(base64.b64decode(data), dtype).reshape(shape).copy()
        if kind == "array":
            return array
        import torch

        return torch.from_numpy(array)
    if kind == "dict":
        return {unpack(key): unpack(entry) for key, entry in content}
    entries = [unpack(entry) for entry in content]
    return tuple(entries) if kind == "tuple" else set(entries)


def describe(problem: BaseException) -> dict[str, str]:
    """An error as a reply."""
    kind = "ValueError" if isinstance(problem, ValueError) else ""
    return {"error": f"{type(problem).__name__}: {problem}"[:1000], "kind": kind}


def answer(request: dict, shell: object) -> str:
    """The reply to one request, as JSON."""
    signal.setitimer(signal.ITIMER_REAL, request["limit"])
    try:
        if "run" in request:
            done = shell.run_cell(request["run"], silent=True)
            problem = done.error_before_exec or done.error_in_exec
            return json.dumps(describe(problem) if problem else {"value": None})
        function = shell.user_ns.get(request["call"])
        if not callable(function):
            missing = f"there is no {request['call']}: was it renamed, or does its cell fail?"
            return json.dumps({"error": missing})
        value = function(*unpack(request["args"]), **unpack(request["kwargs"]))
        return json.dumps({"value": pack(value)})
    except OutOfTime:
        return json.dumps({"error": f"no answer within {request['limit']:g} s"})
    except BaseException as problem:
        # SystemExit and KeyboardInterrupt too: the student's code raised them
        return json.dumps(describe(problem))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main() -> None:
    """Answers requests until there are no more."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    null_device = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null_device, stream)
    for limit, value in LIMITS.items():
        _, hard = resource.getrlimit(limit)
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        resource.setrlimit(limit, (value, value))

    def interrupt(*_: object) -> None:
        """The student's time is up."""
        raise OutOfTime

    signal.signal(signal.SIGALRM, interrupt)
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.showtraceback = shell.showsyntaxerror = lambda *_, **__: None
    for module in sys.argv[1:]:
        importlib.import_module(module)
    replies.write(b'{"value": "ready"}\n')
    replies.flush()
    for line in requests:
        replies.write(answer(json.loads(line), shell).encode() + b"\n")
        replies.flush()


if __name__ == "__main__":
    sys.modules.pop("__main__", None)  # the student's __main__ is the shell's
    main()

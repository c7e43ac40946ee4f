"""Several processes as one run: how they find each other, and how they end together.

A process that fails tells the others why through JAX's coordination service, and a thread in each of them listens: the
main thread may be waiting for that process inside a collective operation, without end on a GPU or TPU.
"""

import io
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import jax

from resnet_jax import entry
from resnet_jax.errors import UsageError, UserError
from resnet_jax.hardware.clusters import announced
from resnet_jax.hardware.processes import check_devices, coordination_client
from resnet_jax.training.interrupt import Interrupted

HEARTBEAT = 20
"""Seconds without a sign of life after which a process counts as lost."""
CONNECTING = 300
"""Seconds that the processes of a run may take to start, JAX's own default: a cluster may still load their image."""
LINGERING = 3.0
"""Seconds that a failed process stays, so that the others read why; process 0 holds the service that tells them."""
FAILURE = "resnet_jax/failure"
ENDED = "[]"
BROKEN = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED")
"""What JAX says of a connection to another process."""
RESUME = "the same command on all hosts continues from the last checkpoint"

_ending = threading.Lock()
"""Held by the one thread that ends this process."""


@contextmanager
def joined(
    coordinator: str | None, process_count: int | None, process_index: int | None, *, connecting: int = CONNECTING
) -> Iterator[None]:
    """Be one process of a run inside, if the arguments or the environment say that there are several.

    An error inside ends this process and the others; each prints what has happened. A stop that all have agreed on,
    and the end of the run, wait for all.

    Args:
        coordinator: address and port of process 0; None, as the next two, for what JAX finds in the environment.
        process_count: number of processes.
        process_index: number of this one.
        connecting: seconds to wait for the others.

    Raises:
        UsageError: the processes have different numbers of devices.
        UserError: the other processes, or the address of the first one, can't be found.
    """
    cluster = announced(os.environ)
    if coordinator is None and cluster is None:
        yield
        return
    _keep_stdout()
    with _connecting(coordinator or f"as {cluster} describes it", connecting):
        # JAX's service for preemption notices SIGTERM alone, and takes that signal from `StopRequest`.
        jax.config.update("jax_enable_preemption_service", False)
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(
            coordinator,
            process_count,
            process_index,
            initialization_timeout=connecting + 60,
            heartbeat_timeout_seconds=HEARTBEAT,
        )
    listener = threading.Thread(target=_listen, daemon=True)
    listener.start()
    try:
        check_devices()
        yield
    except (KeyboardInterrupt, BrokenPipeError) as error:  # ends at once, as without other processes
        _tell(error)
        raise
    except Interrupted:
        _leave(listener)
        raise
    except BaseException as error:
        _fail(error)
    _leave(listener)


def _keep_stdout() -> None:
    """Keep standard output for what Python prints, and send what libraries print to standard error.

    Gloo tells of each connection there, which would break JSON or CSV.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.flush()
        own = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        sys.stdout = os.fdopen(own, "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors)


@contextmanager
def _connecting(where: str, seconds: int) -> Iterator[None]:
    """Turn an error inside into a `UserError`, and end the process after some seconds: JAX would abort it."""

    def fault(reason: str) -> UserError:
        return UserError(
            f"the processes of this run did not find each other (coordinator: {where}; {reason}): start all of them "
            f"within {seconds} s, with an address and port of process 0 that the other hosts can reach, or give "
            "--distributed.coordinator, --distributed.process-count and --distributed.process-index"
        )

    timer = threading.Timer(seconds, lambda: os._exit(entry.report(fault(f"no answer in {seconds} s"))))
    timer.daemon = True
    timer.start()
    try:
        yield
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise fault((str(error) or repr(error)).splitlines()[0][:200]) from error
    finally:
        timer.cancel()


def _listen() -> None:
    """End this process when another one tells that it has failed; return when one tells that the run has ended."""
    told = None
    while told is None:
        try:
            told = coordination_client().blocking_key_value_get(FAILURE, 10_000)  # milliseconds
        except jax.errors.JaxRuntimeError as error:
            if "UNAVAILABLE" in str(error):
                entry.report(UserError(f"lost process 0 of this run; {RESUME}"))  # JAX is ending this process
                return
    if told != ENDED:
        code, message = json.loads(told)
        _ending.acquire()
        _end((UsageError if code == UsageError.exit_code else UserError)(message))


def _fail(error: BaseException) -> None:
    """Tell the other processes of an error, and end this one."""
    _ending.acquire()
    if isinstance(error, jax.errors.JaxRuntimeError) and any(sign in str(error) for sign in BROKEN):
        said = str(error).splitlines()[0][:200]
        error = UserError(
            f"lost another process of this run, whose own output says why unless it was killed; {RESUME} ({said})"
        )
    _tell(error)
    _end(error)


def _tell(error: BaseException) -> None:
    what = str(error) if isinstance(error, UserError) else f"{type(error).__name__} {error}".strip()
    told = getattr(error, "exit_code", 1), f"process {jax.process_index()} has failed: {what}"
    with suppress(jax.errors.JaxRuntimeError):  # another process was faster, or the service is lost
        coordination_client().key_value_set(FAILURE, json.dumps(told))


def _end(error: BaseException) -> None:
    """End this process at once: Python's normal end would wait for the others, and for threads that wait for them."""
    if isinstance(error, UserError):
        code = entry.report(error)
    else:
        traceback.print_exception(error)
        code = 1
    time.sleep(LINGERING)
    os._exit(code)


def _leave(listener: threading.Thread) -> None:
    with suppress(jax.errors.JaxRuntimeError):  # another process was faster
        coordination_client().key_value_set(FAILURE, ENDED)
    listener.join()
    jax.distributed.shutdown()

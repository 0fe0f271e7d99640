"""The service on Ray Serve: several copies of it, on this machine or on a cluster.

client ─ Ray's HTTP proxy (one on each machine) ─ the copy with the fewest requests ─ app ─ model

A copy is the whole app of `tamis.service.http.app` with a model, a queue and a cache of its own.
Ray replaces a copy that dies. What only one process could know is refused with several copies.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import connect_to_ray
from tamis.service.http.runtime.settings import Settings, flag, http_url
from tamis.service.http.runtime.telemetry import create_logger

if TYPE_CHECKING:
    from fastapi import FastAPI

_NAME = "tamis"
_STARTS = 3
"""How often a copy may fail to start before the service gives up; Ray itself would try 20 times."""
_NOT_BY_RAY = ("header_timeout_s", "drain_delay_s")
"""Settings of our own server, which Ray's HTTP proxy takes the place of."""
_IN_ONE_PROCESS = ("rate_limit", "retrieve_bytes")
"""Settings whose state is in one process: another copy would know nothing of it."""


@dataclass(frozen=True, slots=True)
class CopyShare:
    """What one copy takes of a machine.

    Attributes:
        threads: of its model, which Ray counts as CPUs.
        gpus: a fraction where several copies share one.
    """

    threads: int
    gpus: float

    @classmethod
    def of(cls, settings: Settings, cluster: Mapping[str, float]) -> CopyShare:
        """The share of each copy; threads that are not given are the CPUs divided evenly.

        Args:
            cluster: what Ray has in all, by name: `CPU`, and `GPU` where there are any.

        Raises:
            BadInput: it is too little for so many copies, so that Ray would wait for ever.
        """
        cpus, gpus = int(cluster.get("CPU", 0)), int(cluster.get("GPU", 0))
        threads = settings.threads or max(1, cpus // settings.replicas)
        if threads * settings.replicas > cpus:
            raise BadInput(
                f"{settings.replicas} copies of {threads} threads need "
                f"{threads * settings.replicas} CPUs and Ray has {cpus}; "
                "give fewer --replicas or --threads, or add machines"
            )
        on_gpu = settings.device == "cuda" or (settings.device == "auto" and gpus)
        if on_gpu and not gpus:
            raise BadInput("--device cuda needs a GPU, and Ray has none")
        return cls(threads, min(1.0, gpus / settings.replicas) if on_gpu else 0.0)


def check_settings(settings: Settings) -> None:
    """Refuses settings that would have no effect under Ray, or another than they say.

    Raises:
        BadInput: one of them is given.
    """
    defaults = {knob.name: knob.default for knob in fields(Settings)}
    for name in _NOT_BY_RAY:
        if getattr(settings, name) != defaults[name]:
            raise BadInput(
                f"{flag(name)} is of our own HTTP server and Ray Serve has its own; leave it out"
            )
    for name in _IN_ONE_PROCESS:
        if settings.replicas > 1 and getattr(settings, name) != defaults[name]:
            raise BadInput(
                f"{flag(name)} is kept by each copy for itself, and a client's requests go to any "
                f"of the {settings.replicas}; leave it out, or serve one copy"
            )
    if settings.port == 0:
        raise BadInput("Ray Serve chooses no port by itself; give --port")


def run_on_ray(settings: Settings) -> None:
    """Serves until SIGTERM or Ctrl-C, then lets the copies finish what they have.

    Starts Ray on this machine unless RAY_ADDRESS names a cluster or one runs here.

    Raises:
        BadInput: see `check_settings` and `CopyShare.of`; or the copies do not start.
        MissingExtra: Ray Serve is not installed.
    """
    from tamis.service.http.app import load_keyring, open_gateway
    from tamis.service.http.runtime.state import proxy_choice

    check_settings(settings)
    for check in (load_keyring, open_gateway, proxy_choice):
        check(settings)  # what a copy would refuse is refused here
    ray, serve = _ray_and_serve()
    stop = _stop_signal()
    log = create_logger(settings.log_format, settings.log_level)
    try:
        _deploy(serve, settings, CopyShare.of(settings, ray.cluster_resources()))
        url = http_url(settings.host, settings.port)
        log.info("listening", url=url, replicas=settings.replicas)
        stop.wait()
    finally:
        _leave(serve)
        ray.shutdown()
    log.info("closed")


def app_builder(settings: Settings) -> Callable[[], FastAPI]:
    """A function that makes the app of one copy, in the copy's own process."""

    def build() -> FastAPI:
        from tamis.service.http.app import create_app
        from tamis.service.http.runtime.memory import collect_rarely, limit_heaps

        limit_heaps()
        collect_rarely()
        return create_app(settings)

    return build


def _deploy(serve: Any, settings: Settings, share: CopyShare) -> None:
    """Starts the copies and waits until all are ready. BadInput: they do not start."""
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

    copies = serve.deployment(
        name=_NAME,
        num_replicas=settings.replicas,
        # the queue of a copy admits or refuses; Ray would hold back more than five by itself
        max_ongoing_requests=settings.max_connections,
        max_constructor_retry_count=_STARTS,
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        ray_actor_options={"num_cpus": share.threads, "num_gpus": share.gpus},
    )(serve.ingress(app_builder(settings))())
    try:
        serve.start(http_options={"host": settings.host, "port": settings.port})
        serve.run(copies.bind(), name=_NAME, route_prefix="/")
    except (RuntimeError, TimeoutError, RayError, RayServeException) as error:
        raise BadInput(f"the copies do not start: {error}") from error


def _leave(serve: Any) -> None:
    """Ends the copies, and Ray Serve too unless it serves others' applications."""
    if _NAME in serve.status().applications:
        serve.delete(_NAME)
    if not serve.status().applications:
        serve.shutdown()


def _stop_signal() -> threading.Event:
    """Set by SIGTERM or Ctrl-C."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _ray_and_serve() -> tuple[Any, Any]:
    """Ray and Ray Serve, connected to a cluster or started here."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics
    os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
    # a busy machine takes longer than Ray's 5 s to start a process
    os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")
    ray = connect_to_ray("ray.serve", "--engine ray", "service,ray")
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray, ray.serve

"""Logging: JSON lines, or console lines on a terminal; texts of requests are never logged."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from tamis.service.http.telemetry.choices import LogFormat, LogLevel


def create_logger(form: LogFormat = "auto", level: LogLevel = "info") -> Any:
    """A logger that writes to standard error; the process's own logging is left alone."""
    console = sys.stderr.isatty() if form == "auto" else form == "console"
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )

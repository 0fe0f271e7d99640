"""Logs: JSON for machines, lines for people, and never a text of a request."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from tamis.service.http.runtime.settings import LogFormat, LogLevel


def create_logger(form: LogFormat = "auto", level: LogLevel = "info") -> Any:
    """A logger that writes to standard error; nothing of the process's own logging is touched."""
    console = sys.stderr.isatty() if form == "auto" else form == "console"
    shown = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            shown,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )

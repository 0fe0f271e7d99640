"""What can be chosen of logs and traces."""

from __future__ import annotations

from typing import Literal

LogFormat = Literal["auto", "json", "console"]
LogLevel = Literal["debug", "info", "warning", "error"]
Traces = Literal["off", "on", "scores"]

"""The pictures of the documentation, made of the real service and the real command line.

python -m tests.screenshots        # make screenshots; needs chromium, chromedriver, the model

docs/page.png         the page with its example, compressed
docs/page-narrow.png  the same on a telephone
docs/terminal.svg     `tamis compress … --explain`
"""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WIDE, NARROW = (1100, 1300), (390, 844)
COLUMNS = 110
COMMAND = (
    *("tamis", "compress", "examples/fastapi-docs", "-q"),
    "May allow_origins be a wildcard when allow_credentials is True?",
    *("--max-tokens", "120", "--explain"),
)
SECONDS = 1200
# without fonts from elsewhere, and without the buttons of a window
SVG = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {terminal_width} {terminal_height}">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, monospace; font-size: \
{char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
<rect width="{terminal_width}" height="{terminal_height}" rx="8" fill="#171816" />
<g clip-path="url(#{unique_id}-clip-terminal)">{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g></g>
</svg>
"""


def main() -> None:
    """Makes all pictures."""
    terminal(DOCS / "terminal.svg")
    with browser() as driver, service() as url:
        for size, name in ((WIDE, "page.png"), (NARROW, "page-narrow.png")):
            page(driver, url, size, DOCS / name)


def terminal(target: Path) -> None:
    """What a command shows on a terminal, as a picture of text."""
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"))
    shown = f"$ {subprocess.list2cmdline(COMMAND)}\n{output_on_terminal(COMMAND)}"
    console.print(Text.from_ansi(shown))
    target.write_text(console.export_svg(title="", code_format=SVG, unique_id="t"), "utf-8")


def output_on_terminal(command: tuple[str, ...]) -> str:
    """Standard output of a command that takes it for a terminal."""
    main_end, other_end = pty.openpty()
    env = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    running = subprocess.Popen(
        [sys.executable, "-c", "from tamis.service.cli.main import run; run()", *command[1:]],
        cwd=ROOT, stdout=other_end, stderr=subprocess.DEVNULL, env=env,
    )  # fmt: skip
    os.close(other_end)
    parts = []
    while True:
        try:
            part = os.read(main_end, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        parts.append(part)
    if running.wait() != 0:
        sys.exit(f"{command} ended with {running.returncode}")
    return b"".join(parts).decode("utf-8").replace("\r\n", "\n")


@contextmanager
def browser() -> Iterator[Any]:
    """A browser without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or sys.exit("chromium is not installed")
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "hide-scrollbars"):
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(shutil.which("chromedriver"))
    )
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def service() -> Iterator[str]:
    """The address of a service with the default proxy."""
    from tamis.compressors.registry import layers_needed, load_proxy
    from tests.service.http.app_kit import served

    reader = load_proxy("smollm2-135m-sharp", layers_needed("question_rows"))
    with served(reader, warmup=False) as running:
        yield running.url


def page(driver: Any, url: str, size: tuple[int, int], target: Path) -> None:
    """The page with its example at a budget of about 150 tokens."""
    width, height = size
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1.5, "mobile": width < 500},
    )
    driver.get(url)
    driver.find_element("css selector", "#example").click()
    until = time.monotonic() + SECONDS
    while "tokens in" not in driver.find_element("css selector", "#status").text:
        if time.monotonic() > until:
            sys.exit("the page has no result")
        time.sleep(0.2)
    driver.execute_script(
        "const t = document.getElementById('tokens'); t.value = 150;"
        "t.dispatchEvent(new Event('input')); t.dispatchEvent(new Event('change'));"
        "scrollTo(0, innerWidth < 500 ? document.getElementById('result').offsetTop : 0);"
    )
    time.sleep(0.5)
    driver.save_screenshot(str(target))


if __name__ == "__main__":
    main()

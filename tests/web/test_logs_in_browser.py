"""The log of a run in inspect-ai's own viewer, in a real browser."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import pytest
from playwright.sync_api import expect, sync_playwright

from heuretic.evals.running import evaluate
from test_evaluations import Sums, right_below

pytestmark = pytest.mark.web


def test_the_viewer_shows_runs_and_answers(tmp_path: Path) -> None:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert path is not None, "no Chromium found"
    evaluate(Sums(count=20), right_below(5), logs=tmp_path / "logs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("inspect")),
        "view",
        "start",
        "--log-dir",
        "logs",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    viewer = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            try:
                urlopen(f"http://127.0.0.1:{port}/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.3)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1300, "height": 900})
            page.goto(f"http://127.0.0.1:{port}/")
            page.get_by_text(re.compile("sums")).first.click(timeout=60_000)
            expect(page.get_by_text("0.25", exact=True).first).to_be_visible(timeout=60_000)
            page.get_by_text("What is 3 + 1?").first.click()
            expect(page.get_by_text(re.compile(r"The answer is 4\.")).first).to_be_visible(timeout=60_000)
            browser.close()
    finally:
        viewer.terminate()
        viewer.wait(30)

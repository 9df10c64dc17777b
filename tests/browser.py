"""A browser for tests: finds one, or installs Debian's where that is allowed."""

import functools
import os
import shutil
import subprocess

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WAIT = 300  # seconds, for an installation


@functools.cache
def find_chromium() -> str:
    """The program; skips where there is none and it cannot be installed."""
    found = _look()
    if found is None and hasattr(os, "getuid") and os.getuid() == 0:
        _install()
        found = _look()
    if found is None:
        pytest.skip("no chromium: apt-get install chromium, or run the tests as root")
    return found


def _look() -> str | None:
    return next(filter(None, map(shutil.which, _NAMES)), None)


def _install() -> None:
    """By apt-get, once a session; where that fails the tests are skipped."""
    if shutil.which("apt-get") is None:
        return
    about = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-q"],
        ["apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium"],
    ):
        try:
            subprocess.run(
                command, env=about, capture_output=True, timeout=_WAIT, check=False
            )
        except subprocess.TimeoutExpired:
            return

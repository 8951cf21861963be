"""Headless Chromium that may reach this machine only, and that remembers what went wrong on a page."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops

SOFTWARE_WEBGL = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    # Pages themselves are painted without it, which is quicker where WebGL is computed.
    "--disable-gpu-compositing",
    "--disable-gpu-rasterization",
]
LOCAL = re.compile(r"^(file:|data:|blob:|about:|http://127\.0\.0\.1[:/])")


NOWHERE = {"server": "http://127.0.0.1:9", "bypass": "127.0.0.1"}
"""A proxy that nobody keeps: what is not on this machine is out of reach.

(Routes of playwright would stop it too, but with them the browser keeps no file for the next page.)
"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # one connection for many files

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are no news."""

    def end_headers(self) -> None:
        """Files that pages share are asked for once."""
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a web server for ``folder``, on a free port of this machine."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class Watch:
    """Errors of one page, and what it asks for beyond this machine."""

    def __init__(self, page: Any) -> None:
        self.troubles: list[str] = []
        page.on("request", lambda request: LOCAL.match(request.url) or self._note(f"off the machine: {request.url}"))
        page.on("console", lambda message: message.type == "error" and self._note(f"console: {message.text}"))
        page.on("pageerror", lambda error: self._note(f"error: {error}"))
        page.on("response", lambda response: response.status >= 400 and self._note(f"{response.status} {response.url}"))
        page.on("requestfailed", lambda request: self._note(f"failed: {request.url} {request.failure}"))

    def _note(self, text: str) -> None:
        self.troubles.append(text[:300])


def picture(locator: Any) -> Image.Image:
    """Screenshot of an element."""
    return Image.open(io.BytesIO(locator.screenshot())).convert("RGB")


def drawn_share(image: Image.Image) -> float:
    """Share of pixels that differ clearly from the picture's corner: 0 for an empty view."""
    ground = Image.new("RGB", image.size, image.getpixel((2, 2)))
    difference = ImageChops.difference(image, ground).convert("L").point(lambda value: 255 if value > 40 else 0)
    return difference.histogram()[255] / (image.width * image.height)


def changed_share(first: Image.Image, second: Image.Image) -> float:
    """Share of pixels that differ clearly between two pictures of one size."""
    difference = ImageChops.difference(first, second).convert("L").point(lambda value: 255 if value > 40 else 0)
    return difference.histogram()[255] / (first.width * first.height)

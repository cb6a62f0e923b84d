"""Images by address, with a cache on disk: what is not surely a whole image of a public server is absent, with the reason.

The cache is the folder `images` of the user's folder for caches (`heuretic.data.files`); a file in it is named for the sha256
of the address. With `HEURETIC_OFFLINE=1` nothing is asked for.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import ipaddress
import os
import secrets
import socket
import ssl
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

from heuretic.data.files import cache_folder, sweep
from heuretic.symbolic import Symbolic, field

T = TypeVar("T")

FORMATS = {"PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp"}
"""What models take, by the name that pillow gives it."""
_CHUNK_BYTES = 1 << 16
_REDIRECTS = 5
_AGENT = "heuretic (https://arxiv.org/abs/2407.15680; images of an evaluation)"


class ImageAbsent(Exception):
    """There is no image at an address, or none that can be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Image:
    """The bytes of an image and their media type."""

    data: bytes
    kind: str

    @property
    def uri(self) -> str:
        """The image as a data URI, which is how requests carry it."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


class ImageSource(Symbolic):
    """Where images come from: the cache, else their addresses.

    Only http and https are followed, at most five times, and never to addresses of this machine or of a private network, which
    are looked at once the connection is there, so that no name can change its mind. Proxies are not used.
    """

    timeout_s: float = field(default=30.0, gt=0, doc="for an image, from the first packet to the last")
    most_bytes: int = field(default=20_000_000, ge=1, doc="larger images are absent")
    most_pixels: int = field(default=64_000_000, ge=1, doc="images with more are absent")
    concurrency: int = field(default=8, ge=1, doc="images under way at once")
    private: bool = field(default=False, doc="whether addresses of this machine and of private networks are followed")

    def get(self, url: str) -> Image:
        """Return the image at an address. Raises: ImageAbsent."""
        folder = cache_folder()
        path = None if folder is None else folder / "images" / hashlib.sha256(url.encode()).hexdigest()
        if path is not None and path.is_file():
            try:
                return checked(path.read_bytes(), self.most_pixels)
            except (OSError, ImageAbsent):
                pass  # damaged since: it is fetched anew
        if os.environ.get("HEURETIC_OFFLINE", "") not in ("", "0"):
            raise ImageAbsent("not in the cache, and HEURETIC_OFFLINE forbids fetching it")
        found = checked(self._fetched(url), self.most_pixels)
        if path is not None:
            _keep(path, found.data)
        return found

    def _fetched(self, url: str) -> bytes:
        deadline = time.monotonic() + self.timeout_s
        try:
            for _ in range(_REDIRECTS + 1):
                found = self._answer(url, deadline)
                if isinstance(found, bytes):
                    return found
                url = found
        except TimeoutError as error:
            raise ImageAbsent(f"no whole answer within {self.timeout_s:g} s") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImageAbsent(f"no answer ({type(error).__name__}: {str(error)[:100]})") from error
        raise ImageAbsent(f"more than {_REDIRECTS} redirects")

    def _answer(self, url: str, deadline: float) -> bytes | str:
        """Return what is at an address, or the address that it names instead."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ImageAbsent(f"the address must begin with http:// or https://, got {url[:60]!r}")
        connection = self._connection(parts.scheme, parts.hostname, parts.port, deadline)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            headers = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": _AGENT}
            connection.request("GET", quote(target, safe="/?=&%+,;:@!$'()*~[]"), headers=headers)
            response = connection.getresponse()
            if response.status in (301, 302, 303, 307, 308) and (place := response.getheader("Location")):
                return urljoin(url, place)
            if response.status != 200:
                raise ImageAbsent(f"HTTP {response.status}")
            return self._body(response, connection, deadline)
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None, deadline: float) -> http.client.HTTPConnection:
        place = (host, port or (443 if scheme == "https" else 80))
        made = socket.create_connection(place, timeout=_left(deadline))
        peer = str(made.getpeername()[0])
        if not self.private and not is_public(peer):
            made.close()
            raise ImageAbsent(f"the address leads to {peer}, which is not public")
        if scheme == "https":
            made = ssl.create_default_context().wrap_socket(made, server_hostname=host)
        connection = http.client.HTTPConnection(*place)
        connection.sock = made
        if scheme == "https":
            connection.default_port = 443  # so that the header Host names no port
        return connection

    def _body(
        self, response: http.client.HTTPResponse, connection: http.client.HTTPConnection, deadline: float
    ) -> bytes:
        length = response.getheader("Content-Length", "")
        announced = int(length) if length.isdecimal() else None
        if announced is not None and announced > self.most_bytes:
            raise ImageAbsent(f"larger than {self.most_bytes:,} bytes")
        data = bytearray()
        while len(data) <= self.most_bytes:
            if connection.sock is not None:  # it is None where the response has taken it over
                connection.sock.settimeout(_left(deadline))
            _left(deadline)
            piece = response.read1(_CHUNK_BYTES)
            if not piece:
                break
            data += piece
        if len(data) > self.most_bytes:
            raise ImageAbsent(f"larger than {self.most_bytes:,} bytes")
        if announced is not None and len(data) < announced:
            raise ImageAbsent(f"broken off after {len(data):,} of {announced:,} bytes")
        return bytes(data)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def is_public(address: str) -> bool:
    """Return whether an IP address is one of the public internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    found = mapped or found
    return found.is_global and not found.is_multicast


def checked(data: bytes, most_pixels: int = 64_000_000) -> Image:
    """Return bytes as an image if they are a whole one, of a kind that models take. Raises: ImageAbsent."""
    try:
        import PIL.Image as pillow
    except ImportError as error:
        raise ImportError("images need pillow. Try: pip install 'heuretic[data]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # `most_pixels` is the limit here
            with pillow.open(io.BytesIO(data), formats=tuple(FORMATS)) as picture:
                if picture.width * picture.height > most_pixels:
                    raise ImageAbsent(f"more than {most_pixels:,} pixels")
                kind = FORMATS[picture.format or ""]
                picture.load()  # decodes all of it, which a file that was cut off does not survive
    except ImageAbsent:
        raise
    except (OSError, SyntaxError, ValueError, KeyError, EOFError, pillow.DecompressionBombError) as error:
        what = " ".join(str(error).split())[:80]
        raise ImageAbsent(f"not a whole image ({what})") from error
    return Image(data, kind)


def _keep(path: Path, data: bytes) -> None:
    """Put bytes into the cache in one step; a cache that cannot be written is none."""
    new = path.with_name(f"tmp-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent.glob("tmp-*"))
        new.write_bytes(data)
        os.replace(new, path)
    except OSError:
        new.unlink(missing_ok=True)


def with_images(
    items: Iterable[T], url: Callable[[T], str], source: ImageSource
) -> Generator[tuple[T, Image | ImageAbsent]]:
    """Yield items with their images, in order; images of the items that follow are fetched meanwhile.

    An address that was found dead is not asked again for another item.
    """
    dead: dict[str, ImageAbsent] = {}

    def fetched(address: str) -> Image | ImageAbsent:
        known = dead.get(address)
        if known is not None:
            return known
        try:
            return source.get(address)
        except ImageAbsent as error:
            dead[address] = error
            return error

    waiting = iter(items)
    coming: deque[tuple[T, Future[Image | ImageAbsent]]] = deque()
    pool = ThreadPoolExecutor(source.concurrency, thread_name_prefix="images")
    try:
        while True:
            while len(coming) < 2 * source.concurrency:
                item = next(waiting, None)
                if item is None:
                    break
                coming.append((item, pool.submit(fetched, url(item))))
            if not coming:
                return
            item, future = coming.popleft()
            yield item, future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)

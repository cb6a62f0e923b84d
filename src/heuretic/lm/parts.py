"""Images, sounds, films and documents for messages, read from files. They may stand anywhere between texts."""

from __future__ import annotations

import base64
import mimetypes
from pathlib import Path
from typing import Literal, cast

from inspect_ai.model import (
    ChatMessageUser,
    Content,
    ContentAudio,
    ContentDocument,
    ContentImage,
    ContentText,
    ContentVideo,
)

Detail = Literal["auto", "low", "high"]
_IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
_SOUNDS = {".wav": "audio/wav", ".mp3": "audio/mpeg"}
_FILMS = {".mp4": "video/mp4", ".mpeg": "video/mpeg", ".mpg": "video/mpeg", ".mov": "video/quicktime"}


def user(*parts: str | Content) -> ChatMessageUser:
    """Return a message of texts and other parts in this order, such as `user("Compare", image(a), "with", image(b))`."""
    return ChatMessageUser(content=[ContentText(text=part) if isinstance(part, str) else part for part in parts])


def image(path: str | Path, detail: Detail = "auto") -> ContentImage:
    """Return the image in a file (.png, .jpg, .gif, .webp). Raises: ValueError for other files, FileNotFoundError for none."""
    return ContentImage(image=_data(Path(path), "an image", _IMAGES), detail=detail)


def audio(path: str | Path) -> ContentAudio:
    """Return the sound in a file (.wav, .mp3). Raises: ValueError for other files, FileNotFoundError for none."""
    data = _data(Path(path), "a sound", _SOUNDS)
    return ContentAudio(audio=data, format="mp3" if data.startswith("data:audio/mpeg") else "wav")


def video(path: str | Path) -> ContentVideo:
    """Return the film in a file (.mp4, .mpeg, .mov). Raises: ValueError for other files, FileNotFoundError for none."""
    data = _data(Path(path), "a film", _FILMS)
    form = {"video/mp4": "mp4", "video/mpeg": "mpeg", "video/quicktime": "mov"}[data[5 : data.index(";")]]
    return ContentVideo(video=data, format=cast(Literal["mp4", "mpeg", "mov"], form))


def document(path: str | Path) -> ContentDocument:
    """Return the document in a file, such as a .pdf. Raises: FileNotFoundError if there is none."""
    path = Path(path)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return ContentDocument(
        document=_data(path, "a document", {path.suffix.lower(): kind}), filename=path.name, mime_type=kind
    )


def _data(path: Path, what: str, kinds: dict[str, str]) -> str:
    """Return a file's bytes as a data URI: that is how a request carries them, and what decides where it is cached."""
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{what} must be in a file that ends in {', '.join(kinds)}, got {path}")
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"

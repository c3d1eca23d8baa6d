"""Mail: the body, then each attachment under a heading; one that cannot be read does not cost the message."""

from __future__ import annotations

import email
import email.policy
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from schemas.errors import ParseFailed
from schemas.records import Element
from tasks.parsing.html import deepened, html_elements
from tasks.parsing.reading import Reading
from tasks.parsing.text import decode, text_elements

# a message in a message in a message …
NESTING = 4
VALUE_CHARACTERS = 500

ReadFile = Callable[[Path, int], Reading]  # a path, and how many messages it is in


@dataclass(frozen=True)
class _Attachment:
    name: str
    content: bytes


_Message = tuple[list[Element], dict[str, str], Iterator[_Attachment]]


def read_mail(path: Path, suffix: str, read_file: ReadFile, nesting: int = 0) -> Reading:
    """An .eml (RFC 822) or .msg (Outlook) file. Raises ParseFailed (`encrypted`, `unsupported`)."""
    elements, metadata, attachments = _eml(path) if suffix == ".eml" else _msg(path)
    return _with_attachments(elements, metadata, attachments, read_file, nesting)


def _eml(path: Path) -> _Message:
    message = email.message_from_bytes(_as_ascii(path.read_bytes()), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    if message.get_content_type() == "multipart/encrypted":
        raise ParseFailed("encrypted", "the message is encrypted; save it decrypted")
    body = message.get_body(preferencelist=("html", "plain"))
    elements = _body(_text(body), body.get_content_subtype()) if isinstance(body, EmailMessage) else []
    headers = {"subject": "subject", "sent_from": "from", "sent_to": "to"}
    metadata = {name: _header(message, header) for name, header in headers.items()}
    return elements, metadata, _parts(message, body)


def _msg(path: Path) -> _Message:
    from oxmsg import Message

    message = Message.load(str(path))
    if "multipart/encrypted" in str(message.message_headers).lower():
        raise ParseFailed("encrypted", "the message is encrypted; save it decrypted")
    html = message.html_body
    elements = _body(html, "html") if html else text_elements((message.body or "").replace("\r\n", "\n"))
    metadata = {
        "subject": message.subject or "",
        "sent_from": message.sender or "",
        "sent_to": ", ".join(recipient.email_address for recipient in message.recipients),
    }
    attachments = (_Attachment(a.file_name or "attachment", a.file_bytes or b"") for a in message.attachments)
    return elements, metadata, attachments


def _with_attachments(
    elements: list[Element],
    metadata: dict[str, str],
    attachments: Iterator[_Attachment],
    read_file: ReadFile,
    nesting: int,
) -> Reading:
    unread = []
    with tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        for n, attachment in enumerate(attachments):
            try:
                if nesting >= NESTING:
                    raise ParseFailed("unsupported", "too many messages in one another")
                # only the suffix of a name that comes from outside
                file = Path(folder) / f"{n}{Path(attachment.name).suffix.lower()[:12]}"
                file.write_bytes(attachment.content)
                found = read_file(file, nesting + 1)
            except MemoryError:
                raise
            except Exception as error:  # whatever a parser makes of it
                unread.append(f"{attachment.name} ({error.kind if isinstance(error, ParseFailed) else 'malformed'})")
            else:
                if found.elements:
                    title = found.metadata.get("subject") or attachment.name
                    elements += [Element(title, "Title", 0), *deepened(found.elements)]
    metadata["unread_attachments"] = ", ".join(unread)
    if unread and not elements:
        raise ParseFailed("unsupported", f"it holds only attachments that cannot be read: {', '.join(unread)}")
    metadata = {name: line[:VALUE_CHARACTERS] for name, line in metadata.items()}
    return Reading(elements, metadata["subject"], titled=True, metadata=metadata)


def _as_ascii(data: bytes) -> bytes:
    """The message's bytes; one saved as UTF-16 in those of its text."""
    return decode(data).encode() if b"\x00" in data[:200] else data


def _body(text: str, subtype: str) -> list[Element]:
    return html_elements(text)[0] if subtype == "html" else text_elements(text)


def _text(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    return decode(payload if isinstance(payload, bytes) else b"", part.get_content_charset())


def _header(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except Exception:  # the standard library's header parser raises several kinds on malformed ones
        raw = dict(message.raw_items()).get(name.title(), "")
        return " ".join(str(raw).split())


def _parts(message: EmailMessage, body: object) -> Iterator[_Attachment]:
    """What is not the body, nor another form of it, nor a picture."""
    parts = [part for part in message.walk() if part is not body and isinstance(part, EmailMessage)]
    alternatives = {
        id(b) for part in [message, *parts] if part.get_content_subtype() == "alternative" for b in part.walk()
    }
    inside = {
        id(b) for part in parts if part.get_content_type() == "message/rfc822" for b in part.walk() if b is not part
    }
    for part in parts:
        name = _filename(part)
        if id(part) in inside or (id(part) in alternatives and not name) or part.get_content_maintype() == "image":
            continue
        if part.get_content_type() == "message/rfc822":
            inner = part.get_payload()
            if isinstance(inner, list) and inner and isinstance(inner[0], EmailMessage):
                yield _Attachment(name or "message.eml", inner[0].as_bytes())
        elif not part.is_multipart() and part.get_content_subtype() not in {"pgp-signature", "pkcs7-signature"}:
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and content.strip():
                subtype = part.get_content_subtype()
                suffix = {"html": ".html", "plain": ".txt"}.get(subtype, f".{subtype}")
                yield _Attachment(name or f"part{suffix}", content)


def _filename(part: EmailMessage) -> str:
    try:
        return part.get_filename() or ""
    except Exception:  # as above
        return ""

"""E-mail as mail programs save it (.eml): headers, every text body, forwarded messages, names of attachments."""

import email.generator  # imported on first use otherwise, which the sandbox refuses
import email.policy
from email.message import Message
from email.parser import BytesParser

from documents.extraction.formats.plain import decode
from documents.extraction.formats.web import read_html
from documents.reasons import Reason, Unreadable

_HEADERS = ("From", "To", "Cc", "Date")
_MAX_DEPTH = 20


def read_mail(document: bytes) -> str:
    message = BytesParser(policy=email.policy.default).parsebytes(document)
    return "\n\n".join(filter(None, _message(message, 0)))


def _message(message: Message, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise Unreadable(Reason.TOO_COMPLEX, "depth")
    subject = _header(message, "Subject")
    headers = [f"{name}: {value}" for name in _HEADERS if (value := _header(message, name))]
    return [f"# {subject}" if subject else "", "\n".join(headers), *_body(message, depth)]


def _header(message: Message, name: str) -> str:
    try:
        return " ".join(str(message[name] or "").split())
    except (ValueError, LookupError, AttributeError, TypeError, IndexError):  # malformed headers upset the stdlib's own parser
        return ""


def _body(part: Message, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        raise Unreadable(Reason.TOO_COMPLEX, "depth")
    kind = part.get_content_type()
    payload = part.get_payload()
    children = [child for child in payload if isinstance(child, Message)] if isinstance(payload, list) else []
    if kind == "message/rfc822" and children:
        return ["Forwarded message:", *_message(children[0], depth + 1)]
    if kind == "multipart/alternative":
        return _alternative(children, depth)
    if children:
        return [text for child in children for text in _body(child, depth + 1)]
    name = _file_name(part)
    if kind in ("text/plain", "text/html") and part.get_content_disposition() != "attachment":
        return [_text(part, kind)]
    return [f"Attachment: {name}"] if name else []


def _alternative(children: list[Message], depth: int) -> list[str]:
    """The same words in several forms: the plain one, unless it is empty."""
    by_kind = sorted(children, key=lambda child: child.get_content_type() != "text/plain")
    for child in by_kind:
        if any(texts := _body(child, depth + 1)):
            return texts
    return []


def _text(part: Message, kind: str) -> str:
    content = part.get_payload(decode=True)
    body = content if isinstance(content, bytes) else b""
    text = decode(body, str(part.get_content_charset() or ""))
    return read_html(text) if kind == "text/html" else text.strip()


def _file_name(part: Message) -> str:
    try:
        return " ".join(str(part.get_filename() or "").split())
    except (ValueError, LookupError, AttributeError, TypeError, IndexError):
        return ""

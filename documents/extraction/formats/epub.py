"""EPUB: the chapters in the order of the spine, each read as HTML."""

from documents.extraction.archives import Archive, local_name, resolve
from documents.extraction.formats.web import read_html
from documents.reasons import Reason, Unreadable

_CONTENT = ("application/xhtml+xml", "text/html")


def read_epub(document: bytes) -> list[str]:
    """The text of each chapter."""
    archive = Archive(document)
    root = archive.xml("META-INF/container.xml").find(".//{*}rootfile")
    if root is None:
        raise Unreadable(Reason.DAMAGED, "container")
    package_name = resolve("", root.get("full-path", ""))
    package = archive.xml(package_name)
    folder = package_name.rpartition("/")[0]
    items = {
        item.get("id", ""): (resolve(folder, item.get("href", "")), item.get("media-type", ""))
        for item in package.iter("{*}item")
    }
    spine = [items[one.get("idref", "")] for one in package.iter("{*}itemref") if one.get("idref", "") in items]
    chapters = [name for name, kind in spine if kind in _CONTENT and archive.has(name)]
    locked = _encrypted(archive)  # book shops encrypt chapters; in free books fonts alone are obfuscated
    if any(name.lower() in locked for name in chapters):
        raise Unreadable(Reason.ENCRYPTED, "epub")
    return [read_html(archive.read(name)) for name in chapters]


def _encrypted(archive: Archive) -> set[str]:
    if not archive.has("META-INF/encryption.xml"):
        return set()
    return {
        resolve("", one.get("URI", "")).lower()
        for one in archive.xml("META-INF/encryption.xml").iter()
        if local_name(one) == "CipherReference"
    }

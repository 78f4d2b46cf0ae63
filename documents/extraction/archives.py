"""Zip containers and their XML, within limits checked before anything is unpacked. Runs in the sandbox."""

import io
import posixpath
import zipfile
import zlib
from typing import Literal, overload
from urllib.parse import unquote

from lxml import etree

from documents.reasons import Reason, Unreadable

MAX_MEMBERS = 5000
MAX_MEMBER_BYTES = 50 << 20
MAX_TOTAL_BYTES = 200 << 20
_ENCRYPTED_FLAG = 0x1


def open_zip(document: bytes) -> zipfile.ZipFile:
    """With its directory read, and nothing checked. Raises Unreadable."""
    try:
        return zipfile.ZipFile(io.BytesIO(document))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Unreadable(Reason.DAMAGED, type(error).__name__) from None


class Archive:
    """A zip whose directory has been checked. Names are looked up without regard to case or a leading slash."""

    def __init__(self, document: bytes) -> None:
        self._zip = open_zip(document)
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise Unreadable(Reason.TOO_COMPLEX, "members")
        if sum(member.file_size for member in members) > MAX_TOTAL_BYTES:
            raise Unreadable(Reason.TOO_LARGE, "total")
        if any(member.file_size > MAX_MEMBER_BYTES for member in members):
            raise Unreadable(Reason.TOO_LARGE, "member")
        if any(member.flag_bits & _ENCRYPTED_FLAG for member in members):
            raise Unreadable(Reason.ENCRYPTED, "zip")
        self._members = {key(member.filename): member for member in members}

    @property
    def names(self) -> list[str]:
        return list(self._members)

    def has(self, name: str) -> bool:
        return key(name) in self._members

    @overload
    def read(self, name: str) -> bytes: ...
    @overload
    def read(self, name: str, default: bytes) -> bytes: ...
    def read(self, name: str, default: bytes | None = None) -> bytes:
        """A member's bytes. Raises Unreadable when it is missing without a default, damaged, or larger than it said."""
        member = self._members.get(key(name))
        if member is None:
            if default is None:
                raise Unreadable(Reason.DAMAGED, "member")
            return default
        try:
            with self._zip.open(member) as file:
                content = file.read(MAX_MEMBER_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise Unreadable(Reason.DAMAGED, type(error).__name__) from None
        if len(content) > MAX_MEMBER_BYTES:
            raise Unreadable(Reason.TOO_LARGE, "member")
        return content

    def xml(self, name: str) -> etree._Element:
        return parse_xml(self.read(name))

    def relations(self, name: str) -> list[tuple[str, str, str]]:
        """(id, kind, target) of the parts related to one: kind is the last word of the type, target a name in the archive."""
        folder, _, leaf = name.rpartition("/")
        relations = f"{folder}/_rels/{leaf}.rels" if folder else f"_rels/{leaf}.rels"
        if not self.has(relations):
            return []
        return [
            (one.get("Id", ""), one.get("Type", "").rpartition("/")[2], resolve(folder, one.get("Target", "")))
            for one in self.xml(relations)
            if one.get("TargetMode") != "External"
        ]

    def related(self, name: str, kind: Literal["notesSlide", "chart", "diagramData", "slide", "officeDocument"]) -> list[str]:
        return [target for _, found, target in self.relations(name) if found == kind and self.has(target)]


def resolve(folder: str, target: str) -> str:
    """The archive name a relative (or absolute) reference points to."""
    target = unquote(target.partition("#")[0])
    joined = target if target.startswith("/") else posixpath.join(folder, target)
    return posixpath.normpath("/" + joined).lstrip("/")


def parse_xml(document: bytes) -> etree._Element:
    """The root. No entity is resolved, nothing is fetched; depth and text are bounded by libxml2's own limits."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False, recover=False)
    try:
        return etree.fromstring(document, parser)
    except etree.XMLSyntaxError as error:
        text = str(error).lower()
        too_complex = "huge" in text or "depth" in text or "amplification" in text
        raise Unreadable(Reason.TOO_COMPLEX if too_complex else Reason.DAMAGED, "XMLSyntaxError") from None


def local_name(element: etree._Element) -> str:
    """The tag without its namespace: strict and transitional OOXML differ only in that. Empty for comments and the like."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def key(name: str) -> str:
    """A name as it is looked up."""
    return name.lstrip("/").lower()

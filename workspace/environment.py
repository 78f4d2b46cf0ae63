"""Reads settings from the environment: a bad value stops the start with its name and what is allowed.

Any value may also come from a file named by `<NAME>_FILE` (secrets of container platforms). Knows nothing of Django.
"""

import base64
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class BadSetting(SystemExit):
    """A setting has a value that cannot be used; ends the program with one sentence."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


def text(name: str, default: str | None = None) -> str:
    """The value of `name`, or of the file that `<name>_FILE` names; BadSetting when there is neither nor a default."""
    if (value := os.environ.get(name, "")) != "":
        return value
    if path := os.environ.get(f"{name}_FILE", ""):
        try:
            return Path(path).read_text().rstrip("\n")
        except OSError as error:
            raise BadSetting(f"{name}_FILE", f"cannot read {path} ({error.strerror}).") from None
    if default is None:
        raise BadSetting(name, f"is not set. Set it, or name a file that holds it in {name}_FILE.")
    return default


def boolean(name: str, default: bool) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off"}:
        return False
    raise BadSetting(name, f"{value!r} is neither yes nor no; use 1 or 0.")


def whole_number(name: str, default: int, least: int = 0) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise BadSetting(name, f"{value!r} is not a whole number of at least {least}.")
    return number


def one_of(name: str, default: str, allowed: tuple[str, ...]) -> str:
    """One of the allowed words, however its letters are cased."""
    value = text(name, default)
    for word in allowed:
        if value.casefold() == word.casefold():
            return word
    raise BadSetting(name, f"{value!r} is none of {', '.join(allowed)}.")


def some_of(name: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the allowed words, in the order given; all of them where it is not set."""
    words = tuple(word.strip() for word in text(name, ",".join(allowed)).split(",") if word.strip())
    if not words or len(set(words)) < len(words) or not set(words) <= set(allowed):
        raise BadSetting(name, f"{','.join(words)!r} must be some of {', '.join(allowed)}, each once, with commas.")
    return words


def web_address(name: str, default: str) -> str:
    """http(s)://host, without a slash at its end; empty only where that is the default."""
    value = text(name, default).rstrip("/")
    if value == default == "":
        return ""
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise BadSetting(name, f"{value!r} is no address such as https://search.example.org.")
    return value


def rate(name: str, default: str) -> tuple[int, int]:
    """How many in how many seconds, written as 120/60."""
    value = text(name, default)
    parts = value.split("/")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise BadSetting(name, f"{value!r} is no rate such as 120/60: a number, a slash, and in how many seconds.")
    return int(parts[0]), int(parts[1])


def root_key(name: str) -> bytes:
    """32 bytes in base64 or hex; empty where it is not set."""
    value = text(name, "").strip()
    for decode in (bytes.fromhex, lambda written: base64.b64decode(written, validate=True)):
        with suppress(ValueError):
            if len(found := decode(value)) == 32:
                return found
    if value:
        raise BadSetting(name, "is not 32 bytes in base64 or hex. Make one with `openssl rand -base64 32`.")
    return b""


def words(name: str, default: str = "") -> list[str]:
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def path(name: str, default: Path) -> Path:
    value = Path(text(name, str(default)))
    if not value.is_absolute():
        raise BadSetting(name, f"{value} is not an absolute path.")
    return value


@dataclass(frozen=True)
class Database:
    """Where the database is; `user` and `password`, when given, are an administrator's and used by `prepare` alone."""

    host: str
    port: str
    name: str
    user: str
    password: str
    options: dict[str, str]


DATABASE_FORM = "use postgresql://host:port/name (a socket directory as host is percent-encoded: %2Frun%2Fpostgresql)"


def database(name: str = "DATABASE_URL") -> Database:
    value = text(name)
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise BadSetting(name, f"its port is not a number; {DATABASE_FORM}.") from None
    if parts.scheme not in {"postgresql", "postgres"}:
        raise BadSetting(name, f"its scheme is {parts.scheme or 'missing'}; {DATABASE_FORM}.")
    database_name = unquote(parts.path.lstrip("/"))
    if not database_name or "/" in database_name or len(database_name) > 18 or not database_name.isidentifier():
        raise BadSetting(name, f"the database's name must be an identifier of at most 18 characters; {DATABASE_FORM}.")
    allowed = {"sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout"}
    options = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    if unknown := set(options) - allowed:
        raise BadSetting(name, f"unknown option {', '.join(sorted(unknown))}; allowed: {', '.join(sorted(allowed))}.")
    host = unquote(parts.netloc.rpartition("@")[2])
    host = host[: -len(f":{port}")] if port else host
    return Database(
        host.strip("[]"),
        str(port or ""),
        database_name,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
        options,
    )


def redis_url(name: str = "REDIS_URL") -> str:
    value = text(name)
    scheme = value.partition("://")[0]
    if scheme not in {"redis", "rediss", "unix"}:
        raise BadSetting(name, "use redis://[:password@]host:port/number, rediss://… or unix:///path?db=number.")
    return value

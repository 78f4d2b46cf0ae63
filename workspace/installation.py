"""One installation as its processes see it: directories, services, secrets, and the environment each process is given.

A process gets the passwords it needs and no others; the administrator's address goes to `manage.py prepare` alone.
Knows nothing of Django: settings.py reads what is set here.
"""

import fcntl
import json
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from workspace import environment as env
from workspace.embedded import Services
from workspace.embedded.private import private_opener, write_private

CHECKOUT = Path(__file__).resolve().parent.parent
DATABASE_NAME = "cloister"
Kind = Literal["web", "worker", "command", "administrator"]
PASSWORDS_OF: Mapping[Kind, tuple[str, ...]] = {
    "web": ("web",),
    "worker": ("worker", "operator"),  # provisioning, which runs DDL, is a job
    "command": ("worker", "operator"),
    "administrator": ("web", "worker", "operator"),
}
WITHHELD = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "DB_PASSWORD_WEB", "DB_PASSWORD_WORKER", "DB_PASSWORD_OPERATOR")
# What is set for people who come through a proxy, and would keep a temporary installation from being reached.
OF_A_SERVER = ("HOSTS", "PUBLIC_URL", "HTTPS", "TRUST_PROXY")

# Libraries that call home unless told not to. OpenVINO has no variable: it reads a file in $HOME (see `quiet_home`).
TELEMETRY_OFF = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",  # not telemetry: its threads do not survive a fork
}


@dataclass(frozen=True)
class Installation:
    var: Path
    keys: Path
    model: Path
    static: Path
    services: Services  # those of them that we run ourselves

    @classmethod
    def from_environment(cls) -> "Installation":
        """Refuses a value that cannot be used by ending the program with its name (environment.BadSetting)."""
        var = env.path("CLOISTER_VAR", CHECKOUT / "var")
        keys = env.path("KEYS_DIR", CHECKOUT / "keys")
        if keys.resolve().is_relative_to(var.resolve()):
            raise env.BadSetting("KEYS_DIR", f"{keys} lies in {var}: a backup of the data would hold its keys as well.")
        ours = set()
        if is_set("DATABASE_URL"):
            env.database()
            env.text("SECRET_KEY")
        else:
            ours.add("postgres")
        if is_set("REDIS_URL"):
            env.redis_url()
        else:
            ours.add("redis")
        services = Services(var / "services", only=frozenset(ours))
        return cls(var, keys, env.path("MODEL_DIR", var / "model"), env.path("STATIC_ROOT", var / "static"), services)

    @classmethod
    def temporary(cls, directory: Path, *, throwaway: bool) -> "Installation":
        """Below `directory`, with services and secrets of its own: servers that are set are left alone, and forgotten.

        What takes long to make is the checkout's: the model and the static files.
        """
        for name in (*WITHHELD, *OF_A_SERVER):
            os.environ.pop(name, None)
            os.environ.pop(f"{name}_FILE", None)
        here = cls.from_environment()
        services = Services(directory / "var" / "services", throwaway=throwaway)
        return cls(directory / "var", directory / "keys", here.model, here.static, services)

    @property
    def logs(self) -> Path:
        return self.services.logs

    @property
    def database_is_ours(self) -> bool:
        return "postgres" in self.services.only

    def make_directories(self) -> None:
        if not self.var.exists():
            self.var.mkdir(parents=True)
            self.var.chmod(0o711)  # whatever our umask: the services' account has to pass through
        self.keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.services.home.mkdir(mode=0o711, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        opted_out = self.quiet_home / "intel" / "openvino_telemetry"
        if not opted_out.exists():
            opted_out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            opted_out.write_text("0")

    @property
    def quiet_home(self) -> Path:
        """HOME of our processes: where OpenVINO looks whether it may send usage data (it may not)."""
        return self.var / "home"

    def environment(self, kind: Kind, **more: str) -> dict[str, str]:
        """Call it when the services are prepared: before that they have no passwords."""
        own = self._own_secrets()
        withheld = {*WITHHELD, *(f"{name}_FILE" for name in WITHHELD), "CLOISTER_LOGIN", "CLOISTER_EMBEDDED"}
        found = {name: value for name, value in os.environ.items() if name not in withheld}
        found |= TELEMETRY_OFF | {
            "HOME": str(self.quiet_home),
            "CLOISTER_VAR": str(self.var),
            "KEYS_DIR": str(self.keys),
            "MODEL_DIR": str(self.model),
            "STATIC_ROOT": str(self.static),
            "SECRET_KEY": env.text("SECRET_KEY", own["SECRET_KEY"] if self.database_is_ours else None),
            "REDIS_URL": self.services.redis_url() if "redis" in self.services.only else env.redis_url(),
            "DATABASE_URL": self._database_url(administrator=kind == "administrator"),
            "DJANGO_SETTINGS_MODULE": "workspace.settings",
            "PYTHONUNBUFFERED": "1",
        }
        for login in PASSWORDS_OF[kind]:
            name = f"DB_PASSWORD_{login.upper()}"
            found[name] = env.text(name, own[name])
        if self.database_is_ours:
            found["CLOISTER_EMBEDDED"] = "1"  # only then may `manage.py demo` make logins that are printed
        if kind in ("web", "worker"):
            found["CLOISTER_LOGIN"] = kind
        return found | more

    def _database_url(self, administrator: bool) -> str:
        url = self.services.database_url(DATABASE_NAME) if self.database_is_ours else env.text("DATABASE_URL")
        if administrator:
            return url
        parts = urlsplit(url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def _own_secrets(self) -> dict[str, str]:
        """Made once. Losing the file signs everybody out; `prepare` gives the logins their new passwords."""
        path = self.var / "secrets.json"
        with FileLock(self.var / "secrets.lock"):
            found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
            names = ("SECRET_KEY", "DB_PASSWORD_WEB", "DB_PASSWORD_WORKER", "DB_PASSWORD_OPERATOR")
            if missing := [name for name in names if name not in found]:
                found |= {name: secrets.token_urlsafe(48) for name in missing}
                write_private(path, json.dumps(found))
        return found

    def manage(self, *arguments: str) -> list[str]:
        return [sys.executable, str(CHECKOUT / "manage.py"), *arguments]


class FileLock:
    """Held by one process at a time, for as long as the block lasts or the process lives."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a", opener=private_opener)
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def is_set(name: str) -> bool:
    return bool(os.environ.get(name) or os.environ.get(f"{name}_FILE"))

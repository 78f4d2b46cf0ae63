"""Stand-ins for Vault's transit engine and AWS KMS: small HTTP servers on loopback that keep keys in memory.

They answer as the services document it, in failures too, and check what a careless client gets wrong: tokens, signatures,
bindings. `failing` makes the next answers a failure.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Service:
    def __init__(self) -> None:
        self.failing: str = ""  # "sealed", "forbidden", "throttled", "malformed", "slow", "drip", "redirect", "broken"
        self.asked: list[tuple[str, str]] = []  # method or action, and path or key
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if service.failing == "slow":
                    time.sleep(30)
                if service.failing == "malformed":
                    return self.say(200, b"<html>maintenance</html>")
                if service.failing == "redirect":
                    return self.say(302, b"", Location="http://127.0.0.1:1/")
                if service.failing == "broken":
                    return self.say(502, b"<html>bad gateway</html>")
                if service.failing == "drip":
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(60):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                        time.sleep(0.5)
                    return None
                status, said = service.reply(self.command, self.path, dict(self.headers), body)
                return self.say(status, json.dumps(said).encode() if said is not None else b"")

            def say(self, status: int, body: bytes, **headers: str) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 (the names are http.server's)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any] | None]:
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[Any]:
        thread = threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()


class TransitVault(Service):
    def __init__(self) -> None:
        super().__init__()
        self.token = secrets.token_hex(16)
        self.role_id, self.secret_id = secrets.token_hex(8), secrets.token_hex(8)
        self.keys: dict[str, dict[str, Any]] = {}

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any] | None]:
        self.asked.append((method, path))
        given = json.loads(body) if body else {}
        if self.failing == "sealed":
            return 503, {"errors": ["Vault is sealed"]}
        if self.failing == "throttled":
            return 429, {"errors": ['request path "transit/": rate limit quota exceeded']}
        if path == "/v1/auth/approle/login":
            if (given.get("role_id"), given.get("secret_id")) != (self.role_id, self.secret_id):
                return 400, {"errors": ["invalid role or secret ID"]}
            return 200, {"auth": {"client_token": self.token, "lease_duration": 3600, "renewable": True}}
        if self.failing == "forbidden" or headers.get("X-Vault-Token") != self.token:
            return 403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
        match = re.fullmatch(r"/v1/transit/(keys|encrypt|decrypt)/([\w.-]+)(?:/(rotate|config|trim))?", path)
        if not match:
            return 404, {"errors": ["no handler for route"]}
        verb, name, more = match.groups()
        key = self.keys.get(name)
        if verb == "keys" and more is None and method == "POST":
            self.keys.setdefault(
                name, {"keys": {1: AESGCM.generate_key(256)}, "least": 1, "least_encrypt": 0, "deletable": False}
            )
            return 200, {"data": {"name": name}}
        if verb == "encrypt" and key is None:  # as Vault does, for a policy that allows it
            key = self.keys[name] = {"keys": {1: AESGCM.generate_key(256)}, "least": 1, "least_encrypt": 0, "deletable": False}
        if key is None:
            return (400, {"errors": ["encryption key not found"]}) if verb == "decrypt" else (404, {"errors": []})
        newest = max(key["keys"])
        if verb == "encrypt":
            version = given.get("key_version") or newest
            nonce = secrets.token_bytes(12)
            sealed = nonce + AESGCM(key["keys"][version]).encrypt(
                nonce, base64.b64decode(given["plaintext"]), base64.b64decode(given.get("associated_data", ""))
            )
            return 200, {
                "data": {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}
            }
        if verb == "decrypt":
            try:
                _, numbered, text = given["ciphertext"].split(":")
                version, raw = int(numbered[1:]), base64.b64decode(text)
                if version < key["least"]:
                    return 400, {"errors": ["ciphertext or signature version is disallowed by policy (too old)"]}
                bound = base64.b64decode(given.get("associated_data", ""))
                opened = AESGCM(key["keys"][version]).decrypt(raw[:12], raw[12:], bound)
            except (InvalidTag, ValueError, KeyError):
                return 400, {"errors": ["cipher: message authentication failed"]}
            return 200, {"data": {"plaintext": base64.b64encode(opened).decode()}}
        if method == "GET":
            return 200, {"data": {"keys": {str(v): 1 for v in key["keys"]}, "latest_version": newest,
                                  "min_decryption_version": key["least"], "deletion_allowed": key["deletable"]}}  # fmt: skip
        if method == "DELETE":
            if not key["deletable"]:
                return 400, {"errors": ["deletion is not allowed for this key"]}
            del self.keys[name]
            return 204, None
        if more == "rotate":
            key["keys"][newest + 1] = AESGCM.generate_key(256)
        elif more == "config":
            key["deletable"] = given.get("deletion_allowed", key["deletable"])
            key["least"] = given.get("min_decryption_version", key["least"])
            key["least_encrypt"] = given.get("min_encryption_version", key["least_encrypt"])
        elif more == "trim":
            if not key["least_encrypt"] or given["min_available_version"] > min(key["least"], key["least_encrypt"]):
                return 400, {"errors": ["minimum available version cannot be higher than minimum decryption version"]}
            key["keys"] = {v: k for v, k in key["keys"].items() if v >= given["min_available_version"]}
        return 200, {"data": {}}


class CloudKMS(Service):
    """Verifies the signature of every request, by its own reading of Signature Version 4."""

    access_key_id, secret, region = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "eu-central-1"

    def __init__(self) -> None:
        super().__init__()
        self.keys: dict[str, dict[str, Any]] = {}
        self.aliases: dict[str, str] = {}

    def is_signed(self, headers: dict[str, str], body: bytes) -> bool:
        low = {name.lower(): value for name, value in headers.items()}
        match = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/kms/aws4_request, "
            r"SignedHeaders=([\w;-]+), Signature=(\w{64})",
            low.get("authorization", ""),
        )
        if not match or match[1] != self.access_key_id or match[3] != self.region:
            return False
        signed = match[4].split(";")
        if not {"host", "x-amz-date", "x-amz-target", "content-type"} <= set(signed):
            return False
        request = "\n".join(
            ["POST", "/", "", *[f"{name}:{low[name]}" for name in signed], "", match[4], hashlib.sha256(body).hexdigest()]
        )
        scope = f"{match[2]}/{match[3]}/kms/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", low["x-amz-date"], scope, hashlib.sha256(request.encode()).hexdigest()])
        key = ("AWS4" + self.secret).encode()
        for part in scope.split("/"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        return hmac.compare_digest(hmac.new(key, to_sign.encode(), "sha256").hexdigest(), match[5])

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, Any] | None]:
        action = headers.get("X-Amz-Target", "").removeprefix("TrentService.")
        given = json.loads(body)
        self.asked.append((action, given.get("KeyId", given.get("AliasName", ""))))

        def wrong(kind: str, status: int = 400) -> tuple[int, dict[str, Any]]:
            return status, {"__type": kind, "message": f"something about {given.get('KeyId')}"}

        if self.failing == "throttled":
            return wrong("ThrottlingException")
        if self.failing == "sealed":
            return wrong("KMSInternalException", 500)
        if self.failing == "forbidden":
            return wrong("AccessDeniedException")
        if not self.is_signed(headers, body):
            return wrong("InvalidSignatureException")
        if action == "CreateKey":
            key_id = secrets.token_hex(16)
            self.keys[key_id] = {"KeyId": key_id, "Description": given["Description"], "KeyState": "Enabled",
                                 "secret": AESGCM.generate_key(256)}  # fmt: skip
            return 200, {"KeyMetadata": self.shown(key_id)}
        if action == "CreateAlias":
            if given["AliasName"] in self.aliases:
                return wrong("AlreadyExistsException")
            self.aliases[given["AliasName"]] = given["TargetKeyId"]
            return 200, {}
        if action in {"UpdateAlias", "DeleteAlias"}:
            if given["AliasName"] not in self.aliases:
                return wrong("NotFoundException")
            if action == "UpdateAlias":
                self.aliases[given["AliasName"]] = given["TargetKeyId"]
            else:
                del self.aliases[given["AliasName"]]
            return 200, {}
        key_id = self.aliases.get(given["KeyId"], given["KeyId"])
        if key_id not in self.keys:
            return wrong("NotFoundException")
        key = self.keys[key_id]
        if action == "DescribeKey":
            return 200, {"KeyMetadata": self.shown(key_id)}
        if key["KeyState"] == "PendingDeletion":
            return wrong("KMSInvalidStateException")
        bound = json.dumps(given.get("EncryptionContext", {}), sort_keys=True).encode()
        if action == "Encrypt":
            nonce = secrets.token_bytes(12)
            sealed = AESGCM(key["secret"]).encrypt(nonce, base64.b64decode(given["Plaintext"]), key_id.encode() + bound)
            blob = base64.b64encode(bytes.fromhex(key_id) + nonce + sealed).decode()
            return 200, {"CiphertextBlob": blob, "KeyId": key_id}
        if action == "Decrypt":
            blob = base64.b64decode(given["CiphertextBlob"])
            if blob[:16].hex() not in self.keys:
                return wrong("InvalidCiphertextException")
            if blob[:16].hex() != key_id:
                return wrong("IncorrectKeyException")
            try:
                opened = AESGCM(key["secret"]).decrypt(blob[16:28], blob[28:], key_id.encode() + bound)
            except (InvalidTag, ValueError):
                return wrong("InvalidCiphertextException")
            return 200, {"Plaintext": base64.b64encode(opened).decode(), "KeyId": key_id}
        if action == "ScheduleKeyDeletion":
            key["KeyState"], key["days"] = "PendingDeletion", given["PendingWindowInDays"]
            return 200, {"KeyId": key_id, "KeyState": "PendingDeletion"}
        return wrong("UnknownOperationException")

    def shown(self, key_id: str) -> dict[str, Any]:
        return {name: value for name, value in self.keys[key_id].items() if name in {"KeyId", "Description", "KeyState"}}

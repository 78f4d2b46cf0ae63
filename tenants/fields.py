"""Model fields that are ciphertext in the database and decrypt when the attribute is touched, not when a row is loaded.

Each value is bound to its table, column and row, so the model needs a primary key that exists before the insert.
"""

import json
from collections.abc import Callable
from typing import Any

from django.core.exceptions import FieldError
from django.db import models
from django.db.models.query_utils import DeferredAttribute

from tenants.ciphers import Cipher, ColumnCipher, cipher


class Ciphertext(bytes):
    """An encrypted value as the database holds it; `Field.reader()` opens it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<Ciphertext of {len(self)} bytes>"


class DecryptOnTouch(DeferredAttribute):
    """The attribute: holds what was loaded or set, and replaces a Ciphertext by its plaintext when first read."""

    def __get__(self, instance: models.Model | None, cls: Any = None) -> Any:
        value = super().__get__(instance, cls)
        if instance is not None and isinstance(value, Ciphertext):
            value = self.field.open(instance.pk, value)  # type: ignore[attr-defined]
            instance.__dict__[self.field.attname] = value
        return value

    def __set__(self, instance: models.Model, value: Any) -> None:
        """With it Python asks the descriptor before the instance's own dictionary, which holds the ciphertext."""
        instance.__dict__[self.field.attname] = value


class EncryptedField(models.BinaryField):
    """Base of the encrypted fields: a bytea column. Not filterable, not orderable, refused in QuerySet.update()."""

    descriptor_class = DecryptOnTouch

    def __init__(self, *args: Any, purpose: str = "text", **kwargs: Any) -> None:
        self.purpose = purpose
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        if self.purpose != "text":
            kwargs["purpose"] = self.purpose
        return name, path, args, kwargs

    def _check_str_default_value(self) -> list[Any]:
        return []  # BinaryField wants bytes; here the default is the plaintext value

    # -- between plaintext value and bytes

    def pack(self, value: Any) -> bytes:
        return bytes(value)

    def unpack(self, plaintext: bytes) -> Any:
        return plaintext

    # -- between bytes and database

    def context(self, pk: Any) -> tuple[str, str, str]:
        return (self.model._meta.db_table, str(self.column), str(pk))

    def open(self, pk: Any, value: bytes) -> Any:
        return self.unpack(cipher(self.purpose).decrypt(self.context(pk), value))

    def seal(self, pk: Any, value: Any) -> Ciphertext:
        return Ciphertext(cipher(self.purpose).encrypt(self.context(pk), self.pack(value)))

    def reader(self, own: Cipher | None = None) -> Callable[[Any, Any], Any]:
        """For many rows: `read(pk, ciphertext)` with the cipher taken once, for the current workspace."""
        decrypt, unpack = self._of_column(own).decrypt, self.unpack
        return lambda pk, value: unpack(decrypt(pk, value))

    def writer(self) -> Callable[[Any, Any], bytes]:
        """For many rows written past the ORM: `write(pk, value)` with the cipher taken once."""
        encrypt, pack = self._of_column().encrypt, self.pack
        return lambda pk, value: encrypt(pk, pack(value))

    def _of_column(self, own: Cipher | None = None) -> ColumnCipher:
        return ColumnCipher(own or cipher(self.purpose), self.model._meta.db_table, str(self.column))

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Ciphertext | None:
        return None if value is None else Ciphertext(value)

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = model_instance.__dict__.get(self.attname)
        if value is None or isinstance(value, Ciphertext):
            return value
        if model_instance.pk is None:
            raise FieldError(f"{self.model.__name__}.{self.name} is encrypted: the row needs its primary key first")
        return self.seal(model_instance.pk, value)

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        if value is not None and not isinstance(value, Ciphertext):
            raise FieldError(
                f"{self.model.__name__}.{self.name} is encrypted per row: set it on an instance and save(), "
                "it cannot be used in a filter or in QuerySet.update()"
            )
        return super().get_db_prep_value(None if value is None else bytes(value), connection, prepared)

    def value_to_string(self, obj: models.Model) -> str:
        raise FieldError(f"{self.model.__name__}.{self.name} is encrypted and is not serialized")


def readers(*fields: Any) -> tuple[Callable[[Any, Any], Any], ...]:
    """The `reader` of each of these encrypted fields; those of one purpose share a cipher."""
    ciphers = {purpose: cipher(purpose) for purpose in {field.purpose for field in fields}}
    return tuple(field.reader(ciphers[field.purpose]) for field in fields)


class EncryptedBinaryField(EncryptedField):
    _pyi_private_set_type: bytes
    _pyi_private_get_type: bytes

    def read_packed(self, ids: bytes, values: bytes, length: int) -> bytes:
        """As ColumnCipher.decrypt_packed, for the current workspace."""
        return self._of_column().decrypt_packed(ids, values, length)


class EncryptedTextField(EncryptedField):
    _pyi_private_set_type: str | Ciphertext  # for django-stubs: what may be set, and what touching yields
    _pyi_private_get_type: str  # type: ignore[assignment]

    def pack(self, value: Any) -> bytes:
        return str(value).encode()

    def unpack(self, plaintext: bytes) -> str:
        return plaintext.decode()


class EncryptedJSONField(EncryptedField):
    _pyi_private_set_type: Any
    _pyi_private_get_type: Any

    def pack(self, value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

    def unpack(self, plaintext: bytes) -> Any:
        return json.loads(plaintext)

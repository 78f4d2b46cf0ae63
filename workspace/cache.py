"""How values lie in the cache: JSON. By Django's default, pickle, whoever writes to Redis runs code in the web process."""

import json
from typing import Any


class JSONSerializer:
    """For django.core.cache.backends.redis: whole numbers stay as they are, so that Redis can count with them."""

    def dumps(self, obj: Any) -> Any:
        return obj if type(obj) is int else json.dumps(obj).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)

"""Loaded before Django's settings (`-p tests.environment`): private directories and a Redis database for this process.

`bin/test` has started PostgreSQL and Redis and says where they are.
"""

import atexit
import os
import re
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

if "DATABASE_URL" not in os.environ:
    raise SystemExit("The tests need their services: run bin/test (arguments are passed on to pytest).")

home = Path(tempfile.mkdtemp(prefix="cloister-test-"))
atexit.register(shutil.rmtree, home, ignore_errors=True)
REDIS_NUMBER = 1
os.environ.setdefault("MODEL_DIR", str(ROOT / "var" / "model"))
os.environ["CLOISTER_VAR"] = str(home / "var")
os.environ["KEYS_DIR"] = str(home / "keys")
os.environ["CLOISTER_LOGIN"] = "worker"
url = os.environ["REDIS_URL"]
if url.startswith("unix:"):
    os.environ["REDIS_URL"] = re.sub(r"db=\d+", f"db={REDIS_NUMBER}", url)
else:
    os.environ["REDIS_URL"] = re.sub(r"/\d+$", f"/{REDIS_NUMBER}", url)

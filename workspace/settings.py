"""Settings of the whole product. Every value comes from the environment (docs/configuration.md lists them); a bad one is
refused at the start by name.
"""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from csp.constants import NONE, SELF

from tenants.keys.providers.aws_kms import KMSPlace
from tenants.keys.providers.vault import VaultPlace
from workspace import environment as env

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = env.path("CLOISTER_VAR", BASE_DIR / "var")
KEYS_DIR = env.path("KEYS_DIR", BASE_DIR / "keys")
WITNESS_DIR = env.path("WITNESS_DIR", KEYS_DIR / "witness")  # never restored with the database (tenants/witness.py)
FILES_DIR = env.path("FILES_DIR", VAR_DIR / "files")
MODEL_DIR = env.path("MODEL_DIR", VAR_DIR / "model")
MODELS_DIR = env.path("MODELS_DIR", VAR_DIR / "models")
if KEYS_DIR.is_relative_to(VAR_DIR):
    raise env.BadSetting("KEYS_DIR", f"{KEYS_DIR} lies in {VAR_DIR}: a backup of the data would hold its keys as well.")
if WITNESS_DIR.is_relative_to(VAR_DIR):
    raise env.BadSetting("WITNESS_DIR", f"{WITNESS_DIR} lies in {VAR_DIR}: restored with the data it could not tell its age.")

# -- who holds the wrapping keys (tenants/keys/providers); others stay reachable while `rotate_keys` moves keys away from them
KEY_PROVIDER = env.one_of("KEY_PROVIDER", "keystore", ("keystore", "sealed-keystore", "vault", "aws-kms"))
KEYS_ROOT_KEY = env.root_key("KEYS_ROOT_KEY")
VAULT = (
    VaultPlace(
        address=env.web_address("VAULT_ADDR", ""),
        mount=env.text("VAULT_MOUNT", "transit").strip("/"),
        prefix=env.text("KEY_PREFIX", "cloister"),
        namespace=env.text("VAULT_NAMESPACE", ""),
        ca_file=env.text("VAULT_CACERT", ""),
        token=env.text("VAULT_TOKEN", ""),
        role_id=env.text("VAULT_ROLE_ID", ""),
        secret_id=env.text("VAULT_SECRET_ID", ""),
    )
    if env.text("VAULT_ADDR", "")
    else None
)
if VAULT and not VAULT.token and not (VAULT.role_id and VAULT.secret_id):
    raise env.BadSetting("VAULT_TOKEN", "is not set, nor are both of VAULT_ROLE_ID and VAULT_SECRET_ID: Vault lets nobody in.")
AWS_KMS = (
    KMSPlace(
        region=env.text("AWS_REGION", ""),
        access_key_id=env.text("AWS_ACCESS_KEY_ID", ""),
        secret_access_key=env.text("AWS_SECRET_ACCESS_KEY", ""),
        session_token=env.text("AWS_SESSION_TOKEN", ""),
        endpoint=env.web_address("AWS_KMS_ENDPOINT", ""),
        prefix=env.text("KEY_PREFIX", "cloister"),
        waiting_days=env.whole_number("AWS_KMS_WAITING_DAYS", 7, 7),
        ca_file=env.text("AWS_CA_BUNDLE", ""),
    )
    if env.text("AWS_ACCESS_KEY_ID", "") and env.text("AWS_SECRET_ACCESS_KEY", "") and env.text("AWS_REGION", "")
    else None
)
if AWS_KMS and AWS_KMS.waiting_days > 30:
    raise env.BadSetting("AWS_KMS_WAITING_DAYS", "AWS KMS waits 7 to 30 days before it deletes a key.")
for _name, _address in (("VAULT_ADDR", VAULT and VAULT.address), ("AWS_KMS_ENDPOINT", AWS_KMS and AWS_KMS.endpoint)):
    if (_address or "").startswith("http:") and urlsplit(_address or "").hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise env.BadSetting(_name, "must be an https address: keys travel there.")
_needed = {
    "sealed-keystore": (KEYS_ROOT_KEY, "KEYS_ROOT_KEY"),
    "vault": (VAULT, "VAULT_ADDR"),
    "aws-kms": (AWS_KMS, "AWS_REGION"),
}
if KEY_PROVIDER in _needed and not _needed[KEY_PROVIDER][0]:
    raise env.BadSetting(_needed[KEY_PROVIDER][1], f"is not set, or what belongs to it: KEY_PROVIDER is {KEY_PROVIDER}.")

SECRET_KEY = env.text("SECRET_KEY")
if len(SECRET_KEY) < 32:
    raise env.BadSetting("SECRET_KEY", "must have at least 32 characters, chosen at random.")
DEBUG = env.boolean("DEBUG", False)
# Hosts of the installation itself; every other host must be a workspace's own (ResolveTenant answers 404 otherwise).
HOSTS = [host.lower() for host in env.words("HOSTS", "localhost,127.0.0.1,[::1]")]
ALLOWED_HOSTS = ["*"]
PUBLIC_URL = env.web_address("PUBLIC_URL", "http://localhost:8000")  # in links that leave by mail or command

# -- behind a reverse proxy that ends TLS
HTTPS = env.boolean("HTTPS", False)
TRUST_PROXY = env.boolean("TRUST_PROXY", False)
if HTTPS and not TRUST_PROXY:
    raise env.BadSetting("HTTPS", "needs TRUST_PROXY=1: TLS ends at a proxy, and only it can say that the browser used it.")
if TRUST_PROXY:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    USE_X_FORWARDED_HOST = True
ALLAUTH_TRUSTED_PROXY_COUNT = 1 if TRUST_PROXY else 0  # rate limits and lock-outs count the client, not the proxy
AXES_CLIENT_IP_CALLABLE = "allauth.core.internal.httpkit.get_client_ip"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_SSL_REDIRECT = HTTPS
SECURE_REDIRECT_EXEMPT = [r"^health/$"]
SECURE_HSTS_SECONDS = env.whole_number("HSTS_SECONDS", 31_536_000) if HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"  # "no-referrer" would break the CSRF check behind TLS
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "workspace.views.csrf_failure"

# -- database: one login per kind of process, each given its own password only (tenants/roles.py)
LOGIN = env.one_of("CLOISTER_LOGIN", "worker", ("web", "worker", "operator"))
_database = env.database()
DATABASE_NAME = _database.name
DATABASE_ADMINISTRATOR = (_database.user, _database.password)  # used by `manage.py prepare` alone
DATABASE_OPTIONS = _database.options  # TLS, time-outs
DATABASE_PASSWORDS = {
    kind: env.text(f"DB_PASSWORD_{kind.upper()}", None if kind == LOGIN else "") for kind in ("web", "worker", "operator")
}
TENANT_LOGINS = env.boolean("TENANT_LOGINS", False)  # a login for each workspace (tenants/logins.py)


def _login(kind: str) -> dict[str, Any]:
    return {
        "ENGINE": "tenants.database",
        "NAME": DATABASE_NAME,
        "HOST": _database.host,
        "PORT": _database.port,
        "USER": f"{DATABASE_NAME}_{kind}",
        "PASSWORD": DATABASE_PASSWORDS[kind],
        "SWITCH_ROLES": kind != "operator",  # the operator stays itself: it owns the tables
        "CONN_MAX_AGE": 0 if kind == "operator" else 300,  # bounded: a backend remembers every tenant it has touched
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {
            "server_side_binding": True,
            "prepare_threshold": None,  # cached plans break across schemas whose columns differ
            # the time zone here, since Django would set it with set_config(), which is revoked;
            # ef_search is the number of candidates an HNSW scan may return (search/querying.py asks for up to 400);
            # the iterative scan goes on when deleted rows, not vacuumed yet, have taken their places
            "options": "-c timezone=UTC -c hnsw.ef_search=400 -c hnsw.iterative_scan=relaxed_order"
            # a request that waits longer than this gives its thread back; jobs may take their time
            + (" -c statement_timeout=60s -c lock_timeout=10s" if kind == "web" else ""),
            "application_name": f"cloister-{kind}",
            **_database.options,
        },
        "TEST": {"TEMPLATE": f"{DATABASE_NAME}_template"},  # holds what needs an administrator: extension and revokes
    }


DATABASES = {"default": _login(LOGIN)}
if LOGIN == "worker" and DATABASE_PASSWORDS["operator"]:
    DATABASES["operator"] = _login("operator")
DATABASE_ROUTERS = [TENANT_SYNC_ROUTER := "tenants.routing.SchemaRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TENANT_MODEL, TENANT_DOMAIN_MODEL, AUTH_USER_MODEL = "tenants.Tenant", "tenants.Domain", "tenants.User"
SHARED_APPS = [
    "workspace.apps.ConsoleConfig",  # first: its templates, not django_tenants' with their inline styles
    "django_tenants",
    "workspace",
    "tenants",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "tenants.oidc",
    "axes",
    "csp",
    "django_htmx",
    "heroicons",
    "django_rq",
]
TENANT_APPS = ["tenants.audit", "documents", "search"]
INSTALLED_APPS = [*SHARED_APPS, *TENANT_APPS]

ROOT_URLCONF = PUBLIC_SCHEMA_URLCONF = "workspace.urls"
WORKSPACE_URLCONF = "workspace.urls_workspace"
WSGI_APPLICATION = "workspace.wsgi.application"
MIDDLEWARE = [
    "workspace.middleware.ReferenceNumber",
    "tenants.middleware.ResolveTenant",  # before all that touches the database; public context
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "workspace.middleware.QueuePageStyles",
    "tenants.middleware.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "tenants.middleware.Authentication",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "axes.middleware.AxesMiddleware",  # turns a lock-out into 429
    "tenants.middleware.ActivateTenant",  # last: the person is known
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["workspace.templatetags.ui", "workspace.templatetags.results"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "workspace.context_processors.screen",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.DjangoTemplates"
STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = env.path("STATIC_ROOT", VAR_DIR / "static")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},  # nothing is stored through Django's storage
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if STATIC_ROOT.exists() and not DEBUG
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not STATIC_ROOT.exists()
USE_TZ, TIME_ZONE, LANGUAGE_CODE, USE_I18N = True, "UTC", "en", False
FORMAT_MODULE_PATH = "workspace.formats"

# -- Redis: queues and the cache (rate limits, which all processes must share)
REDIS_URL = env.redis_url()
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"{DATABASE_NAME}:cache",
        "KEY_FUNCTION": "django_tenants.cache.make_key",
        "REVERSE_KEY_FUNCTION": "django_tenants.cache.reverse_key",
        "OPTIONS": {"serializer": "workspace.cache.JSONSerializer"},
    }
}
RQ_QUEUES = {
    name: {"URL": REDIS_URL, "DEFAULT_TIMEOUT": 3600, "SERIALIZER": "rq.serializers.JSONSerializer"}
    for name in ("default", "ingest")
}
WORKER_QUEUES = env.some_of("WORKER_QUEUES", tuple(RQ_QUEUES))  # which a worker takes jobs from; the first goes first
RQ = {"JOB_CLASS": "tenants.worker.TenantJob", "QUEUE_CLASS": "tenants.worker.TenantQueue"}
RQ_SHOW_ADMIN_LINK = True

# -- sign-in
SESSION_ENGINE = "tenants.sessions"
SESSION_COOKIE_AGE = 14 * 24 * 3600
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"  # encrypted there, unlike in a cookie
# How long after owners were told staff may view a workspace that nobody refused (tenants/staff_access.py)
STAFF_ACCESS_DELAY_HOURS = env.whole_number("STAFF_ACCESS_DELAY_HOURS", 24, 1)
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
# Literal paths: reverse() inside a workspace would prepend /w/<slug>/.
LOGIN_URL, LOGIN_REDIRECT_URL, LOGOUT_REDIRECT_URL = "/accounts/login/", "/", "/accounts/login/"
SIGN_UP_OPEN = env.boolean("SIGN_UP_OPEN", False)
SECOND_FACTOR_URL = "/accounts/second-factor/"
ACCOUNT_ADAPTER = "tenants.accounts.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGOUT_ON_PASSWORD_CHANGE = False
MFA_ADAPTER = "tenants.accounts.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = not HTTPS  # browsers offer passkeys over plain HTTP on localhost alone
MFA_FORMS = {
    "add_webauthn": "tenants.forms.AddPasskeyForm",
    "authenticate_webauthn": "tenants.forms.SecondFactorPasskeyForm",
    "login_webauthn": "tenants.forms.SignInPasskeyForm",
    "reauthenticate_webauthn": "tenants.forms.ConfirmPasskeyForm",
}
MFA_TOTP_TOLERANCE = 1  # a code typed across the half-minute counts
MFA_TOTP_ISSUER = "Cloister"
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT, AXES_COOLOFF_TIME = 5, 1  # hours
AXES_RESET_ON_SUCCESS = True  # else two slips, a good sign-in and a slip lock the person out
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # the time that the page names stays true
AXES_LOCKOUT_CALLABLE = "tenants.limits.locked_out"
# Of the limits allauth has by default only this one spans more than a minute.
SIGN_IN_FAILURES_SECONDS = 300
ACCOUNT_RATE_LIMITS = {"login_failed": f"10/m/ip,5/{SIGN_IN_FAILURES_SECONDS}s/key"}
AXES_VERBOSE = False
SILENCED_SYSTEM_CHECKS = ["axes.W003"]

# -- sign-in by somebody else's word (OpenID Connect), where all of it is set
OIDC_ISSUER = env.web_address("OIDC_ISSUER", "")
OIDC_CLIENT_ID, OIDC_CLIENT_SECRET = env.text("OIDC_CLIENT_ID", ""), env.text("OIDC_CLIENT_SECRET", "")
OIDC_NAME = env.text("OIDC_NAME", "single sign-on")
if OIDC_ISSUER.startswith("http:") and urlsplit(OIDC_ISSUER).hostname not in {"localhost", "127.0.0.1", "::1"}:
    raise env.BadSetting("OIDC_ISSUER", "must be an https address: the client's secret and people's tokens travel there.")
_oidc = {"OIDC_ISSUER": OIDC_ISSUER, "OIDC_CLIENT_ID": OIDC_CLIENT_ID, "OIDC_CLIENT_SECRET": OIDC_CLIENT_SECRET}
if (_missing := [name for name, value in _oidc.items() if not value]) and len(_missing) < len(_oidc):
    raise env.BadSetting(_missing[0], f"is not set, but other parts of it are: set all of {', '.join(_oidc)}, or none.")
SOCIALACCOUNT_ADAPTER = "tenants.oidc.adapter.SocialAccountAdapter"
SOCIALACCOUNT_STORE_TOKENS = False
SOCIALACCOUNT_EMAIL_AUTHENTICATION = False  # an address is no identity
SOCIALACCOUNT_REAUTHENTICATION_REQUIRED = True  # to connect one, which then signs in
SOCIALACCOUNT_REQUESTS_TIMEOUT = 10
SOCIALACCOUNT_PROVIDERS = {
    "oidc": {
        "OAUTH_PKCE_ENABLED": True,
        "APPS": [{"name": OIDC_NAME, "client_id": OIDC_CLIENT_ID, "secret": OIDC_CLIENT_SECRET}] if OIDC_ISSUER else [],
    }
}

# -- how much one person may ask of one workspace: count and seconds (tenants/limits.py)
RATE_SEARCH = env.rate("RATE_SEARCH", "120/60")
RATE_INSTANT = env.rate("RATE_INSTANT", "300/60")  # the page sends at most four a second while somebody types
RATE_UPLOAD = env.rate("RATE_UPLOAD", "1200/60")  # a browser sends one request for each file
RATE_PICTURE = env.rate("RATE_PICTURE", "120/60")
RATE_PASSWORD = env.rate("RATE_PASSWORD", "10/60")  # of PDFs

# -- mail: without a server, staff hand the links over (tenants/mail.py)
EMAIL_HOST = env.text("EMAIL_HOST", "")
MAIL_IS_CONFIGURED = bool(EMAIL_HOST)
EMAIL_BACKEND = "tenants.mail.ServerBackend" if MAIL_IS_CONFIGURED else "tenants.mail.HandOverBackend"
EMAIL_PORT = env.whole_number("EMAIL_PORT", 587, 1)
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = env.text("EMAIL_USER", ""), env.text("EMAIL_PASSWORD", "")
EMAIL_USE_TLS = env.boolean("EMAIL_TLS", True)
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env.text("EMAIL_FROM", "Cloister <cloister@localhost>")

# -- uploads: never to a temporary file in the clear; the upload view brings the handler that encrypts while receiving
FILE_UPLOAD_HANDLERS = ["documents.uploads.RefusingUploadHandler"]
DATA_UPLOAD_MAX_NUMBER_FILES = 1000
DATA_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
OCR_LANGUAGES = env.text("OCR_LANGUAGES", "eng+deu")  # as far as they are installed
MAX_UPLOAD_BYTES = env.whole_number("MAX_UPLOAD_BYTES", 2_000_000_000, 1)

# -- workspaces
DELETION_DAYS = env.whole_number("DELETION_DAYS", 14, 1)  # from an owner's request to the erasure
TRASH_DAYS = env.whole_number("TRASH_DAYS", 30, 1)  # a document can be taken out of the trash for so long
BACKUP_DAYS = env.whole_number("BACKUP_DAYS", 35, 0)  # how long backups are kept: an old key lives on for as long
# what a new one may hold at most; 0: no limit
QUOTA_DOCUMENTS = env.whole_number("QUOTA_DOCUMENTS", 0)
QUOTA_BYTES = env.whole_number("QUOTA_BYTES", 0)
QUOTA_MEMBERS = env.whole_number("QUOTA_MEMBERS", 0)

# -- search
PROTECTION = ("open", "cloaked", "sealed")  # how vectors are held, from the least protected to the most
DEFAULT_PROTECTION = env.one_of("DEFAULT_PROTECTION", "cloaked", PROTECTION)
PROTECTION_FLOOR = env.one_of("PROTECTION_FLOOR", "open", PROTECTION)
if PROTECTION.index(DEFAULT_PROTECTION) < PROTECTION.index(PROTECTION_FLOOR):
    raise env.BadSetting("DEFAULT_PROTECTION", f"{DEFAULT_PROTECTION} is below PROTECTION_FLOOR, {PROTECTION_FLOOR}.")
POOL_BYTES = env.whole_number("POOL_BYTES", 1024**3, 1024**2)
WEB_PROCESSES = env.whole_number("WEB_PROCESSES", 1, 1)  # for gunicorn_config; here so that all refuse a wrong one
POOL_TTL_SECONDS = env.whole_number("POOL_TTL_SECONDS", 900, 1)

# -- what a browser may do with our pages (default-src does not cover base-uri, form-action, frame-ancestors)
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    }
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "private": {
            "()": "tenants.privacy.PrivateFormatter",
            "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
        }
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "private"}},
    "root": {
        "handlers": ["stderr"],
        "level": env.one_of("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")),
    },
    "loggers": {
        "django.server": {"handlers": ["stderr"], "propagate": False},
        "django.db.backends": {"level": "WARNING"},  # statements would carry content
        "axes": {"level": "WARNING"},
        "faiss": {"level": "WARNING"},
        "rq.worker": {"handlers": ["stderr"], "propagate": False, "level": "WARNING"},
        "rq.job": {"handlers": ["stderr"], "propagate": False, "level": "WARNING"},
    },
}

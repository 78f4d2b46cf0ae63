"""The web process: gunicorn loads `application` from here."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "workspace.settings")
os.environ.setdefault("CLOISTER_LOGIN", "web")

from django.core.wsgi import get_wsgi_application

from tenants.memory import keep_private

keep_private()
application = get_wsgi_application()

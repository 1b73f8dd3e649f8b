"""Django: `mizzen run examples.frameworks.with_django:io`; the views are in django_urls.py."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

from mizzen import Server

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.frameworks.django_settings")
app = get_asgi_application()

io = Server(app)

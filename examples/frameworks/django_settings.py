"""The settings of the Django example."""

from __future__ import annotations

SECRET_KEY = "change me"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "examples.frameworks.django_urls"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "examples.frameworks.django_urls.count",
]
LOGGING_CONFIG = None

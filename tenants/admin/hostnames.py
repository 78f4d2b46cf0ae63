"""Hostnames of a workspace's own, checked before the proxy and the resolver meet them."""

import re

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError

from tenants.models import Domain

HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
LONGEST_HOST = 253


class DomainForm(forms.ModelForm):
    """A hostname of a workspace's own. What is typed is a name alone: no scheme, port or path."""

    class Meta:
        model = Domain
        fields = ("domain",)
        labels = {"domain": "hostname"}

    def clean_domain(self) -> str:
        host = str(self.cleaned_data["domain"])
        labels = host.split(".")
        if len(host) > LONGEST_HOST or not all(map(HOST_LABEL.match, labels)) or labels[-1].isdigit():
            raise ValidationError(
                "Use a hostname such as search.example.org: lower-case letters, digits, hyphens and dots; "
                "no scheme, port or path."
            )
        if host in settings.HOSTS:
            raise ValidationError(f"{host} is this installation's own (HOSTS): no workspace can have it.")
        if Domain.objects.filter(domain=host).exclude(pk=self.instance.pk).exists():
            raise ValidationError(f"{host} is taken: another workspace has it.")
        return host


class DomainInline(admin.TabularInline):
    model = Domain
    form = DomainForm
    extra = 0
    verbose_name, verbose_name_plural = "hostname", "hostnames of its own"

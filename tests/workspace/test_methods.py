"""Every address of a workspace looks at the method before the role: what it cannot be asked by is 405 for everybody."""

from uuid import uuid4

import pytest
from django.conf import settings
from django.test import Client

from tenants.models import Tenant
from workspace.isolation.routes import Route, routes

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("route", routes(settings.WORKSPACE_URLCONF), ids=lambda route: route.pattern)
def test_the_method_comes_before_the_role(client_viewer: Client, workspace_a: Tenant, route: Route) -> None:
    nobodys = {argument: "1" if argument in ("user_id", "number") else str(uuid4()) for argument in route.arguments}
    path = workspace_a.path + route.path(nobodys)
    assert client_viewer.patch(path).status_code == 405

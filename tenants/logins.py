"""TENANT_LOGINS=1: each workspace's role is a login with a password of its own, and no other login may become it.

Where it is off (the default) the roles cannot sign in, and the logins web and worker may become them. Passwords are
derived from the installation key and the role's name, and stored nowhere; PostgreSQL keeps a SCRAM verifier. Runs as the
operator: for each new workspace, and for all of them in `prepare`, which is how the setting is switched.
"""

from typing import Any

from django.conf import settings
from django.db import transaction

from tenants.keys.keyring import derive, provider
from tenants.roles import group_role, login_name, own_roles


def password(role: str) -> str:
    """The password of a workspace's role. Raises KeyUnavailable without the installation key."""
    return derive(provider().installation_key(), b"tenant-login", role.encode()).hex()


def apply(operator: Any, role: str) -> None:
    """Bring one role to what the setting says. Safe to repeat."""
    database, others = operator.settings_dict["NAME"], ", ".join(f'"{login_name(kind)}"' for kind in ("web", "worker"))
    operator.ensure_connection()
    if settings.TENANT_LOGINS:
        secret, name = password(role).encode(), role.encode()
        verifier = operator.connection.pgconn.encrypt_password(secret, name, b"scram-sha-256").decode()
        statements = [
            # a role may have left settings to itself while it could not sign in
            f'ALTER ROLE "{role}" RESET ALL',
            f'ALTER ROLE "{role}" IN DATABASE "{database}" RESET ALL',
            f"ALTER ROLE \"{role}\" LOGIN PASSWORD '{verifier}'",
            f'REVOKE "{role}" FROM {others}',
        ]
    else:
        statements = [
            f'ALTER ROLE "{role}" NOLOGIN PASSWORD NULL',
            f'GRANT "{role}" TO {others} WITH INHERIT FALSE, SET TRUE',
        ]
    with operator.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def sync(operator: Any) -> None:
    """Bring the roles of all workspaces to what the setting says: all of them or none."""
    database = operator.settings_dict["NAME"]
    connect = "GRANT CONNECT ON DATABASE {} TO {}" if settings.TENANT_LOGINS else "REVOKE CONNECT ON DATABASE {} FROM {}"
    # with logins, all of them: the installation key, and with it their passwords, may be another
    roles = _of_workspaces(operator) if settings.TENANT_LOGINS else unlike_setting(operator)
    with transaction.atomic(using=operator.alias), operator.cursor() as cursor:
        cursor.execute(connect.format(f'"{database}"', f'"{group_role(database)}"'))
        for role in roles:
            apply(operator, role)


def unlike_setting(connection: Any) -> list[str]:
    """Roles of workspaces that are not as the setting says. Any login may ask."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.rolname FROM pg_roles r WHERE r.rolname = ANY(%s) AND (r.rolcanlogin <> %s OR %s <> EXISTS "
            "(SELECT 1 FROM pg_auth_members m JOIN pg_roles l ON l.oid = m.member WHERE m.roleid = r.oid "
            "AND l.rolname = ANY(%s)))",
            [
                _of_workspaces(connection),
                settings.TENANT_LOGINS,
                not settings.TENANT_LOGINS,
                [login_name("web"), login_name("worker")],
            ],
        )
        return [role for (role,) in cursor.fetchall()]


def _of_workspaces(connection: Any) -> list[str]:
    return [role for role in own_roles(connection) if role.startswith(f"{connection.settings_dict['NAME']}_tenant_")]

"""`manage.py prepare`: brings a database to where the web and worker processes can start. Safe to repeat."""

import json
from argparse import ArgumentParser
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from psycopg import sql

from tenants import alarms, logins, roles, seals
from tenants.database import connection
from tenants.errors import Refused
from tenants.keys.keyring import provider
from tenants.keys.providers import KeyUnavailable
from tenants.models import Alarm, Tenant, User
from tenants.provisioning import missing_keys


class Command(BaseCommand):
    help = (
        "Creates logins, database and extension (when DATABASE_URL carries an administrator's credentials), migrates the "
        "public schema as the operator, and refuses to go on with a keystore that does not belong to the data."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        user, password = settings.DATABASE_ADMINISTRATOR
        if user:
            self._administer(user, password)
        try:
            self._check_keystore()
            call_command("migrate_schemas", shared=True, verbosity=0, stdout=self.stderr)
            logins.sync(connection)
            self._seal()
        except (Refused, KeyUnavailable) as refusal:
            raise CommandError(f"{refusal} Nothing has been migrated.") from None
        if options["json"]:
            self.stdout.write(json.dumps({"prepared": True, "workspaces": Tenant.objects.count()}))

    def _administer(self, user: str, password: str) -> None:
        login = connection.settings_dict
        place: dict[str, Any] = {"host": login["HOST"] or None, "port": login["PORT"] or None, **settings.DATABASE_OPTIONS}

        def admin(database: str) -> psycopg.Connection:
            return psycopg.connect(dbname=database, user=user, password=password, autocommit=True, **place)

        try:
            with admin("postgres") as cluster:
                roles.prepare_cluster(cluster, settings.DATABASE_PASSWORDS)
                roles.create_database(cluster, settings.DATABASE_NAME)
                cluster.execute(
                    sql.SQL("ALTER DATABASE {} OWNER TO {}").format(
                        sql.Identifier(settings.DATABASE_NAME), sql.Identifier(roles.login_name("operator"))
                    )
                )
            with admin(settings.DATABASE_NAME) as database:
                roles.prepare_database(database)
        except psycopg.OperationalError as error:
            raise CommandError(f"DATABASE_URL: the administrator {user} cannot connect: {error}") from None
        except psycopg.errors.InsufficientPrivilege as error:
            raise CommandError(f"DATABASE_URL: {user} is no administrator (superuser): {error}") from None

    def _seal(self) -> None:
        """The rows of an installation from before there were seals are sealed once, as they are."""
        connection.set_schema_to_public()
        seals.begin(connection.alias)
        if seals.is_old(connection.alias):
            alarms.raise_alarm(Alarm.Kind.OLD_DATABASE, seals.OLD)
            self.stderr.write(
                "The database is older than its witness: run `manage.py accept_restore` if you restored a backup."
            )

    def _check_keystore(self) -> None:
        """A keystore is made for an empty installation only: for data that exists it must be the one it was made with."""
        if not _has_data():
            provider().create_installation_key()
            return
        provider().installation_key()
        if missing := missing_keys():
            names = ", ".join(tenant.slug for tenant in missing[:5])
            raise Refused(
                f"The keystore {settings.KEYS_DIR} lacks the keys of {len(missing)} workspaces ({names}): restore it from "
                "its backup."
            )


def _has_data() -> bool:
    """Whether this database has been used: then its keystore exists somewhere, and a new one would not fit."""
    if Tenant._meta.db_table not in connection.introspection.table_names():
        return False
    return Tenant.objects.exists() or User.objects.exists()

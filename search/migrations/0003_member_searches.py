from django.db import migrations, models

import search.models
import tenants.fields


class Migration(migrations.Migration):
    dependencies = [("search", "0002_indexes")]

    operations = [
        migrations.CreateModel(
            name="MemberSearches",
            fields=[
                ("membership_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("saved", tenants.fields.EncryptedJSONField(default=list)),
                ("history", tenants.fields.EncryptedJSONField(default=search.models.empty_history)),
            ],
            options={"verbose_name_plural": "member searches"},
        ),
    ]

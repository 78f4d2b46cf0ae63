import django.db.models.functions.datetime
import django.utils.timezone
from django.db import migrations, models

import tenants.fields


class Migration(migrations.Migration):
    dependencies = [("search", "0001_initial")]

    operations = [
        migrations.CreateModel(
            name="SealedVectors",
            fields=[
                ("document_id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("passages", models.IntegerField()),
                ("payload", tenants.fields.EncryptedBinaryField(purpose="vector")),
            ],
            options={"verbose_name_plural": "sealed vectors", "db_table": "search_sealedvectors"},
        ),
        migrations.RunSQL(
            "ALTER TABLE search_sealedvectors ALTER COLUMN payload SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
        migrations.AlterModelOptions(name="vectorindex", options={"verbose_name_plural": "vector indexes"}),
        migrations.AddField(model_name="vectorindex", name="total", field=models.IntegerField(db_default=0, default=0)),
        migrations.AddField(model_name="vectorindex", name="done", field=models.IntegerField(db_default=0, default=0)),
        migrations.AddField(model_name="vectorindex", name="recall", field=models.FloatField(null=True)),
        migrations.AddField(
            model_name="vectorindex", name="detail", field=models.CharField(db_default="", default="", max_length=200)
        ),
        migrations.AddField(model_name="vectorindex", name="attempts", field=models.IntegerField(db_default=0, default=0)),
        migrations.AddField(model_name="vectorindex", name="created_by_id", field=models.BigIntegerField(null=True)),
        migrations.AddField(
            model_name="vectorindex",
            name="created_at",
            field=models.DateTimeField(
                db_default=django.db.models.functions.datetime.Now(), default=django.utils.timezone.now
            ),
        ),
        migrations.AddField(model_name="vectorindex", name="finished_at", field=models.DateTimeField(null=True)),
        migrations.AlterField(
            model_name="vectorindex",
            name="protection",
            field=models.CharField(
                choices=[("open", "Open"), ("cloaked", "Cloaked"), ("sealed", "Sealed")], max_length=20
            ),
        ),
        migrations.AlterField(
            model_name="vectorindex",
            name="state",
            field=models.CharField(
                choices=[
                    ("building", "Being built"),
                    ("live", "In use"),
                    ("standby", "Kept to go back to"),
                    ("retiring", "Being removed"),
                    ("retired", "Removed"),
                    ("failed", "Failed"),
                ],
                max_length=20,
            ),
        ),
        migrations.AddConstraint(
            model_name="vectorindex",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "live")), fields=("state",), name="vectorindex_one_live"
            ),
        ),
        migrations.AddConstraint(
            model_name="vectorindex",
            constraint=models.UniqueConstraint(
                condition=models.Q(("state", "building")), fields=("model",), name="vectorindex_one_building"
            ),
        ),
    ]

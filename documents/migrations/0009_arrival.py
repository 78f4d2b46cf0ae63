import uuid

import django.contrib.postgres.fields
import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import tenants.fields


class Migration(migrations.Migration):

    dependencies = [
        ('documents', '0008_versions'),
    ]

    operations = [
        migrations.CreateModel(
            name='Arrival',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('created_by_id', models.BigIntegerField()),
                ('about', tenants.fields.EncryptedJSONField()),
                ('size', models.BigIntegerField()),
                ('received', models.BigIntegerField(default=0)),
                ('pieces', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=64), default=list, size=None)),
                ('touched_at', models.DateTimeField(default=django.utils.timezone.now)),
                ('collection', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='arrivals', to='documents.collection')),
            ],
        ),
        # An earlier version, which serves on during an upgrade, deletes collections without knowing of this table.
        migrations.RunSQL(
            'ALTER TABLE documents_arrival ADD CONSTRAINT arrival_collection FOREIGN KEY (collection_id) '
            'REFERENCES documents_collection (id) ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED',
            'ALTER TABLE documents_arrival DROP CONSTRAINT arrival_collection',
        ),
    ]

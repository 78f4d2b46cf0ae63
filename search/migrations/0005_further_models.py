import django.db.models.deletion
import tenants.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('search', '0004_facts'),
    ]

    operations = [
        migrations.AlterField(
            model_name='chunk',
            name='embedding',
            field=tenants.fields.EncryptedBinaryField(null=True, purpose='vector'),
        ),
        migrations.CreateModel(
            name='FurtherVector',
            fields=[
                ('id', models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ('model', models.CharField(max_length=100)),
                ('document_id', models.UUIDField(db_index=True)),
                ('embedding', tenants.fields.EncryptedBinaryField(purpose='vector')),
                ('chunk', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='search.chunk')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('chunk', 'model'), name='search_furthervector_once')],
            },
        ),
        # Ciphertext does not compress: PostgreSQL need not try.
        migrations.RunSQL(
            "ALTER TABLE search_furthervector ALTER COLUMN embedding SET STORAGE EXTERNAL", migrations.RunSQL.noop
        ),
    ]

import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.contrib.postgres.search
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Marina',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('country', models.CharField(max_length=2, verbose_name='country')),
            ],
            options={
                'verbose_name': 'marina',
                'verbose_name_plural': 'marinas',
                'ordering': ['name'],
                'constraints': [models.UniqueConstraint(models.F('name'), models.F('country'), name='marina_name_in_country_unique'), models.CheckConstraint(condition=models.Q(('country__regex', '^[A-Z]{2}$')), name='marina_country_is_a_code')],
            },
        ),
        migrations.CreateModel(
            name='Boat',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=200, verbose_name='name')),
                ('description', models.TextField(blank=True, verbose_name='description')),
                ('tags', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), blank=True, default=list, size=None)),
                ('equipment', models.JSONField(blank=True, default=dict, verbose_name='equipment')),
                ('berths', models.PositiveSmallIntegerField(default=2, verbose_name='berths')),
                ('price_per_day', models.DecimalField(decimal_places=2, max_digits=8, verbose_name='price per day')),
                ('search', django.contrib.postgres.search.SearchVectorField(editable=False, null=True)),
                ('marina', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='boats', to='catalogue.marina')),
            ],
            options={
                'verbose_name': 'boat',
                'verbose_name_plural': 'boats',
                'ordering': ['name'],
                'indexes': [django.contrib.postgres.indexes.GinIndex(fields=['tags'], name='boat_tags_gin'), django.contrib.postgres.indexes.GinIndex(fields=['search'], name='boat_search_gin'), django.contrib.postgres.indexes.GinIndex(fields=['equipment'], name='boat_equipment_gin', opclasses=['jsonb_path_ops'])],
                'constraints': [models.CheckConstraint(condition=models.Q(('price_per_day__gt', 0)), name='boat_price_positive')],
            },
        ),
    ]

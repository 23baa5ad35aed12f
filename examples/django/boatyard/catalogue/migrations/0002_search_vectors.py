from django.contrib.postgres.search import SearchVector
from django.db import migrations


def fill(apps, schema_editor):
    apps.get_model("catalogue", "Boat").objects.filter(search=None).update(
        search=SearchVector("name", weight="A", config="english")
        + SearchVector("description", weight="B", config="english")
    )


class Migration(migrations.Migration):
    dependencies = [("catalogue", "0001_initial")]

    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]

from django.db import IntegrityError, connection, transaction
from django.test import TestCase

from boatyard.catalogue.models import Boat
from boatyard.catalogue.tasks import refresh_search

from .factories import BoatFactory, MarinaFactory


class BoatTests(TestCase):
    def test_the_database_is_postgresql(self):
        self.assertEqual(connection.vendor, "postgresql")

    def test_full_text_search_ranks_the_name_first(self):
        described = BoatFactory(name="Albatross", description="A sister of the Swallow, for sailing")
        named = BoatFactory(name="Swallow", description="Two cabins")
        BoatFactory(name="Barge", description="Slow and wide")
        self.assertEqual(refresh_search(), 3)
        self.assertEqual(list(Boat.objects.search("swallows")), [named, described])
        self.assertEqual(list(Boat.objects.search("sail -barge")), [described])

    def test_tags_are_an_array(self):
        both = BoatFactory(tags=["family", "sail"])
        BoatFactory(tags=["motor"])
        self.assertEqual(list(Boat.objects.tagged("sail", "family")), [both])
        self.assertEqual(Boat.objects.filter(tags__overlap=["motor", "sail"]).count(), 2)
        self.assertEqual(Boat.objects.get(tags__len=1).tags, ["motor"])

    def test_equipment_is_json(self):
        boat = BoatFactory(equipment={"gps": True, "anchor": {"kg": 15}, "sails": ["genoa"]})
        BoatFactory(equipment={"gps": False})
        self.assertEqual(Boat.objects.get(equipment__anchor__kg__gte=10), boat)
        self.assertEqual(Boat.objects.get(equipment__contains={"gps": True}), boat)
        self.assertEqual(Boat.objects.filter(equipment__has_key="sails").count(), 1)

    def test_constraints(self):
        for break_it in (
            lambda: BoatFactory(price_per_day=0),
            lambda: MarinaFactory(country="hr"),
            lambda: [MarinaFactory(name="Split") for _ in range(2)],
        ):
            with self.assertRaises(IntegrityError), transaction.atomic():
                break_it()

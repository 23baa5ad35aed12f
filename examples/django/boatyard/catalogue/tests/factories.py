import factory

from boatyard.catalogue.models import Boat, Marina


class MarinaFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Marina

    name = factory.Sequence(lambda n: f"Marina {n}")
    country = "HR"


class BoatFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Boat

    marina = factory.SubFactory(MarinaFactory)
    name = factory.Sequence(lambda n: f"Boat {n}")
    price_per_day = "120.00"

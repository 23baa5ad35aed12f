from datetime import date

import factory

from boatyard.bookings.models import Booking
from boatyard.catalogue.tests.factories import BoatFactory
from boatyard.users.tests.factories import UserFactory


class BookingFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Booking

    boat = factory.SubFactory(BoatFactory)
    customer = factory.SubFactory(UserFactory)
    days = (date(2030, 7, 1), date(2030, 7, 8))

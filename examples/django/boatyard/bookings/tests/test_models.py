from datetime import date, timedelta

from django.core import mail
from django.db import IntegrityError, transaction
from django.test import TestCase
from django.utils import timezone, translation

from boatyard.bookings.models import Booking
from boatyard.bookings.tasks import drop_stale_requests, send_confirmation

from .factories import BookingFactory


class BookingTests(TestCase):
    def test_a_boat_is_booked_once_a_day(self):
        first = BookingFactory()
        with self.assertRaises(IntegrityError), transaction.atomic():
            BookingFactory(boat=first.boat, days=(date(2030, 7, 7), date(2030, 7, 9)))
        # the day of departure is free again, and other boats are not concerned
        BookingFactory(boat=first.boat, days=(date(2030, 7, 8), date(2030, 7, 9)))
        BookingFactory()

    def test_a_cancelled_booking_is_no_obstacle(self):
        first = BookingFactory(status=Booking.Status.CANCELLED)
        BookingFactory(boat=first.boat)

    def test_no_empty_booking(self):
        with self.assertRaises(IntegrityError), transaction.atomic():
            BookingFactory(days=(date(2030, 7, 1), date(2030, 7, 1)))

    def test_price(self):
        booking = BookingFactory()
        booking.refresh_from_db()
        self.assertEqual(booking.length, 7)
        self.assertEqual(booking.price, 840)

    def test_stale_requests_are_dropped(self):
        stale, fresh = BookingFactory(), BookingFactory()
        Booking.objects.filter(pk=stale.pk).update(created_at=timezone.now() - timedelta(days=4))
        self.assertEqual(drop_stale_requests(), 1)
        stale.refresh_from_db()
        fresh.refresh_from_db()
        self.assertEqual((stale.status, fresh.status), ("cancelled", "requested"))

    def test_confirmation_mail(self):
        booking = BookingFactory(boat__name="Swallow", customer__email="anna@example.com")
        self.assertEqual(send_confirmation.delay(booking.pk).get(), 1)
        self.assertEqual(mail.outbox[0].to, ["anna@example.com"])
        self.assertIn("840.00 EUR", mail.outbox[0].body)

    def test_confirmation_mail_in_german(self):
        booking = BookingFactory(boat__name="Swallow")
        with translation.override("de"):
            send_confirmation(booking.pk)
        self.assertIn("Swallow", mail.outbox[0].subject)

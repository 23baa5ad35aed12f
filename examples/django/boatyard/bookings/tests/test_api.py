from django.core import mail
from django.urls import reverse
from rest_framework.test import APITestCase

from boatyard.catalogue.tests.factories import BoatFactory
from boatyard.users.tests.factories import UserFactory

from .factories import BookingFactory


class BookingApiTests(APITestCase):
    def setUp(self):
        self.user = UserFactory()
        self.client.force_authenticate(self.user)

    def book(self, boat, first, last):
        return self.client.post(
            reverse("api:booking-list"), {"boat": boat.pk, "first_day": first, "last_day": last}
        )

    def test_book(self):
        boat = BoatFactory()
        answer = self.book(boat, "2030-07-01", "2030-07-07")
        self.assertEqual(answer.status_code, 201, answer.content)
        self.assertEqual((answer.json()["length"], answer.json()["price"]), (7, "840.00"))
        answer = self.book(boat, "2030-07-07", "2030-07-07")
        self.assertEqual(answer.status_code, 400)
        self.assertContains(answer, "taken", status_code=400)

    def test_days_in_order(self):
        answer = self.book(BoatFactory(), "2030-07-07", "2030-07-01")
        self.assertEqual(answer.status_code, 400)
        self.assertIn("last_day", answer.json())

    def test_sees_only_own_bookings(self):
        own = BookingFactory(customer=self.user)
        BookingFactory()
        results = self.client.get(reverse("api:booking-list")).json()["results"]
        self.assertEqual([booking["id"] for booking in results], [own.pk])

    def test_staff_confirms_and_mail_goes_out(self):
        booking = BookingFactory()
        url = reverse("api:booking-confirm", args=[booking.pk])
        self.assertEqual(self.client.post(url).status_code, 403)
        self.client.force_authenticate(UserFactory(is_staff=True))
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual(self.client.post(url).json()["status"], "confirmed")
        self.assertEqual([message.to for message in mail.outbox], [[booking.customer.email]])
        self.assertEqual(self.client.post(url).status_code, 409)

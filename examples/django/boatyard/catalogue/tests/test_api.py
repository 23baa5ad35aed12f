from django.urls import reverse
from rest_framework.test import APITestCase

from boatyard.catalogue.models import Boat
from boatyard.catalogue.tasks import refresh_search
from boatyard.users.models import User

from .factories import BoatFactory, MarinaFactory


class BoatApiTests(APITestCase):
    def names(self, **query):
        answer = self.client.get(reverse("api:boat-list"), query)
        self.assertEqual(answer.status_code, 200)
        return [boat["name"] for boat in answer.json()["results"]]

    def test_filters(self):
        BoatFactory(name="Swallow", berths=6, tags=["sail", "family"])
        BoatFactory(name="Amazon", berths=2, tags=["sail"])
        refresh_search()
        self.assertEqual(self.names(), ["Amazon", "Swallow"])
        self.assertEqual(self.names(tag="sail,family"), ["Swallow"])
        self.assertEqual(self.names(min_berths=3), ["Swallow"])
        self.assertEqual(self.names(q="amazon"), ["Amazon"])

    def test_only_who_may_adds(self):
        boat = {"marina": MarinaFactory().pk, "name": "Teal", "price_per_day": "80",
                "tags": [" Sail", "sail"]}
        self.assertEqual(self.client.post(reverse("api:boat-list"), boat).status_code, 401)
        self.client.force_authenticate(User.objects.create_superuser("root@example.com"))
        with self.captureOnCommitCallbacks(execute=True):
            answer = self.client.post(reverse("api:boat-list"), boat, format="json")
        self.assertEqual(answer.status_code, 201, answer.content)
        self.assertEqual(answer.json()["tags"], ["sail"])
        # the task ran after the commit
        self.assertEqual(Boat.objects.search("teal").count(), 1)

    def test_schema(self):
        answer = self.client.get(reverse("api-schema"))
        self.assertEqual(answer.status_code, 200)
        self.assertContains(answer, "/api/boats/{id}/")

    def test_health(self):
        self.assertEqual(self.client.get("/health/").json(), {"status": "ok"})

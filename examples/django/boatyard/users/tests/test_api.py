from django.urls import reverse
from rest_framework.test import APITestCase

from .factories import UserFactory


class UserApiTests(APITestCase):
    def setUp(self):
        self.user = UserFactory()
        UserFactory()

    def test_nobody(self):
        self.assertEqual(self.client.get(reverse("api:user-list")).status_code, 401)

    def test_sees_only_oneself(self):
        self.client.force_authenticate(self.user)
        results = self.client.get(reverse("api:user-list")).json()["results"]
        self.assertEqual([user["id"] for user in results], [self.user.pk])
        self.assertEqual(self.client.get(reverse("api:user-me")).json()["email"], self.user.email)

    def test_token(self):
        answer = self.client.post(
            reverse("auth-token"), {"username": self.user.email, "password": "correct horse"}
        )
        self.assertEqual(answer.status_code, 200)
        self.client.credentials(HTTP_AUTHORIZATION=f"Token {answer.json()['token']}")
        self.assertEqual(self.client.get(reverse("api:user-me")).status_code, 200)

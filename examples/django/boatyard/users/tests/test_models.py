from django.db import IntegrityError, transaction
from django.test import TestCase

from boatyard.users.models import User

from .factories import UserFactory


class UserTests(TestCase):
    def test_email_is_the_name_to_log_in_with(self):
        user = User.objects.create_user("anna@example.com", "correct horse")
        self.assertTrue(user.check_password("correct horse"))
        self.assertFalse(user.is_staff)
        self.assertTrue(self.client.login(username="ANNA@example.com", password="correct horse"))

    def test_email_is_unique_in_any_case(self):
        UserFactory(email="anna@example.com")
        with self.assertRaises(IntegrityError), transaction.atomic():
            UserFactory(email="Anna@example.com")

    def test_superuser(self):
        user = User.objects.create_superuser("root@example.com", "correct horse")
        self.assertTrue(user.is_staff and user.is_superuser)

    def test_email_is_needed(self):
        with self.assertRaises(ValueError):
            User.objects.create_user("")

    def test_names(self):
        user = UserFactory(name="Anna Maria Schmidt")
        self.assertEqual(str(user), "Anna Maria Schmidt")
        self.assertEqual(user.get_short_name(), "Anna")

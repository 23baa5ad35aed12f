import factory

from boatyard.users.models import User


class UserFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"sailor{n}@example.com")
    name = factory.Faker("name")
    password = factory.django.Password("correct horse")

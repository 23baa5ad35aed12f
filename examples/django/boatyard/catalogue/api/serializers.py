from rest_framework import serializers

from boatyard.catalogue.models import Boat, Marina


class MarinaSerializer(serializers.ModelSerializer):
    class Meta:
        model = Marina
        fields = ["id", "name", "country"]


class BoatSerializer(serializers.ModelSerializer):
    class Meta:
        model = Boat
        fields = [
            "id", "marina", "name", "description", "tags", "equipment", "berths", "price_per_day",
        ]

    def validate_tags(self, tags):
        return sorted({tag.strip().lower() for tag in tags if tag.strip()})

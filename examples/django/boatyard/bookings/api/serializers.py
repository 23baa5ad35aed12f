from datetime import timedelta

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from boatyard.bookings.models import Booking


class BookingSerializer(serializers.ModelSerializer):
    first_day = serializers.DateField(source="days.lower")
    last_day = serializers.DateField(write_only=True)
    price = serializers.DecimalField(max_digits=10, decimal_places=2, read_only=True)
    status = serializers.CharField(read_only=True)

    class Meta:
        model = Booking
        fields = ["id", "boat", "first_day", "last_day", "status", "length", "price"]

    def validate(self, data):
        first, last = data.pop("days")["lower"], data.pop("last_day")
        if last < first:
            raise serializers.ValidationError({"last_day": _("The last day is before the first.")})
        data["days"] = (first, last + timedelta(days=1))
        if (
            Booking.objects.filter(boat=data["boat"], days__overlap=data["days"])
            .exclude(status=Booking.Status.CANCELLED)
            .exists()
        ):
            raise serializers.ValidationError(_("The boat is taken on some of these days."))
        return data

    def create(self, data):
        booking = super().create(data)
        booking.refresh_from_db()
        return booking

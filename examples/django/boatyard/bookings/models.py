from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import DateRangeField, RangeOperators
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Booking(models.Model):
    class Status(models.TextChoices):
        REQUESTED = "requested", _("requested")
        CONFIRMED = "confirmed", _("confirmed")
        CANCELLED = "cancelled", _("cancelled")

    boat = models.ForeignKey("catalogue.Boat", on_delete=models.PROTECT, related_name="bookings")
    customer = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="bookings"
    )
    days = DateRangeField(_("days"))
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.REQUESTED
    )
    created_at = models.DateTimeField(_("created at"), auto_now_add=True)

    class Meta:
        ordering = ["days", "pk"]
        verbose_name = _("booking")
        verbose_name_plural = _("bookings")
        constraints = [
            # two customers never have the same boat on the same day
            ExclusionConstraint(
                name="booking_days_do_not_overlap",
                expressions=[
                    ("days", RangeOperators.OVERLAPS),
                    ("boat", RangeOperators.EQUAL),
                ],
                condition=~Q(status="cancelled"),
            ),
            models.CheckConstraint(
                condition=Q(days__isempty=False), name="booking_has_at_least_a_day"
            ),
        ]

    def __str__(self):
        return f"{self.boat}: {self.days.lower} to {self.days.upper}"

    @property
    def length(self) -> int:
        return (self.days.upper - self.days.lower).days

    @property
    def price(self):
        return self.boat.price_per_day * self.length

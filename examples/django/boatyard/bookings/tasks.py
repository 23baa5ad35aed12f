from datetime import timedelta

from celery import shared_task
from django.core.mail import send_mail
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _

from .models import Booking


@shared_task(autoretry_for=(OSError,), retry_backoff=True, max_retries=5)
def send_confirmation(booking_id):
    booking = Booking.objects.select_related("boat", "customer").get(pk=booking_id)
    return send_mail(
        subject=_("Your booking of %(boat)s") % {"boat": booking.boat},
        message=render_to_string("bookings/confirmation.txt", {"booking": booking}),
        from_email=None,
        recipient_list=[booking.customer.email],
    )


@shared_task
def drop_stale_requests(days=3):
    """Cancels requests that nobody confirmed; their number."""
    limit = timezone.now() - timedelta(days=days)
    stale = Booking.objects.filter(status=Booking.Status.REQUESTED, created_at__lt=limit)
    return stale.update(status=Booking.Status.CANCELLED)

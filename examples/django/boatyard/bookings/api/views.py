from django.db import transaction
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.mixins import CreateModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.permissions import IsAdminUser, IsAuthenticated
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from boatyard.bookings.models import Booking
from boatyard.bookings.tasks import send_confirmation

from .serializers import BookingSerializer


class BookingViewSet(CreateModelMixin, ListModelMixin, RetrieveModelMixin, GenericViewSet):
    serializer_class = BookingSerializer
    permission_classes = [IsAuthenticated]
    queryset = Booking.objects.none()

    def get_queryset(self):
        bookings = Booking.objects.select_related("boat")
        if self.request.user.is_staff:
            return bookings
        return bookings.filter(customer=self.request.user)

    def perform_create(self, serializer):
        serializer.save(customer=self.request.user)

    @action(detail=True, methods=["post"], permission_classes=[IsAdminUser])
    def confirm(self, request, pk=None):
        booking = self.get_object()
        if booking.status != Booking.Status.REQUESTED:
            return Response({"status": booking.status}, status=status.HTTP_409_CONFLICT)
        booking.status = Booking.Status.CONFIRMED
        booking.save(update_fields=["status"])
        transaction.on_commit(lambda: send_confirmation.delay(booking.pk))
        return Response(self.get_serializer(booking).data)

from django.db import transaction
from django_filters import rest_framework as filters
from rest_framework.permissions import DjangoModelPermissionsOrAnonReadOnly
from rest_framework.viewsets import ModelViewSet

from boatyard.catalogue.models import Boat, Marina
from boatyard.catalogue.tasks import refresh_search

from .serializers import BoatSerializer, MarinaSerializer


class BoatFilter(filters.FilterSet):
    q = filters.CharFilter(method="by_text")
    tag = filters.CharFilter(method="by_tag")
    min_berths = filters.NumberFilter(field_name="berths", lookup_expr="gte")

    class Meta:
        model = Boat
        fields = ["marina"]

    def by_text(self, queryset, name, value):
        return queryset.search(value)

    def by_tag(self, queryset, name, value):
        return queryset.tagged(*[tag.strip().lower() for tag in value.split(",")])


class MarinaViewSet(ModelViewSet):
    queryset = Marina.objects.all()
    serializer_class = MarinaSerializer
    permission_classes = [DjangoModelPermissionsOrAnonReadOnly]


class BoatViewSet(ModelViewSet):
    queryset = Boat.objects.select_related("marina")
    serializer_class = BoatSerializer
    permission_classes = [DjangoModelPermissionsOrAnonReadOnly]
    filterset_class = BoatFilter

    def perform_create(self, serializer):
        boat = serializer.save()
        transaction.on_commit(lambda: refresh_search.delay([boat.pk]))

    def perform_update(self, serializer):
        boat = serializer.save()
        transaction.on_commit(lambda: refresh_search.delay([boat.pk]))

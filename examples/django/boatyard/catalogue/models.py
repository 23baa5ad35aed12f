from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector, SearchVectorField
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


class Marina(models.Model):
    name = models.CharField(_("name"), max_length=200)
    country = models.CharField(_("country"), max_length=2)

    class Meta:
        ordering = ["name"]
        verbose_name = _("marina")
        verbose_name_plural = _("marinas")
        constraints = [
            models.UniqueConstraint("name", "country", name="marina_name_in_country_unique"),
            models.CheckConstraint(
                condition=Q(country__regex=r"^[A-Z]{2}$"), name="marina_country_is_a_code"
            ),
        ]

    def __str__(self):
        return f"{self.name} ({self.country})"


class BoatQuerySet(models.QuerySet):
    def search(self, text):
        query = SearchQuery(text, config="english", search_type="websearch")
        return (
            self.filter(search=query)
            .annotate(rank=SearchRank(F("search"), query))
            .order_by("-rank", "name")
        )

    def tagged(self, *tags):
        return self.filter(tags__contains=list(tags))

    def update_search(self):
        return self.update(
            search=SearchVector("name", weight="A", config="english")
            + SearchVector("description", weight="B", config="english")
        )


class Boat(models.Model):
    marina = models.ForeignKey(Marina, on_delete=models.PROTECT, related_name="boats")
    name = models.CharField(_("name"), max_length=200)
    description = models.TextField(_("description"), blank=True)
    tags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    equipment = models.JSONField(_("equipment"), default=dict, blank=True)
    berths = models.PositiveSmallIntegerField(_("berths"), default=2)
    price_per_day = models.DecimalField(_("price per day"), max_digits=8, decimal_places=2)
    search = SearchVectorField(null=True, editable=False)

    objects = BoatQuerySet.as_manager()

    class Meta:
        ordering = ["name"]
        verbose_name = _("boat")
        verbose_name_plural = _("boats")
        indexes = [
            GinIndex(fields=["tags"], name="boat_tags_gin"),
            GinIndex(fields=["search"], name="boat_search_gin"),
            GinIndex(fields=["equipment"], name="boat_equipment_gin", opclasses=["jsonb_path_ops"]),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(price_per_day__gt=0), name="boat_price_positive"),
        ]

    def __str__(self):
        return self.name

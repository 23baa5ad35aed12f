from django.contrib import admin

from .models import Boat, Marina


@admin.register(Marina)
class MarinaAdmin(admin.ModelAdmin):
    list_display = ["name", "country"]
    search_fields = ["name"]


@admin.register(Boat)
class BoatAdmin(admin.ModelAdmin):
    list_display = ["name", "marina", "berths", "price_per_day"]
    list_filter = ["marina"]
    search_fields = ["name", "description"]

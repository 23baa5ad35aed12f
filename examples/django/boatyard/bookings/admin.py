from django.contrib import admin

from .models import Booking


@admin.register(Booking)
class BookingAdmin(admin.ModelAdmin):
    list_display = ["boat", "customer", "days", "status"]
    list_filter = ["status"]
    date_hierarchy = "created_at"

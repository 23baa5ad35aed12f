from celery import shared_task

from .models import Boat


@shared_task
def refresh_search(boat_ids=None):
    """Computes the search vectors again; the number of boats."""
    boats = Boat.objects.all()
    if boat_ids is not None:
        boats = boats.filter(pk__in=boat_ids)
    return boats.update_search()

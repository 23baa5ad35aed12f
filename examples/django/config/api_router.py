from rest_framework.routers import DefaultRouter

from boatyard.bookings.api.views import BookingViewSet
from boatyard.catalogue.api.views import BoatViewSet, MarinaViewSet
from boatyard.users.api.views import UserViewSet

router = DefaultRouter()
router.register("users", UserViewSet)
router.register("marinas", MarinaViewSet)
router.register("boats", BoatViewSet)
router.register("bookings", BookingViewSet, basename="booking")

app_name = "api"
urlpatterns = router.urls

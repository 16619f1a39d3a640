"""Django over WSGI, in a single file."""

from __future__ import annotations

from django.conf import settings  # type: ignore[import-untyped]
from django.core.wsgi import get_wsgi_application  # type: ignore[import-untyped]
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse  # type: ignore[import-untyped]
from django.urls import path  # type: ignore[import-untyped]

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
    MIDDLEWARE=[],
    LOGGING_CONFIG=None,
)


def facts(request: HttpRequest) -> JsonResponse:
    """Tell what a request looks like from here."""
    return JsonResponse({"path": request.path, "method": request.method, "query": request.GET})


def form(request: HttpRequest) -> JsonResponse:
    """Echo a form and the size of an uploaded file."""
    sizes = {name: file.size for name, file in request.FILES.items()}
    return JsonResponse({"form": request.POST.dict(), "files": sizes})


def stream(_request: HttpRequest) -> StreamingHttpResponse:
    """Send a hundred lines."""
    return StreamingHttpResponse(f"line {number}\n" for number in range(100))


urlpatterns = [path("facts", facts), path("form", form), path("stream", stream)]

application = get_wsgi_application()

"""What scripts of ours are answered where people get a page: refusals as JSON. Knows no screen."""

from collections.abc import Iterable

from django.http import HttpRequest, JsonResponse


def wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept", "").startswith("application/json")


def as_json(refused: Iterable[tuple[str, str]], status: int, **more: object) -> JsonResponse:
    """`errors` lists what was refused: its name, empty where it is the request as a whole, and the sentence for the person."""
    errors = [{"name": name, "message": message} for name, message in refused]
    return JsonResponse({**more, "errors": errors}, status=status)

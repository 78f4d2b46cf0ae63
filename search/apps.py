from django.apps import AppConfig


class SearchConfig(AppConfig):
    name = "search"
    verbose_name = "Search"

    def ready(self) -> None:
        from search.evaluation import jobs  # noqa: F401  # registers the task and the sweeper for unfinished runs

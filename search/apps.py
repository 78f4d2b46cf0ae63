from django.apps import AppConfig


class SearchConfig(AppConfig):
    name = "search"
    verbose_name = "Search"

    def ready(self) -> None:
        from search import building, memory, own_searches  # noqa: F401 - they register their tasks and sweepers
        from search.evaluation import jobs  # noqa: F401  # registers the task and the sweeper for unfinished runs

        memory.connect()

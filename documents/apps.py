from django.apps import AppConfig


class DocumentsConfig(AppConfig):
    name = "documents"
    verbose_name = "Documents"

    def ready(self) -> None:
        from documents import figures, jobs, sources

        figures.connect()
        jobs.connect()
        sources.connect()

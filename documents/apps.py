from django.apps import AppConfig


class DocumentsConfig(AppConfig):
    name = "documents"
    verbose_name = "Documents"

    def ready(self) -> None:
        from documents import figures, jobs, rekeying, sources

        figures.connect()
        jobs.connect()
        rekeying.connect()
        sources.connect()

"""The staff console's pages. Nothing here reads a tenant schema: no content is visible (tenants/stats.py has figures)."""

from tenants.admin import isolation, people, workspaces

__all__ = ["isolation", "people", "workspaces"]

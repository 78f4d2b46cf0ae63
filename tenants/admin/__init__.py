"""The staff console's pages. Nothing here reads a tenant schema: no content is visible (tenants/stats.py has figures)."""

from tenants.admin import alarms, isolation, people, receipts, workspaces

__all__ = ["alarms", "isolation", "people", "receipts", "workspaces"]

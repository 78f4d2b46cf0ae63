"""Whose it is: workspaces, people and what joins them. All of it lives in the public schema."""

from tenants.models.access import MINUTES, Invitation, Membership, StaffAccess, invitation_expiry
from tenants.models.checks import IsolationCheck
from tenants.models.people import OutgoingMail, Person, Session, User, UserManager, mail_id
from tenants.models.workspaces import SLUG, Domain, Tenant, TenantKey, WorkspaceStats

__all__ = [
    "MINUTES",
    "SLUG",
    "Domain",
    "Invitation",
    "IsolationCheck",
    "Membership",
    "OutgoingMail",
    "Person",
    "Session",
    "StaffAccess",
    "Tenant",
    "TenantKey",
    "User",
    "UserManager",
    "WorkspaceStats",
    "invitation_expiry",
    "mail_id",
]

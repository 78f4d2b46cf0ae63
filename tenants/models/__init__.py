"""Whose it is: workspaces, people and what joins them. All of it lives in the public schema."""

from tenants.models.access import MINUTES, Invitation, Library, Membership, StaffAccess, Subscription, invitation_expiry
from tenants.models.checks import IsolationCheck, PlaintextCheck
from tenants.models.keys import Freeze, FreezeAnswer, KeyRotation, Process, TenantKey
from tenants.models.people import OutgoingMail, Person, Session, User, UserManager, mail_id
from tenants.models.proofs import Alarm, AuditOutbox, Receipt
from tenants.models.workspaces import SLUG, Domain, Tenant, WorkspaceStats

__all__ = [
    "MINUTES",
    "SLUG",
    "Alarm",
    "AuditOutbox",
    "Domain",
    "Freeze",
    "FreezeAnswer",
    "Invitation",
    "IsolationCheck",
    "KeyRotation",
    "Library",
    "Membership",
    "OutgoingMail",
    "Person",
    "PlaintextCheck",
    "Process",
    "Receipt",
    "Session",
    "StaffAccess",
    "Subscription",
    "Tenant",
    "TenantKey",
    "User",
    "UserManager",
    "WorkspaceStats",
    "invitation_expiry",
    "mail_id",
]

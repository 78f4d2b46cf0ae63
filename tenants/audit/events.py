"""The kinds of events a workspace's log knows: a closed set. The value is stored and exported, the label is read."""

from django.db import models


class Event(models.TextChoices):
    SIGNED_IN = "person.signed-in", "Signed in"
    # members
    INVITED = "member.invited", "Invited somebody"
    INVITATION_WITHDRAWN = "member.invitation-withdrawn", "Withdrew an invitation"
    JOINED = "member.joined", "Joined"
    ROLE_CHANGED = "member.role", "Changed a role"
    HANDED_OVER = "member.handed-over", "Handed the workspace over"
    REMOVED = "member.removed", "Removed a member"
    LEFT = "member.left", "Left"
    # documents
    UPLOADED = "document.uploaded", "Uploaded a document"
    OPENED = "document.opened", "Opened a document"
    DOWNLOADED = "document.downloaded", "Downloaded a document"
    TRASHED = "document.trashed", "Moved a document to the trash"
    RESTORED = "document.restored", "Took a document out of the trash"
    ERASED = "document.erased", "Erased a document"
    RETRIED = "document.retried", "Queued documents again"
    CANCELLED = "document.cancelled", "Cancelled the work on documents"
    QUEUE_PAUSED = "queue.paused", "Paused the work on documents"
    QUEUE_RESUMED = "queue.resumed", "Resumed the work on documents"
    DESCRIBED = "document.described", "Changed metadata of documents"
    COLLECTION_CREATED = "collection.created", "Made a collection"
    COLLECTION_RENAMED = "collection.renamed", "Renamed a collection"
    COLLECTION_DELETED = "collection.deleted", "Deleted a collection"
    COLLECTION_ACCESS = "collection.access", "Changed who sees a collection"
    TAKEN_AWAY = "document.exported", "Exported every document"
    FIELDS = "collection.fields", "Changed the fields of a collection"
    # search and evaluation
    SEARCHED = "search.searched", "Searched"
    SHARED = "search.shared", "Shared a search"
    JUDGMENTS_UPLOADED = "evaluation.judgments", "Uploaded judgments"
    JUDGMENTS_DELETED = "evaluation.judgments-deleted", "Deleted judgments"
    RUN = "evaluation.run", "Started an evaluation"
    EXPORTED = "evaluation.exported", "Exported an evaluation"
    # the workspace
    CREATED = "workspace.created", "Created the workspace"
    RENAMED = "workspace.renamed", "Renamed the workspace"
    SECOND_FACTOR = "workspace.second-factor", "Changed whether a second factor is required"
    SUSPENDED = "workspace.suspended", "Suspended the workspace"
    RESUMED = "workspace.resumed", "Resumed the workspace"
    HELD = "workspace.held", "Put the workspace under legal hold"
    RELEASED = "workspace.released", "Released the legal hold"
    DELETION_SCHEDULED = "workspace.deletion-scheduled", "Scheduled the workspace's deletion"
    KEPT = "workspace.kept", "Called the deletion off"
    HOSTNAME = "workspace.hostname", "Changed the workspace's hostnames"
    QUOTA = "workspace.quota", "Changed the workspace's limits"
    INDEX_BEGUN = "index.begun", "Began to change how vectors are held"
    INDEX_CHANGED = "index.changed", "Changed how vectors are held"
    # keys
    ROTATION_BEGUN = "keys.rotation-begun", "Began to change the key"
    ROTATION_ENDED = "keys.rotation-ended", "Changed the key"
    REWRAPPED = "keys.rewrapped", "Wrapped the key anew"
    KEY_DESTROYED = "keys.destroyed", "Destroyed an old key"
    FROZEN = "keys.frozen", "Froze the keys"
    UNFREEZE_ASKED = "keys.unfreeze-asked", "Asked to unfreeze the keys"
    UNFROZEN = "keys.unfrozen", "Unfroze the keys"
    # others' access
    STAFF_ASKED = "staff.asked", "Staff asked to view"
    STAFF_CONSENTED = "staff.consented", "Let staff view"
    STAFF_REFUSED = "staff.refused", "Refused staff"
    STAFF_BEGAN = "staff.began", "Staff began to view"
    STAFF_ENDED = "staff.ended", "Staff's view ended"
    LIBRARY_MADE = "library.made", "Made the workspace a library"
    LIBRARY_UNDONE = "library.undone", "Made the library a workspace again"
    SUBSCRIBED = "library.subscribed", "Subscribed to a library"
    UNSUBSCRIBED = "library.unsubscribed", "Ended the subscription to a library"
    COMMAND = "access.command", "Used a command on the server"
    RESTORE_ACCEPTED = "access.restore-accepted", "Accepted a restored database"
    # proofs
    LOG_EXPORTED = "proof.log-exported", "Exported this log"
    PLAINTEXT_AUDITED = "proof.plaintext", "Looked for plaintext"
    ISOLATION_CHECKED = "proof.isolation", "Tested the isolation"
    ALARM = "proof.alarm", "Raised an alarm"


def label_of(event: str) -> str:
    """Its words; of one that is not known here, what is stored."""
    return Event(event).label if event in Event.values else event

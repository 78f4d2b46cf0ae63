"""`manage.py search_memory`: the figures of the staff console's page of the same name."""

from typing import Any

from search import memory
from tenants.wording import size
from workspace.commands import Command as Base


class Command(Base):
    help = "Says what the web processes and workers keep decrypted in memory to search: ids and numbers, no content."

    def answer(self, **options: Any) -> dict[str, Any]:
        seen = memory.look()
        return {
            "processes": [_process(each) for each in seen.processes],
            "largest": [_large(each) for each in seen.largest],
        }

    def word(self, answer: dict[str, Any]) -> str:
        rows = [
            f"{each['process']}: {size(each['bytes'])} of {size(each['budget'])}, {each['workspaces']} workspaces, "
            f"{each['hits']} hits, {each['misses']} misses, {each['evictions']} evictions"
            for each in answer["processes"]
        ]
        return "\n".join(rows) or "No web process or worker is running."


def _process(each: memory.ProcessMemory) -> dict[str, Any]:
    process, pool = each.process, each.pool
    return {
        "process": str(process),
        "kind": process.kind,
        "host": process.host,
        "pid": process.pid,
        "seen_at": process.seen_at,
        "budget": pool.budget,
        "bytes": pool.nbytes,
        "highest_bytes": pool.highest_nbytes,
        "workspaces": each.workspaces,
        "hits": pool.hits,
        "misses": pool.misses,
        "hit_rate": pool.hit_rate,
        "loads": pool.loads,
        "updates": pool.updates,
        "evictions": pool.evictions,
        "expirations": pool.expirations,
        "too_large": pool.too_large,
    }


def _large(each: memory.Large) -> dict[str, Any]:
    return {
        "workspace": each.workspace.slug if each.workspace else None,
        "id": each.held.tenant_id,
        "process": str(each.process),
        "part": each.held.part,
        "bytes": each.held.nbytes,
        "generation": each.held.generation,
        "idle_seconds": round(each.held.idle, 1),
    }
